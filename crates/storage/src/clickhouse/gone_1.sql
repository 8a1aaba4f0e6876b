-- What is no longer kept: of a level (0 for calls, else the width of sums in seconds), all days up
-- to this one, in days since 1970. Written before the partitions go, so that a removal that was
-- cut short is finished later and never seen by a question.

CREATE TABLE IF NOT EXISTS $everywhere(gone) $on_cluster
(
    level UInt32,
    day   UInt32,
    noted DateTime64(9, 'UTC') DEFAULT now64(9)
)
ENGINE = $merge_tree_everywhere(gone, MergeTree)
ORDER BY (level, day)
SETTINGS $durable;
