-- What was there before each change that nodes made for an SDK: a node that lost its own notes is
-- told it again.
CREATE TABLE before_change (
    instance TEXT NOT NULL,
    key      TEXT NOT NULL,
    body     TEXT NOT NULL,
    PRIMARY KEY (instance, key)
) STRICT, WITHOUT ROWID;
