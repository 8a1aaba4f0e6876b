-- Nodes with credentials of their own, tokens that end, steps, layered configuration, names, rules.

ALTER TABLE token ADD COLUMN expires INTEGER;
-- How many nodes may join with it, and how many did.
ALTER TABLE token ADD COLUMN uses INTEGER;
ALTER TABLE token ADD COLUMN used INTEGER NOT NULL DEFAULT 0;
ALTER TABLE token ADD COLUMN environment TEXT;

-- Who may speak for which node.
CREATE TABLE identity (
    id          TEXT PRIMARY KEY,
    -- The join token that it came with.
    token       INTEGER NOT NULL,
    environment TEXT,
    -- The cluster that it named at first; it cannot speak for another later.
    cluster     TEXT,
    -- NULL for a controller of the first protocol, which polls with its join token.
    hash        BLOB,
    -- The credential that follows, until it is used.
    next_hash   BLOB,
    made        INTEGER NOT NULL,
    enrolled    INTEGER NOT NULL,
    revoked     INTEGER
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX identity_hash ON identity (hash);

ALTER TABLE instance ADD COLUMN applied TEXT NOT NULL DEFAULT 'null';

ALTER TABLE desired ADD COLUMN reason TEXT NOT NULL DEFAULT '';
ALTER TABLE desired_history ADD COLUMN reason TEXT NOT NULL DEFAULT '';

-- States that a workload was in.
CREATE TABLE state_history (
    id       INTEGER PRIMARY KEY,
    key      TEXT NOT NULL,
    instance TEXT NOT NULL,
    at       INTEGER NOT NULL,
    state    TEXT NOT NULL,
    reason   TEXT NOT NULL
) STRICT;
CREATE INDEX state_history_key ON state_history (key, id);

CREATE TABLE step (
    id         TEXT PRIMARY KEY,
    instance   TEXT NOT NULL,
    key        TEXT,
    change     TEXT NOT NULL,
    reason     TEXT NOT NULL,
    actor      TEXT NOT NULL,
    generation INTEGER NOT NULL,
    created    INTEGER NOT NULL,
    lease      TEXT NOT NULL,
    ended      INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX step_open ON step (instance) WHERE ended IS NULL;
CREATE INDEX step_created ON step (created);

CREATE TABLE step_log (
    id          INTEGER PRIMARY KEY,
    step        TEXT NOT NULL,
    instance    TEXT NOT NULL,
    key         TEXT,
    at          INTEGER NOT NULL,
    event       TEXT NOT NULL,
    actor       TEXT NOT NULL,
    reason      TEXT NOT NULL,
    change      TEXT NOT NULL,
    output      TEXT NOT NULL,
    duration_ms INTEGER
) STRICT;
CREATE INDEX step_log_key ON step_log (key, id);
CREATE TRIGGER step_log_stays BEFORE UPDATE ON step_log
BEGIN SELECT raise(ABORT, 'history is only added to'); END;
CREATE TRIGGER step_log_remains BEFORE DELETE ON step_log
BEGIN SELECT raise(ABORT, 'history is only added to'); END;

-- Configuration, by layer; the fleet's has the name ''.
CREATE TABLE layer (
    layer TEXT NOT NULL,
    name  TEXT NOT NULL,
    body  TEXT NOT NULL,
    PRIMARY KEY (layer, name)
) STRICT, WITHOUT ROWID;

-- Names that people gave to workloads.
CREATE TABLE shown_name (
    key  TEXT PRIMARY KEY,
    name TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Rules of discovery: one row, or none.
CREATE TABLE rules (
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    body TEXT NOT NULL
) STRICT;

-- Who changed what else: configuration, names, rules, tokens, identities.
CREATE TABLE change_log (
    id    INTEGER PRIMARY KEY,
    at    INTEGER NOT NULL,
    actor TEXT NOT NULL,
    what  TEXT NOT NULL,
    place TEXT NOT NULL,
    value TEXT NOT NULL
) STRICT;
CREATE INDEX change_log_place ON change_log (what, place, id);
CREATE TRIGGER change_log_stays BEFORE UPDATE ON change_log
BEGIN SELECT raise(ABORT, 'history is only added to'); END;
CREATE TRIGGER change_log_remains BEFORE DELETE ON change_log
BEGIN SELECT raise(ABORT, 'history is only added to'); END;
