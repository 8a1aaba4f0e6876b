-- Sums of calls by the time in which they ended, made by ClickHouse of each insertion of calls
-- (`summing.rs`). This file is run for each width of buckets, in seconds: $level. Sketches are
-- counts by slot, so that two can be added, and so that every engine answers with the same
-- percentiles.

CREATE TABLE IF NOT EXISTS $local(sum_$level) $on_cluster
(
    bucket        DateTime64(0, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    service       LowCardinality(Nullable(String)),
    workload      LowCardinality(Nullable(String)),
    provider      LowCardinality(Nullable(String)),
    -- As asked for, or else as answered.
    model         LowCardinality(Nullable(String)),
    operation     LowCardinality(Nullable(String)),
    outcome       LowCardinality(String),
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
    counts        SimpleAggregateFunction(sumMap, Tuple(Array(UInt16), Array(UInt64))) CODEC(ZSTD(1))
)
ENGINE = $merge_tree(sum_$level, AggregatingMergeTree)
PARTITION BY toYYYYMMDD(bucket)
ORDER BY (bucket, service, workload, provider, model, operation, outcome)
$ttl(bucket)
SETTINGS allow_nullable_key = 1, $durable;

$distributed(sum_$level, rand());
