-- A task's result says which grant brought it, so that the end of a task writes its row with constants
-- alone: many tasks of one lease end as one. And a blocked task knows itself for how many it waits.
-- What follows for the table tasks is in ../sqlite and ../postgresql.

ALTER TABLE task_results ADD COLUMN lease_id TEXT;       -- completed: the grant that won …
ALTER TABLE task_results ADD COLUMN seconds REAL;        -- … the work of that attempt alone …
ALTER TABLE task_results ADD COLUMN cached INTEGER NOT NULL DEFAULT 0;  -- … taken from a memo
UPDATE task_results SET lease_id = t.won_lease_id, seconds = t.won_seconds, cached = t.won_cached
  FROM tasks t WHERE t.task_id = task_results.task_id AND t.status = 'completed';

-- From now on nodes.waiting is that of forks and joins; a task's is in tasks.
ALTER TABLE tasks ADD COLUMN waiting INTEGER NOT NULL DEFAULT 0;
UPDATE tasks SET waiting = n.waiting FROM nodes n WHERE n.node_id = tasks.task_id AND n.waiting > 0;
UPDATE nodes SET waiting = 0 WHERE kind = 'task';
