
ALTER TABLE tasks DROP COLUMN elapsed_seconds, DROP COLUMN won_lease_id, DROP COLUMN won_seconds,
      DROP COLUMN won_cached,
      DROP CONSTRAINT tasks_check, DROP CONSTRAINT tasks_check1, DROP CONSTRAINT tasks_check2,
      DROP CONSTRAINT tasks_check3, DROP CONSTRAINT tasks_check4, DROP CONSTRAINT tasks_status_check;
ALTER TABLE tasks ADD CONSTRAINT tasks_status_check CHECK (
    CASE WHEN status = 'in-progress'
         THEN lease_id IS NOT NULL AND lease_expires_at IS NOT NULL AND worker_key IS NOT NULL
              AND started_at IS NOT NULL AND finished_at IS NULL AND waiting = 0
         ELSE lease_id IS NULL AND lease_expires_at IS NULL
              AND CASE status WHEN 'completed' THEN finished_at IS NOT NULL AND waiting = 0
                              WHEN 'pending' THEN finished_at IS NULL AND waiting = 0
                              WHEN 'blocked' THEN finished_at IS NULL AND waiting > 0
                              WHEN 'scheduled' THEN finished_at IS NULL AND waiting = 0 AND run_at IS NOT NULL
                              WHEN 'failed' THEN finished_at IS NOT NULL AND waiting = 0
                              WHEN 'cancelled' THEN finished_at IS NOT NULL AND waiting = 0
                              ELSE FALSE END
         END);
