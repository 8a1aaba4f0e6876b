-- Wishes that not every node with the workload is known to have heard of, and when tokens were used.

-- 1 from the wish until each node with the workload says that it has it.
ALTER TABLE desired ADD COLUMN untold INTEGER NOT NULL DEFAULT 0;
CREATE INDEX desired_untold ON desired (key) WHERE untold = 1;

-- To about a minute; NULL until the first use.
ALTER TABLE token ADD COLUMN last_used INTEGER;
