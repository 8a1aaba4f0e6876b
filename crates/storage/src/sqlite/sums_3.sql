-- Sums by model of ten seconds, and wide buckets that are added up once they are over.

-- Up to where the buckets of a level are whole, in seconds since 1970; all of them without. What is
-- not whole yet is in the next finer level alone.
ALTER TABLE level ADD COLUMN whole_to INTEGER;
