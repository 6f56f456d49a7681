
-- SQLite changes a CHECK, and drops columns at one go, by making the table anew. One CASE instead of
-- many CHECKs: it is looked at with each change of a status, and this is a third of such a change.
CREATE TABLE tasks_anew (
    task_id          INTEGER PRIMARY KEY AUTOINCREMENT,  -- never reused
    type             TEXT NOT NULL,
    status           TEXT NOT NULL,
    priority         INTEGER NOT NULL DEFAULT 0,
    created_at       REAL NOT NULL,
    run_at           REAL,                               -- when a scheduled task becomes pending
    started_at       REAL,                               -- of the present or last attempt
    finished_at      REAL,
    attempt          INTEGER NOT NULL DEFAULT 0,         -- the present or last one: 1, 2, 3, …
    failures         INTEGER NOT NULL DEFAULT 0,
    crashes          INTEGER NOT NULL DEFAULT 0,         -- in a row, without a newer checkpoint between
    releases         INTEGER NOT NULL DEFAULT 0,
    revived_attempt  INTEGER,                            -- the last attempt of the life before
    alone            INTEGER NOT NULL DEFAULT 0,         -- pending: must be granted alone; held: was
    worker_key       INTEGER,                            -- holds it, or held it last
    lease_id         TEXT,
    lease_expires_at REAL,
    running          INTEGER NOT NULL DEFAULT 0,         -- a process works on it, says its worker
    missing_since    REAL,                               -- its worker's list lacked it, first then
    progress         REAL,
    message          TEXT,
    checkpoint_seq   INTEGER,
    saved_seconds    REAL,                               -- work behind that checkpoint
    resumed_seq      INTEGER,                            -- checkpoint the present attempt began from
    resumed_seconds  REAL,                               -- work behind that one
    max_retries      INTEGER,                            -- NULL here and below: the default
    crash_limit      INTEGER,
    timeout_seconds  REAL,
    backoff          TEXT,
    tags             TEXT,
    queue            TEXT NOT NULL DEFAULT 'default',
    deadline_at      REAL,                               -- never start after
    stall_seconds    REAL,
    unique_key       TEXT,                               -- one live task per key
    limit_key        TEXT,                               -- what limits by key speak of
    -- Of a task with a limit_key: 1 = pending, waits for a place; 2 = pending, may be claimed;
    -- 3 = in progress, has a place. 0: none of these. Claims look at 0 and 2 only.
    place            INTEGER NOT NULL DEFAULT 0 CHECK (place IN (0, 1, 2, 3)),
    flow_id          INTEGER,                            -- NULL: of no flow
    kin              INTEGER,                            -- NULL: none; 1: has parents; 2: has children; 3: both
    waiting          INTEGER NOT NULL DEFAULT 0,         -- for how many parents that have not ended
    CHECK (CASE WHEN status = 'in-progress'
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
                END)
);
INSERT INTO tasks_anew (task_id, type, status, priority, created_at, run_at, started_at, finished_at, attempt,
                        failures, crashes, releases, revived_attempt, alone, worker_key, lease_id,
                        lease_expires_at, running, missing_since, progress, message, checkpoint_seq,
                        saved_seconds, resumed_seq, resumed_seconds, max_retries, crash_limit, timeout_seconds,
                        backoff, tags, queue, deadline_at, stall_seconds, unique_key, limit_key, place, flow_id,
                        kin, waiting)
SELECT task_id, type, status, priority, created_at, run_at, started_at, finished_at, attempt,
       failures, crashes, releases, revived_attempt, alone, worker_key, lease_id,
       lease_expires_at, running, missing_since, progress, message, checkpoint_seq,
       saved_seconds, resumed_seq, resumed_seconds, max_retries, crash_limit, timeout_seconds,
       backoff, tags, queue, deadline_at, stall_seconds, unique_key, limit_key, place, flow_id,
       kin, waiting
  FROM tasks ORDER BY task_id;
DELETE FROM sqlite_sequence WHERE name = 'tasks_anew';
INSERT INTO sqlite_sequence (name, seq) SELECT 'tasks_anew', seq FROM sqlite_sequence WHERE name = 'tasks';
DROP TABLE tasks;
ALTER TABLE tasks_anew RENAME TO tasks;

CREATE INDEX tasks_claimable ON tasks (queue, type, priority DESC, task_id)
 WHERE status = 'pending' AND place <> 1;
CREATE INDEX tasks_due ON tasks (run_at) WHERE status = 'scheduled';
CREATE INDEX tasks_held ON tasks (worker_key) WHERE status = 'in-progress';
CREATE INDEX tasks_dead ON tasks (status, task_id) WHERE status IN ('failed', 'cancelled');
CREATE INDEX tasks_ended ON tasks (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX tasks_places ON tasks (limit_key, place, queue, type, priority DESC, task_id) WHERE place > 0;
CREATE INDEX tasks_deadline ON tasks (deadline_at)
 WHERE deadline_at IS NOT NULL AND status IN ('scheduled', 'pending');
CREATE UNIQUE INDEX tasks_unique ON tasks (unique_key)
 WHERE unique_key IS NOT NULL AND status IN ('blocked', 'scheduled', 'pending', 'in-progress');
