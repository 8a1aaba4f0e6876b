-- Of which insertions a sum is: the last number of each day, in days since 1970. It is written with
-- the sum itself, so that whoever finds an insertion that may not be in the sums knows, also when
-- ClickHouse no longer remembers its token (`summing.rs`).

ALTER TABLE $local(sum_$level) $on_cluster
    ADD COLUMN IF NOT EXISTS batches
        SimpleAggregateFunction(maxMap, Tuple(Array(UInt32), Array(UInt64))) CODEC(ZSTD(1));

ALTER TABLE $name(sum_$level) $on_cluster
    ADD COLUMN IF NOT EXISTS batches
        SimpleAggregateFunction(maxMap, Tuple(Array(UInt32), Array(UInt64)));
