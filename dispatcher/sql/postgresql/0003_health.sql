
ALTER TABLE task_counts SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0,
                             autovacuum_vacuum_threshold = 200, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE limits SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0,
                        autovacuum_vacuum_threshold = 200, autovacuum_vacuum_cost_delay = 0);

-- In one direction, so that a place in it can be given as a row (floors.py).
DROP INDEX tasks_claimable;
CREATE INDEX tasks_claimable ON tasks (queue, type, (-priority), task_id) WHERE status = 'pending' AND place <> 1;
