-- What `python -m dispatcher copy` says to a database; SQLite's words, PostgreSQL's few in
-- copy_postgresql.sql. {table}, {columns}, {key} and the like are filled in with names from our own
-- migrated schema, never with anything from outside (dispatcher/copy_sides.py).

-- name: columns
-- Of every table: its columns in order, each with its type and its place in the key (0: none).
SELECT t.name, c.name, c.type, c.pk FROM sqlite_schema t JOIN pragma_table_info(t.name) c
 WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%' ORDER BY t.name, c.cid;

-- name: everything
SELECT {columns} FROM {table} ORDER BY {key};

-- name: rest
-- What follows a position, in the database's own order of keys.
SELECT {columns} FROM {table} WHERE ({key}) > ({position}) ORDER BY {key};

-- name: count
SELECT COUNT(*) FROM {table};

-- name: put!
INSERT INTO {table} ({columns}) VALUES ({places});

-- name: clear!
DELETE FROM {table};

-- name: last_id
-- The greatest id that was ever given, though its row may be gone.
SELECT MAX(COALESCE((SELECT MAX({key}) FROM {table}), 0),
           COALESCE((SELECT seq FROM sqlite_sequence WHERE name = :name), 0));

-- name: set_last_id!
-- The next id comes after :last; only AUTOINCREMENT tables keep count.
UPDATE sqlite_sequence SET seq = MAX(seq, :last) WHERE name = :name;

-- name: add_last_id!
INSERT INTO sqlite_sequence (name, seq)
SELECT :name, :last WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = :name)
   AND EXISTS (SELECT 1 FROM sqlite_schema WHERE name = :name AND sql LIKE '%AUTOINCREMENT%');

-- name: served
-- Does a dispatcher work on this database? Of a file the lock beside it has told already.
SELECT 1 WHERE :since < 0;

-- name: note_begin!
-- Kept in the target until the copy is whole: what it is a copy of, and how far each table is.
CREATE TABLE IF NOT EXISTS unfinished_copy (name TEXT PRIMARY KEY, value TEXT NOT NULL);

-- name: notes
SELECT name, value FROM unfinished_copy;

-- name: note!
INSERT INTO unfinished_copy (name, value) VALUES (:name, :value)
ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- name: note_end!
DROP TABLE unfinished_copy;
