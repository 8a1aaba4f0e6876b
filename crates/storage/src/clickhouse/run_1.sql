-- What stands around calls: agents, tools, chains. They are read by trace alone and count in
-- nothing. One that is sent again is there twice until ClickHouse merges the two; questions look
-- at one of them.

CREATE TABLE IF NOT EXISTS $local(run) $on_cluster
(
    time     DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    trace_id UInt128 CODEC(ZSTD(1)),
    span_id  UInt64 CODEC(NONE),
    -- JSON.
    body     String CODEC(ZSTD(3))
)
ENGINE = $merge_tree(run, ReplacingMergeTree)
PARTITION BY toYYYYMMDD(time)
ORDER BY (trace_id, span_id)
$ttl(time)
SETTINGS $durable;

$distributed(run, trace_id);
