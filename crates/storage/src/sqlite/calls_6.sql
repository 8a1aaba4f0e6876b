-- Blocks that were sealed before there were sums by one thing alone. `sums/convert.rs` adds them up.

CREATE TABLE unsummed (
    -- Of `block`.
    id INTEGER PRIMARY KEY
) STRICT;

INSERT INTO unsummed SELECT id FROM block;
