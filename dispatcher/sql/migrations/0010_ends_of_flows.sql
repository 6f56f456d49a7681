-- The tasks of a flow are kept until the last of them is old. When that ended is told by its counts, which every end
-- changes anyway: a removal needs to look at no other task.
ALTER TABLE flow_counts ADD COLUMN changed_at REAL NOT NULL DEFAULT 0;
UPDATE flow_counts SET changed_at = COALESCE(
        (SELECT MAX((SELECT t.finished_at FROM tasks t WHERE t.task_id = n.node_id)) FROM nodes n
          WHERE n.flow_id = flow_counts.flow_id), 0)
 WHERE status = 'live';
