-- What is wanted, who reports, and who may come in: a log of changes, of which each dashboard
-- keeps the outcome in memory. `sequence` has no gaps, and is the deduplication token of the
-- insertion too: of two dashboards that write at once ClickHouse lets one alone have the number,
-- under the lock of the table or in Keeper, and the other looks again (`control.rs`).

CREATE TABLE IF NOT EXISTS $everywhere(control_log) $on_cluster
(
    sequence UInt64,
    -- Which dashboard wrote it, and which of its attempts.
    writer   UInt64,
    attempt  UInt64,
    written  DateTime64(9, 'UTC') DEFAULT now64(9),
    -- True when the body is all rows rather than those that changed.
    snapshot Bool,
    -- JSON: rows by table.
    body     String CODEC(ZSTD(3))
)
ENGINE = $merge_tree_everywhere(control_log, MergeTree)
ORDER BY sequence
SETTINGS $durable;
