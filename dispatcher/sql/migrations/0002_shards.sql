-- Several dispatchers may share the database: each counts in a shard of its own, so that their
-- transactions do not wait for each other at the counters, and one of them leads.

CREATE TABLE task_counts_sharded (                       -- the truth is the sum over the shards,
    shard  INTEGER NOT NULL,                             -- one of which alone may be negative
    type   TEXT NOT NULL,
    status TEXT NOT NULL,
    n      INTEGER NOT NULL,
    PRIMARY KEY (shard, type, status)
) WITHOUT ROWID;
INSERT INTO task_counts_sharded (shard, type, status, n) SELECT 0, type, status, n FROM task_counts;
DROP TABLE task_counts;
ALTER TABLE task_counts_sharded RENAME TO task_counts;

CREATE TABLE completions_sharded (                       -- tasks completed in each second
    second INTEGER NOT NULL,
    shard  INTEGER NOT NULL,
    n      INTEGER NOT NULL,
    PRIMARY KEY (second, shard)
) WITHOUT ROWID;
INSERT INTO completions_sharded (second, shard, n) SELECT second, 0, n FROM completions;
DROP TABLE completions;
ALTER TABLE completions_sharded RENAME TO completions;

CREATE TABLE work_totals_sharded (                       -- seconds of work: useful, saved, lost
    shard   INTEGER NOT NULL,
    kind    TEXT NOT NULL,
    seconds REAL NOT NULL,
    PRIMARY KEY (shard, kind)
) WITHOUT ROWID;
INSERT INTO work_totals_sharded (shard, kind, seconds) SELECT 0, kind, seconds FROM work_totals;
DROP TABLE work_totals;
ALTER TABLE work_totals_sharded RENAME TO work_totals;

CREATE TABLE leader (                                    -- whose monitor acts, and in which term
    one        INTEGER PRIMARY KEY CHECK (one = 1),
    term       INTEGER NOT NULL,
    holder     TEXT NOT NULL,
    renewed_at REAL NOT NULL
);
INSERT INTO leader (one, term, holder, renewed_at) VALUES (1, 0, '', 0);
