-- Sums of calls by one thing alone, such as the user, by the time in which they ended: numbers and
-- counts, no distributions. Each call is in as many of them as there are things (`summing.rs`), so
-- that a question for one of them reads little. This file is run for each width of buckets, in
-- seconds: $level.

CREATE TABLE IF NOT EXISTS $local(alone_$level) $on_cluster
(
    bucket        DateTime64(0, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    -- The word for it: service, model, host, ….
    thing         LowCardinality(String),
    -- What the calls have of it. Users may be many, so that no dictionary holds them.
    name          Nullable(String) CODEC(ZSTD(1)),
    calls         SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    -- 10^-12 USD.
    cost          SimpleAggregateFunction(sum, Nullable(UInt128)) CODEC(ZSTD(1)),
    wasted        SimpleAggregateFunction(sum, Nullable(UInt128)) CODEC(ZSTD(1)),
    input_tokens  SimpleAggregateFunction(sum, Nullable(UInt128)) CODEC(ZSTD(1)),
    output_tokens SimpleAggregateFunction(sum, Nullable(UInt128)) CODEC(ZSTD(1)),
    cache_read    SimpleAggregateFunction(sum, Nullable(UInt128)) CODEC(ZSTD(1)),
    cache_write   SimpleAggregateFunction(sum, Nullable(UInt128)) CODEC(ZSTD(1)),
    reasoning     SimpleAggregateFunction(sum, Nullable(UInt128)) CODEC(ZSTD(1)),
    -- Counts by `parts.rs`.
    counts        SimpleAggregateFunction(sumMap, Tuple(Array(UInt16), Array(UInt64))) CODEC(ZSTD(1)),
    -- Of which insertions it is: the last number of each day, in days since 1970.
    batches       SimpleAggregateFunction(maxMap, Tuple(Array(UInt32), Array(UInt64))) CODEC(ZSTD(1))
)
ENGINE = $merge_tree(alone_$level, AggregatingMergeTree)
PARTITION BY toYYYYMMDD(bucket)
ORDER BY (thing, bucket, name)
$ttl(bucket)
SETTINGS allow_nullable_key = 1, $durable;

$distributed(alone_$level, rand());

-- Calls that there are already are in none of these sums, nor are those that a dashboard of an older
-- version writes until it ends, for which it has the rest of the day. Sums of all these days count
-- as gone, so that questions read the calls there.
INSERT INTO $name(gone) (level, day)
SELECT
    $gone(alone_$level) AS level,
    greatest(
        intDiv(toUnixTimestamp(now()), 86400) + 1,
        intDiv(toUnixTimestamp64Milli(max(newest)), 86400000)
    ) AS day
FROM
(
    SELECT toDateTime64(max(bucket), 3, 'UTC') AS newest, count() AS len FROM $name(sum_86400)
    UNION ALL
    SELECT toDateTime64(max(time), 3, 'UTC') AS newest, count() AS len FROM $name(call)
)
HAVING sum(len) > 0;
