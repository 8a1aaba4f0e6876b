-- The sums of all series, or models, of a bucket are one row: `series_sum` and `model_sum` had a row
-- each, of which a third was empty pages. `sums/convert.rs` brings those over and drops them.

CREATE TABLE sum (
    -- Level, kind, bucket and part, as `sums.rs` packs them: in order of time within a level.
    id   INTEGER PRIMARY KEY,
    -- `sums/body.rs`.
    body BLOB NOT NULL
) STRICT;
