-- Tasks that depend on tasks. A task knows only whether it has relatives; who they are is in nodes and
-- edges, which tasks without relatives never touch.

ALTER TABLE tasks ADD COLUMN flow_id INTEGER;            -- NULL: of no flow
ALTER TABLE tasks ADD COLUMN kin INTEGER;                -- NULL: none; 1: has parents; 2: has children; 3: both

CREATE TABLE flows (
    flow_id    INTEGER PRIMARY KEY AUTOINCREMENT,        -- never reused
    name       TEXT,
    created_at REAL NOT NULL
);

-- A fan-out has, beside its parts, two nodes of its own: its fork ends before its parts may start, its
-- join when all of them have ended. So an edge always means the same: the child waits for the parent.
CREATE TABLE nodes (
    node_id  INTEGER PRIMARY KEY,                        -- of a task its id; negative: a fork or a join
    flow_id  INTEGER,                                    -- NULL: a child outside of flows
    kind     TEXT NOT NULL CHECK (kind IN ('task', 'fork', 'join')),
    key      TEXT NOT NULL,
    position INTEGER NOT NULL,                           -- of its key in the flow
    run_if   TEXT NOT NULL CHECK (run_if IN ('all_completed', 'all_finished')),
    waiting  INTEGER NOT NULL,                           -- blocked: how many parents are live; else 0
    status   TEXT,                                       -- of a fork or join; a task's is in tasks
    counted  INTEGER NOT NULL,                           -- does the flow count it? a join only until it has parts
    error    BLOB,                                       -- why a fan-out could not be made
    CHECK ((kind = 'task') = (status IS NULL)),
    CHECK ((kind = 'task') = (node_id > 0))
);
CREATE INDEX nodes_of_flow ON nodes (flow_id, position) WHERE flow_id IS NOT NULL;

CREATE TABLE edges (
    child_id  INTEGER NOT NULL,
    parent_id INTEGER NOT NULL,
    key       TEXT NOT NULL,                             -- the name by which the child knows the parent
    position  INTEGER NOT NULL,                          -- among the parents
    PRIMARY KEY (child_id, parent_id)
) WITHOUT ROWID;
CREATE INDEX edges_down ON edges (parent_id, child_id);

CREATE TABLE fan_outs (                                  -- over a result that is not known yet
    fork_id   INTEGER PRIMARY KEY,
    join_id   INTEGER NOT NULL,
    source_id INTEGER NOT NULL,                          -- the task whose result it is
    run_at    REAL,
    deadline_at REAL,
    task      BLOB NOT NULL                              -- what to make its parts from
);

-- Kept by the transactions that change them, as task_counts: the truth is the sum over the shards.
CREATE TABLE flow_counts (
    flow_id INTEGER NOT NULL,
    status  TEXT NOT NULL CHECK (status IN ('live', 'completed', 'failed', 'cancelled')),
    shard   INTEGER NOT NULL,
    n       INTEGER NOT NULL,
    PRIMARY KEY (flow_id, status, shard)
) WITHOUT ROWID;
