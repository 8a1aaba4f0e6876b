-- A call that two observers saw, such as the kernel and an SDK, is a row of each, of which the first
-- counts; the second names it here, counts in nothing, and is added to it when it is read
-- (`joining.rs`). Zeros in all other rows.

ALTER TABLE $local(call) $on_cluster
    ADD COLUMN IF NOT EXISTS of_trace UInt128 DEFAULT 0 CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS of_span UInt64 DEFAULT 0 CODEC(ZSTD(1)),
    ADD INDEX IF NOT EXISTS by_of of_span TYPE bloom_filter(0.001) GRANULARITY 1;

-- The table that is read over all shards; on one server it is the same one.
ALTER TABLE $name(call) $on_cluster
    ADD COLUMN IF NOT EXISTS of_trace UInt128 DEFAULT 0,
    ADD COLUMN IF NOT EXISTS of_span UInt64 DEFAULT 0;
