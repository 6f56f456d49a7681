
ALTER TABLE task_counts SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0,
                             autovacuum_vacuum_threshold = 200, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE limits SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0,
                        autovacuum_vacuum_threshold = 200, autovacuum_vacuum_cost_delay = 0);
