-- Who reports, what runs there, what is wanted of it, and who may come in.

CREATE TABLE instance (
    id                 TEXT PRIMARY KEY,
    body               TEXT NOT NULL,
    last_poll          INTEGER NOT NULL,
    generation         INTEGER NOT NULL,
    desired_generation INTEGER NOT NULL DEFAULT 0,
    doctor             TEXT NOT NULL DEFAULT '[]',
    lost               TEXT NOT NULL DEFAULT '{}'
) STRICT;

CREATE TABLE workload (
    instance TEXT NOT NULL REFERENCES instance (id) ON DELETE CASCADE,
    key      TEXT NOT NULL,
    body     TEXT NOT NULL,
    -- 0 when the last full report no longer had it; `seen` is the last that did.
    present  INTEGER NOT NULL,
    seen     INTEGER NOT NULL,
    PRIMARY KEY (instance, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX workload_key ON workload (key);

CREATE TABLE desired (
    key        TEXT NOT NULL,
    feature    TEXT NOT NULL,
    value      TEXT NOT NULL,
    generation INTEGER NOT NULL,
    changed    INTEGER NOT NULL,
    actor      TEXT NOT NULL,
    PRIMARY KEY (key, feature)
) STRICT, WITHOUT ROWID;

CREATE TABLE desired_history (
    id         INTEGER PRIMARY KEY,
    key        TEXT NOT NULL,
    feature    TEXT NOT NULL,
    value      TEXT NOT NULL,
    generation INTEGER NOT NULL,
    changed    INTEGER NOT NULL,
    actor      TEXT NOT NULL
) STRICT;
CREATE INDEX desired_history_key ON desired_history (key, id);
CREATE TRIGGER desired_history_stays BEFORE UPDATE ON desired_history
BEGIN SELECT raise(ABORT, 'history is only added to'); END;
CREATE TRIGGER desired_history_remains BEFORE DELETE ON desired_history
BEGIN SELECT raise(ABORT, 'history is only added to'); END;

CREATE TABLE counter (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT;
INSERT INTO counter (name, value) VALUES ('generation', 0);

CREATE TABLE token (
    id      INTEGER PRIMARY KEY,
    hash    BLOB NOT NULL UNIQUE,
    kind    TEXT NOT NULL,
    name    TEXT NOT NULL,
    created INTEGER NOT NULL
) STRICT;

CREATE TABLE session (
    hash    BLOB PRIMARY KEY,
    created INTEGER NOT NULL,
    expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE login_code (
    hash    BLOB PRIMARY KEY,
    expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
