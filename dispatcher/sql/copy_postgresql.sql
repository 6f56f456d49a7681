-- What copy.sql says, where PostgreSQL needs other words.

-- name: put!
COPY {table} ({columns}) FROM STDIN;

-- name: last_id
SELECT GREATEST(COALESCE((SELECT MAX({key}) FROM {table}), 0),
                COALESCE(pg_sequence_last_value(CAST(pg_get_serial_sequence(:name, {key_name}) AS regclass)), 0));

-- name: set_last_id
SELECT setval(CAST(pg_get_serial_sequence(:name, {key_name}) AS regclass), GREATEST(:last, 1), :last > 0);

-- name: add_last_id
-- A sequence is always there.
SELECT 1 WHERE CAST(:name AS TEXT) IS NULL AND :last < 0;

-- name: served
-- A leader renews its term twice a second.
SELECT 1 FROM leader WHERE holder <> '' AND renewed_at > :since;

-- name: take_time!
-- Nobody waits for a copy, and a large table is not counted in half a minute.
SELECT set_config('statement_timeout', '0', false), set_config('idle_in_transaction_session_timeout', '0', false);
