-- The children of a node are found by this index, the parents by the primary key, and neither by the other one:
-- with the child as a second column PostgreSQL walked the whole of it for the parents, where its statistics took
-- the table for empty. (SQLite keeps the primary key in every index.)
DROP INDEX edges_down;
CREATE INDEX edges_down ON edges (parent_id);
