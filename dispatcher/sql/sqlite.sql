-- Statements that only SQLite has.

-- name: widen_log!
-- Makes the log's file grow by :size bytes and leaves nothing in it.
BEGIN IMMEDIATE;
CREATE TABLE filler (x);
INSERT INTO filler VALUES (zeroblob(:size));
ROLLBACK;
