-- Calls as blocks of columns, in place of a row each: `block.rs`. A commit is an entry of the log;
-- when the log is long, its calls are put in order and sealed into blocks, and the sums with them.
-- Sums are of sealed blocks alone. Times are nanoseconds since 1970.

CREATE TABLE log (
    id          INTEGER PRIMARY KEY,
    rows        INTEGER NOT NULL,
    first_start INTEGER NOT NULL,
    last_start  INTEGER NOT NULL,
    first_end   INTEGER NOT NULL,
    last_end    INTEGER NOT NULL,
    -- All columns.
    body        BLOB NOT NULL
) STRICT;

CREATE TABLE block (
    id          INTEGER PRIMARY KEY,
    rows        INTEGER NOT NULL,
    first_start INTEGER NOT NULL,
    last_start  INTEGER NOT NULL,
    first_end   INTEGER NOT NULL,
    last_end    INTEGER NOT NULL
) STRICT;

-- One column of a block: number of the block times 256, plus number of the column.
CREATE TABLE part (
    id   INTEGER PRIMARY KEY,
    body BLOB NOT NULL
) STRICT;
