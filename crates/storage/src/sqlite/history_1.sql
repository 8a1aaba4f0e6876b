-- What stays of days that are no longer kept: sums of hours and days, by `sums_1.sql`.

CREATE TABLE text (
    id    INTEGER PRIMARY KEY,
    value TEXT NOT NULL UNIQUE
) STRICT;

-- Days whose sums were taken over; days since 1970.
CREATE TABLE dropped (
    day INTEGER PRIMARY KEY
) STRICT;
