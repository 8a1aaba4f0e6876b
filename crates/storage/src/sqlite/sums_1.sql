-- Sums of calls by the time in which they ended, made as calls are written. A level is a width of
-- buckets in seconds; a bucket is known by its number since 1970. A body is `tally/body.rs`.

-- The levels that are whole in this file; a level that was dropped is gone.
CREATE TABLE level (
    seconds INTEGER PRIMARY KEY
) STRICT;

-- What is told apart. Numbers into `text`, 0 where not known.
CREATE TABLE series (
    id        INTEGER PRIMARY KEY,
    service   INTEGER NOT NULL,
    workload  INTEGER NOT NULL,
    provider  INTEGER NOT NULL,
    -- As asked for, or else as answered.
    model     INTEGER NOT NULL,
    operation INTEGER NOT NULL,
    -- As in `call`.
    outcome   INTEGER NOT NULL,
    UNIQUE (service, workload, provider, model, operation, outcome)
) STRICT;

CREATE TABLE series_sum (
    level  INTEGER NOT NULL,
    bucket INTEGER NOT NULL,
    -- Of `series`.
    id     INTEGER NOT NULL,
    body   BLOB NOT NULL,
    PRIMARY KEY (level, bucket, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE model_sum (
    level  INTEGER NOT NULL,
    bucket INTEGER NOT NULL,
    -- Of `text`, 0 where no model is known.
    id     INTEGER NOT NULL,
    body   BLOB NOT NULL,
    PRIMARY KEY (level, bucket, id)
) STRICT, WITHOUT ROWID;
