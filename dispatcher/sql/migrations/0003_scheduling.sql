-- When, in what order, how often: queues, deadlines, unique keys, limits, pauses, logs, repeated requests.

ALTER TABLE tasks ADD COLUMN queue TEXT NOT NULL DEFAULT 'default';
ALTER TABLE tasks ADD COLUMN deadline_at REAL;           -- never start after
ALTER TABLE tasks ADD COLUMN stall_seconds REAL;
ALTER TABLE tasks ADD COLUMN unique_key TEXT;            -- one live task per key
ALTER TABLE tasks ADD COLUMN limit_key TEXT;             -- what limits by key speak of
-- Of a task with a limit_key: 1 = pending, waits for a place; 2 = pending, may be claimed;
-- 3 = in progress, has a place. 0: none of these. Claims look at 0 and 2 only.
ALTER TABLE tasks ADD COLUMN place INTEGER NOT NULL DEFAULT 0 CHECK (place IN (0, 1, 2, 3));

DROP INDEX tasks_claimable;
CREATE INDEX tasks_claimable ON tasks (queue, type, priority DESC, task_id)
 WHERE status = 'pending' AND place <> 1;
CREATE INDEX tasks_places ON tasks (limit_key, place, queue, type, priority DESC, task_id) WHERE place > 0;
CREATE INDEX tasks_deadline ON tasks (deadline_at)
 WHERE deadline_at IS NOT NULL AND status IN ('scheduled', 'pending');
CREATE UNIQUE INDEX tasks_unique ON tasks (unique_key)
 WHERE unique_key IS NOT NULL AND status IN ('blocked', 'scheduled', 'pending', 'in-progress');

CREATE TABLE task_counts_by_queue (
    shard  INTEGER NOT NULL,
    queue  TEXT NOT NULL,
    type   TEXT NOT NULL,
    status TEXT NOT NULL,
    n      INTEGER NOT NULL,
    PRIMARY KEY (shard, queue, type, status)
) WITHOUT ROWID;
INSERT INTO task_counts_by_queue (shard, queue, type, status, n)
SELECT shard, 'default', type, status, n FROM task_counts;
DROP TABLE task_counts;
ALTER TABLE task_counts_by_queue RENAME TO task_counts;

CREATE TABLE limits (                                    -- of a queue, a type, or a limit_key
    kind        TEXT NOT NULL CHECK (kind IN ('queue', 'type', 'key')),
    name        TEXT NOT NULL,
    max_running INTEGER,                                 -- both NULL: lifted, and gone when all are let in
    max_starts  INTEGER,
    per_seconds REAL,
    settled     INTEGER NOT NULL DEFAULT 1,              -- 0: the tasks do not stand as it says yet
    opens_at    REAL,                                    -- lease clock: when its window lets more start
    PRIMARY KEY (kind, name),
    CHECK ((max_starts IS NULL) = (per_seconds IS NULL))
) WITHOUT ROWID;
CREATE INDEX limits_unsettled ON limits (kind, name) WHERE settled = 0;
CREATE INDEX limits_opening ON limits (opens_at) WHERE opens_at IS NOT NULL;

CREATE TABLE limit_starts (                              -- starts within a limit's window
    kind       TEXT NOT NULL,
    name       TEXT NOT NULL,
    started_at REAL NOT NULL,                            -- lease clock
    n          INTEGER NOT NULL,
    PRIMARY KEY (kind, name, started_at)
) WITHOUT ROWID;

CREATE TABLE pauses (                                    -- of a queue or a type
    kind      TEXT NOT NULL CHECK (kind IN ('queue', 'type')),
    name      TEXT NOT NULL,
    paused_at REAL NOT NULL,
    PRIMARY KEY (kind, name)
) WITHOUT ROWID;

ALTER TABLE workers ADD COLUMN queues TEXT;              -- JSON list; NULL: every queue
ALTER TABLE workers ADD COLUMN threads INTEGER NOT NULL DEFAULT 1;
ALTER TABLE workers ADD COLUMN ordered TEXT CHECK (ordered IN ('pause', 'drain'));

CREATE TABLE idempotency (                               -- answers to requests that may come again
    key        TEXT PRIMARY KEY,
    body_hash  TEXT NOT NULL,
    status     INTEGER NOT NULL,
    answer     BLOB NOT NULL,
    created_at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX idempotency_old ON idempotency (created_at);

CREATE TABLE task_logs (
    line_id INTEGER PRIMARY KEY AUTOINCREMENT,
    task_id INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    at      REAL NOT NULL,
    level   TEXT NOT NULL,
    message TEXT NOT NULL
);
CREATE INDEX task_logs_of_attempt ON task_logs (task_id, attempt, line_id);

ALTER TABLE task_results ADD COLUMN error_type TEXT;     -- of dead letters, to find them by it
CREATE INDEX task_results_by_error ON task_results (error_type, task_id) WHERE error_type IS NOT NULL;
-- Completed attempts, the many, are found by the end of their task.
CREATE INDEX attempts_ended ON attempts (finished_at) WHERE outcome <> 'completed';
