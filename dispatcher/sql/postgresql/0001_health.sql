
-- Rows that are updated often get room on their page and are swept early, so that an index over a
-- queue does not fill with the dead; small hot tables sooner still.
ALTER TABLE tasks SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000,
                       autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.02,
                       autovacuum_vacuum_cost_delay = 0);
ALTER TABLE workers SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200,
                         autovacuum_vacuum_cost_delay = 0);
ALTER TABLE checkpoints SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02,
                             autovacuum_vacuum_threshold = 200, autovacuum_vacuum_cost_delay = 0);
