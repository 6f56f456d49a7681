-- Recurring submissions. A slot is a moment of a schedule's timetable; its row is what makes a second
-- firing impossible, after a crash, a jump of the clock, or by a second dispatcher.

CREATE TABLE schedules (
    schedule_id   INTEGER PRIMARY KEY AUTOINCREMENT,     -- never reused: slots point here
    name          TEXT NOT NULL UNIQUE,
    cron          TEXT,
    every_seconds REAL,
    timezone      TEXT NOT NULL,
    anchor        REAL NOT NULL,                         -- every_seconds counts from here
    kind          TEXT NOT NULL CHECK (kind IN ('task', 'flow')),
    body          BLOB NOT NULL,                         -- what it submits
    missed        TEXT NOT NULL CHECK (missed IN ('once', 'skip', 'all')),
    overlap       TEXT NOT NULL CHECK (overlap IN ('allow', 'skip')),
    paused        INTEGER NOT NULL,
    next_at       REAL NOT NULL,                         -- the next slot
    created_at    REAL NOT NULL,
    last_task_id  INTEGER,                               -- what it submitted last
    last_flow_id  INTEGER,
    CHECK ((cron IS NULL) <> (every_seconds IS NULL))
);
CREATE INDEX schedules_due ON schedules (next_at) WHERE paused = 0;

CREATE TABLE schedule_slots (
    schedule_id INTEGER NOT NULL,
    slot_at     REAL NOT NULL,
    by_hand     INTEGER NOT NULL,                        -- 0: by the timetable; else asked for by somebody
    fired_at    REAL NOT NULL,
    outcome     TEXT NOT NULL CHECK (outcome IN ('fired', 'skipped', 'missed', 'failed')),
    task_id     INTEGER,
    flow_id     INTEGER,
    message     TEXT,
    PRIMARY KEY (schedule_id, slot_at, by_hand)
) WITHOUT ROWID;
CREATE INDEX schedule_slots_old ON schedule_slots (fired_at);
