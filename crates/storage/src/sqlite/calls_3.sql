-- Calls that took more than a minute, by their end: a question about a moment then looks back for
-- a minute alone.
DROP INDEX call_long;
CREATE INDEX call_long_end ON call (at - moved + duration) WHERE duration > 60000000000;
