-- One day of model calls. `call` is narrow and in order of time, so that numbers over time read
-- few pages; texts that repeat are numbers into `text`; what only a single row shows is in `rest`.

CREATE TABLE text (
    id    INTEGER PRIMARY KEY,
    value TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE call (
    -- Start in nanoseconds since 1970, plus `moved` where that place was taken.
    at             INTEGER PRIMARY KEY,
    moved          INTEGER NOT NULL,
    trace_id       BLOB NOT NULL,
    span_id        BLOB NOT NULL,
    -- Nanoseconds; the call ended at start + duration.
    duration       INTEGER,
    first_chunk    INTEGER,
    first_token    INTEGER,
    -- 0 ok, 1 error, 2 cancelled.
    outcome        INTEGER NOT NULL,
    -- 1 when a stream was asked for.
    stream         INTEGER,
    embedding      INTEGER NOT NULL,
    class          INTEGER,
    error_type     INTEGER,
    http_status    INTEGER,
    service        INTEGER,
    workload       INTEGER,
    host           INTEGER,
    pid            INTEGER,
    provider       INTEGER,
    operation      INTEGER,
    request_model  INTEGER,
    response_model INTEGER,
    input_tokens   INTEGER,
    output_tokens  INTEGER,
    cache_read     INTEGER,
    cache_write    INTEGER,
    reasoning      INTEGER,
    -- 10^-12 USD.
    cost           INTEGER
) STRICT;

CREATE UNIQUE INDEX call_identity ON call (trace_id, span_id);

CREATE TABLE rest (
    at   INTEGER PRIMARY KEY,
    json TEXT NOT NULL
) STRICT;

-- The longest duration in the file: how far before a moment a call that ended after it may have
-- started.
CREATE TABLE longest (
    id       INTEGER PRIMARY KEY CHECK (id = 1),
    duration INTEGER NOT NULL
) STRICT;
INSERT INTO longest (id, duration) VALUES (1, 0);
