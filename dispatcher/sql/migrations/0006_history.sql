-- The attempt that completed a task is the task's own row: nothing comes after it. The table attempts
-- holds those that ended otherwise; its column cached says nothing any more.

ALTER TABLE tasks ADD COLUMN won_lease_id TEXT;          -- completed: the grant that ended it
ALTER TABLE tasks ADD COLUMN won_seconds REAL;           -- work of that attempt alone
ALTER TABLE tasks ADD COLUMN won_cached INTEGER NOT NULL DEFAULT 0;

UPDATE tasks SET won_lease_id = a.lease_id, won_seconds = a.elapsed_seconds, won_cached = a.cached
  FROM attempts a
 WHERE a.outcome = 'completed' AND tasks.task_id = a.task_id AND tasks.attempt = a.attempt;
DELETE FROM attempts WHERE outcome = 'completed';

DROP INDEX attempts_ended;
CREATE INDEX attempts_ended ON attempts (finished_at);
