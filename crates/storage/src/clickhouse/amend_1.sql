-- What a further sighting changes is two more rows of its insertion, which name the call as it does:
-- the call as it was until then, which counts as -1, and as it is now, which counts as 1
-- (`joining.rs`). So sums, which only ever grow, and lists know all that any sighting knew. Zero in
-- the rows of sightings themselves.

ALTER TABLE $local(call) $on_cluster
    ADD COLUMN IF NOT EXISTS amends Int8 DEFAULT 0 CODEC(ZSTD(1));

ALTER TABLE $name(call) $on_cluster
    ADD COLUMN IF NOT EXISTS amends Int8 DEFAULT 0;
