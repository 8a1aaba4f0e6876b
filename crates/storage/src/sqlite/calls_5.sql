-- What stands around calls: agents, tools, chains. They are read by trace alone and count in
-- nothing, so that a row each is enough.

CREATE TABLE run (
    -- 16 bytes, the first the highest.
    trace BLOB NOT NULL,
    span  INTEGER NOT NULL,
    -- Nanoseconds since 1970.
    start INTEGER NOT NULL,
    -- JSON.
    body  TEXT NOT NULL,
    PRIMARY KEY (trace, span)
) STRICT, WITHOUT ROWID;
