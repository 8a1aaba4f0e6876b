-- Calls that took more than ten minutes, so that a question about a moment looks back no further
-- for the others.
CREATE INDEX call_long ON call (duration) WHERE duration > 600000000000;
