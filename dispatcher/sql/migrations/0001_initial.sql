-- The whole store. Small hot rows (tasks) apart from bodies, so that a lease update rewrites little.
-- Times named *_at are Unix seconds of the wall clock; lease_expires_at, missing_since and
-- last_heartbeat are seconds of the lease clock (dispatcher/clock.py). Never compare the two.

CREATE TABLE tasks (
    task_id          INTEGER PRIMARY KEY AUTOINCREMENT,  -- never reused
    type             TEXT NOT NULL,
    status           TEXT NOT NULL CHECK (status IN ('blocked', 'scheduled', 'pending', 'in-progress',
                                                     'completed', 'failed', 'cancelled')),
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
    elapsed_seconds  REAL,                               -- work behind the result
    max_retries      INTEGER,                            -- NULL here and below: the default
    crash_limit      INTEGER,
    timeout_seconds  REAL,
    backoff          TEXT,
    tags             TEXT,
    CHECK ((status = 'in-progress') = (lease_id IS NOT NULL)),
    CHECK ((status = 'in-progress') = (lease_expires_at IS NOT NULL)),
    CHECK (status <> 'in-progress' OR (worker_key IS NOT NULL AND started_at IS NOT NULL)),
    CHECK ((status IN ('completed', 'failed', 'cancelled')) = (finished_at IS NOT NULL)),
    CHECK (status <> 'scheduled' OR run_at IS NOT NULL)
);
INSERT INTO sqlite_sequence (name, seq) VALUES ('tasks', 0);
CREATE INDEX tasks_claimable ON tasks (type, priority DESC, task_id) WHERE status = 'pending';
CREATE INDEX tasks_due ON tasks (run_at) WHERE status = 'scheduled';
CREATE INDEX tasks_held ON tasks (worker_key) WHERE status = 'in-progress';
CREATE INDEX tasks_dead ON tasks (status, task_id) WHERE status IN ('failed', 'cancelled');
CREATE INDEX tasks_ended ON tasks (finished_at) WHERE finished_at IS NOT NULL;

CREATE TABLE task_payloads (                             -- absent: {}
    task_id INTEGER PRIMARY KEY,
    payload BLOB NOT NULL
);

CREATE TABLE task_tags (
    tag     TEXT NOT NULL,
    task_id INTEGER NOT NULL,
    PRIMARY KEY (tag, task_id)
) WITHOUT ROWID;

CREATE TABLE task_results (                              -- exactly one row per ended task
    task_id INTEGER PRIMARY KEY,
    attempt INTEGER NOT NULL,                            -- the attempt that won; 0: none was needed
    result  BLOB,                                        -- NULL: the JSON null
    error   BLOB
);

CREATE TABLE checkpoints (                               -- the newest one; dropped on completion
    task_id         INTEGER PRIMARY KEY,
    attempt         INTEGER NOT NULL,
    seq             INTEGER NOT NULL,
    state           BLOB NOT NULL,
    progress        REAL,
    elapsed_seconds REAL NOT NULL,
    output_chunks   INTEGER NOT NULL,                    -- chunks stored up to this checkpoint
    saved_at        REAL NOT NULL
);

CREATE TABLE task_outputs (
    chunk_id    INTEGER PRIMARY KEY,
    task_id     INTEGER NOT NULL,
    chunk_index INTEGER NOT NULL,
    body        BLOB NOT NULL
);
CREATE UNIQUE INDEX task_outputs_in_order ON task_outputs (task_id, chunk_index);

CREATE TABLE attempts (                                  -- ended ones; a running one is its tasks row
    task_id         INTEGER NOT NULL,
    attempt         INTEGER NOT NULL,
    worker_key      INTEGER,
    lease_id        TEXT NOT NULL,
    outcome         TEXT NOT NULL CHECK (outcome IN ('completed', 'failed', 'crashed', 'released',
                                                     'reclaimed', 'cancelled')),
    started_at      REAL NOT NULL,
    finished_at     REAL NOT NULL,
    elapsed_seconds REAL,
    resumed_seq     INTEGER,
    lost_seconds    REAL,
    alone           INTEGER NOT NULL DEFAULT 0,          -- its grant was of this task alone
    counted         INTEGER NOT NULL DEFAULT 0,          -- reclaimed and counted as a crash
    cached          INTEGER NOT NULL DEFAULT 0,
    error           BLOB,
    PRIMARY KEY (task_id, attempt)
) WITHOUT ROWID;

CREATE TABLE workers (
    worker_key        INTEGER PRIMARY KEY AUTOINCREMENT, -- never reused: attempts point here
    worker_id         TEXT NOT NULL UNIQUE,
    name              TEXT NOT NULL,
    host              TEXT NOT NULL,
    pid               INTEGER,
    slots             INTEGER NOT NULL,
    types             TEXT,                              -- JSON list; NULL: every type
    state             TEXT NOT NULL CHECK (state IN ('alive', 'paused', 'draining', 'dead', 'stopped')),
    last_heartbeat    REAL NOT NULL,
    last_heartbeat_at REAL NOT NULL,
    gone_at           REAL,
    CHECK ((state IN ('dead', 'stopped')) = (gone_at IS NOT NULL))
);

-- Counts kept by the transactions that change them, so that /stats never scans.
CREATE TABLE task_counts (
    type   TEXT NOT NULL,
    status TEXT NOT NULL,
    n      INTEGER NOT NULL,
    PRIMARY KEY (type, status)
) WITHOUT ROWID;

CREATE TABLE completions (                               -- tasks completed in each second
    second INTEGER PRIMARY KEY,
    n      INTEGER NOT NULL
);

CREATE TABLE work_totals (                               -- seconds of work: useful, saved, lost
    kind    TEXT PRIMARY KEY,
    seconds REAL NOT NULL
) WITHOUT ROWID;

CREATE TABLE lease_clock (
    one       INTEGER PRIMARY KEY CHECK (one = 1),
    lease_now REAL NOT NULL
);
INSERT INTO lease_clock (one, lease_now) VALUES (1, 0);
