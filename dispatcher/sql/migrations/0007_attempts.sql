-- Since the attempt that completed a task is the task's own row, this column said nothing any more.

ALTER TABLE attempts DROP COLUMN cached;
