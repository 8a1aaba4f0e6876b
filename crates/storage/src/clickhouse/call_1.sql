-- Calls, one row each, by the time at which they started; a day is a partition, so that forgetting
-- a day is dropping a partition. A text that is not known is NULL, as is a number.
--
-- `batch` numbers the insertions of a day: the number is the deduplication token of the insertion
-- too, so that ClickHouse lets one of two dashboards alone have it (`writer.rs`).

CREATE TABLE IF NOT EXISTS $local(call) $on_cluster
(
    time           DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    -- Start and duration: a call counts when it ended.
    ended          DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    trace_id       UInt128 CODEC(ZSTD(1)),
    span_id        UInt64 CODEC(NONE),
    -- Nanoseconds.
    duration       Nullable(UInt64) CODEC(T64, ZSTD(1)),
    first_chunk    Nullable(UInt64) CODEC(T64, ZSTD(1)),
    first_token    Nullable(UInt64) CODEC(T64, ZSTD(1)),
    outcome        LowCardinality(String),
    class          LowCardinality(String),
    stream         Bool,
    error_type     LowCardinality(Nullable(String)),
    http_status    Nullable(UInt16) CODEC(ZSTD(1)),
    service        LowCardinality(Nullable(String)),
    workload       LowCardinality(Nullable(String)),
    host           LowCardinality(Nullable(String)),
    pid            Nullable(UInt32) CODEC(ZSTD(1)),
    provider       LowCardinality(Nullable(String)),
    operation      LowCardinality(Nullable(String)),
    request_model  LowCardinality(Nullable(String)),
    response_model LowCardinality(Nullable(String)),
    input_tokens   Nullable(UInt64) CODEC(T64, ZSTD(1)),
    output_tokens  Nullable(UInt64) CODEC(T64, ZSTD(1)),
    cache_read     Nullable(UInt64) CODEC(T64, ZSTD(1)),
    cache_write    Nullable(UInt64) CODEC(T64, ZSTD(1)),
    reasoning      Nullable(UInt64) CODEC(T64, ZSTD(1)),
    -- 10^-12 USD.
    cost           Nullable(UInt64) CODEC(T64, ZSTD(1)),
    -- Whether the cost was for nothing.
    wasted         Bool,
    -- In which counts of a sum the call counts, by `parts.rs`: slots of sketches, classes, ….
    counts         Array(UInt16) CODEC(ZSTD(1)),
    -- What only a single row shows, as JSON.
    rest           String CODEC(ZSTD(3)),
    batch          UInt64 CODEC(ZSTD(1)),
    writer         UInt64 CODEC(ZSTD(1)),

    INDEX by_end      ended TYPE minmax GRANULARITY 1,
    INDEX by_batch    batch TYPE minmax GRANULARITY 1,
    INDEX by_trace    trace_id TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX by_span     span_id TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX by_service  service TYPE set(64) GRANULARITY 4,
    INDEX by_workload workload TYPE set(64) GRANULARITY 4,
    INDEX by_outcome  outcome TYPE set(4) GRANULARITY 1
)
ENGINE = $merge_tree(call, MergeTree)
PARTITION BY toYYYYMMDD(time)
ORDER BY time
$ttl(time)
SETTINGS $durable;

$distributed(call, trace_id);
