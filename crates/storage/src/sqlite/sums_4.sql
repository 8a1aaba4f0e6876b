-- What numbers are added up by alone, beside series and models: services, hosts, environments, users
-- and agents (`sums/member.rs`).

CREATE TABLE member (
    -- `sums.rs` numbers them.
    kind INTEGER NOT NULL,
    -- Of `text`.
    text INTEGER NOT NULL,
    -- From 1 within a kind.
    id   INTEGER NOT NULL,
    PRIMARY KEY (kind, text),
    UNIQUE (kind, id)
) STRICT, WITHOUT ROWID;
