-- Statements that PostgreSQL needs in words of its own; each replaces the one of the same name in
-- statements.sql and does the same. Rows that several dispatchers may want are locked in ascending
-- order of their ids, or skipped if somebody else has them.
--
-- A queue is empty at one moment and large at the next, so the planner may take the largest table for
-- empty until statistics are taken anew. No plan may rest on that: ids are given as an array, and
-- what belongs to a row is looked up in a subquery (scalar, or LATERAL with OFFSET 0), which can only go
-- along the index; a join might walk the whole table for each row. (status || '') keeps the planner
-- from walking a partial index where the ids are given; so does COALESCE(finished_at, 'Infinity').

-- name: server_time$
SELECT CAST(extract(epoch FROM clock_timestamp()) AS DOUBLE PRECISION);

-- name: notify!
-- Tell the other dispatchers, once this is committed.
SELECT pg_notify('baton_work', :message);

-- name: listen!
LISTEN baton_work;

-- name: configure!
-- Nothing of ours takes long, so nothing of ours may hold others up for long. Times are read as they were
-- written. What is read is planned each time, though it is prepared: a plan made for a table while it was empty
-- serves it badly once it is large.
SELECT set_config('statement_timeout', '30s', false), set_config('lock_timeout', '5s', false),
       set_config('idle_in_transaction_session_timeout', '15s', false),
       set_config('plan_cache_mode', 'force_custom_plan', false), set_config('extra_float_digits', '1', false),
       set_config('synchronous_commit', :synchronous_commit, false);

-- name: configure_writer!
-- Each statement of the writer goes by an index, however small the tables looked when it was planned:
-- a queue is often empty and soon large, and a plan made for the one walks the whole of the other. And by
-- the index of the ids it is given: what is written now has been read before, and is in memory. A
-- dispatcher that freezes within a transaction lets go of its rows before somebody who waits is refused;
-- if it does so while statements travel together, the others see to that (frozen.py).
SELECT set_config('enable_seqscan', 'off', false), set_config('enable_hashjoin', 'off', false),
       set_config('enable_mergejoin', 'off', false), set_config('random_page_cost', '0.1', false),
       set_config('plan_cache_mode', 'force_generic_plan', false),
       set_config('idle_in_transaction_session_timeout', '4s', false);

-- name: standing_still
-- Sessions of dispatchers from which the server has awaited something, or which have taken nothing from it, for
-- three seconds in the middle of a transaction; and since when.
SELECT pid, state_change FROM pg_stat_activity
 WHERE datname = current_database() AND usename = session_user AND application_name = 'baton'
   AND state = 'active' AND wait_event IN ('ClientRead', 'ClientWrite') AND pid <> pg_backend_pid()
   AND state_change < clock_timestamp() - CAST('3 s' AS INTERVAL);

-- name: end_session!
SELECT pg_terminate_backend(CAST(:pid AS INTEGER));

-- name: server_version$
SELECT CAST(current_setting('server_version_num') AS INTEGER);

-- name: schema_exists$
SELECT to_regclass('baton_schema') IS NOT NULL;

-- name: schema_number$
SELECT number FROM baton_schema;

-- name: schema_alone!
-- Only one dispatcher at a time migrates, for as long as it takes.
SELECT pg_advisory_xact_lock(1650554990), set_config('statement_timeout', '0', true);

-- name: schema_create!
CREATE TABLE IF NOT EXISTS baton_schema (number BIGINT NOT NULL);

-- name: schema_begin!
INSERT INTO baton_schema (number) SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM baton_schema);

-- name: schema_set!
UPDATE baton_schema SET number = :number;

-- name: copy_unfinished$
SELECT to_regclass('unfinished_copy') IS NOT NULL;

-- name: fresh_task_ids
SELECT id, id FROM (SELECT nextval(pg_get_serial_sequence('tasks', 'task_id')) AS id
                      FROM generate_series(1, :n)) fresh ORDER BY id;

-- name: submit!
INSERT INTO tasks (task_id, type, status, priority, created_at, run_at,
                   max_retries, crash_limit, timeout_seconds, backoff, tags, queue, flow_id, kin, waiting)
SELECT CAST(value AS BIGINT), :type, :status, :priority, :now, CAST(:run_at AS DOUBLE PRECISION),
       CAST(:max_retries AS BIGINT), CAST(:crash_limit AS BIGINT), CAST(:timeout_seconds AS DOUBLE PRECISION),
       CAST(:backoff AS TEXT), CAST(:tags AS TEXT), :queue, CAST(:flow_id AS BIGINT), CAST(:kin AS BIGINT),
       :waiting
  FROM json_array_elements_text(CAST(:task_ids AS json));

-- name: claimable
SELECT -t.priority, t.task_id, t.attempt, t.alone, t.queue || '/' || t.type, t.timeout_seconds, t.checkpoint_seq,
       (SELECT p.payload FROM task_payloads p WHERE p.task_id = t.task_id),
       t.limit_key, t.deadline_at, t.stall_seconds, t.kin
  FROM tasks t
 WHERE t.status = 'pending' AND t.place <> 1 AND t.queue = :queue AND t.type = :type
 ORDER BY (-t.priority), t.task_id LIMIT :n FOR UPDATE OF t SKIP LOCKED;

-- name: claimable_after
-- The same from a place in that order on (see floors.py).
SELECT -t.priority, t.task_id, t.attempt, t.alone, t.queue || '/' || t.type, t.timeout_seconds, t.checkpoint_seq,
       (SELECT p.payload FROM task_payloads p WHERE p.task_id = t.task_id),
       t.limit_key, t.deadline_at, t.stall_seconds, t.kin
  FROM tasks t
 WHERE t.status = 'pending' AND t.place <> 1 AND t.queue = :queue AND t.type = :type
   AND (-t.priority, t.task_id) >= (CAST(:rank AS BIGINT), CAST(:task_id AS BIGINT))
 ORDER BY (-t.priority), t.task_id LIMIT :n FOR UPDATE OF t SKIP LOCKED;

-- name: claim!
UPDATE tasks SET status = 'in-progress', attempt = attempt + 1, alone = :alone, worker_key = :worker_key,
       lease_id = :lease_id, lease_expires_at = :lease_expires_at, started_at = :now, run_at = NULL,
       resumed_seq = checkpoint_seq, resumed_seconds = saved_seconds
 WHERE task_id = ANY (ARRAY(SELECT CAST(value AS BIGINT) FROM json_array_elements_text(CAST(:task_ids AS json))))
   AND (status || '') = 'pending';

-- name: ended_grants
SELECT e.task_id, e.lease_id, e.attempt, e.outcome
  FROM json_array_elements(CAST(:rows AS json)) g CROSS JOIN LATERAL (
       SELECT task_id, lease_id, attempt, 'completed' AS outcome FROM task_results
        WHERE task_id = CAST(g.value ->> 0 AS BIGINT) AND lease_id = g.value ->> 1
       UNION ALL
       SELECT task_id, lease_id, attempt, outcome FROM attempts
        WHERE task_id = CAST(g.value ->> 0 AS BIGINT) AND lease_id = g.value ->> 1 AND outcome <> 'reclaimed'
       OFFSET 0) e;

-- name: complete
UPDATE tasks SET status = 'completed', finished_at = :now, lease_id = NULL, lease_expires_at = NULL,
       missing_since = NULL, running = 0, alone = 0, progress = 1, message = NULL
 WHERE task_id = ANY (ARRAY(SELECT CAST(value ->> 0 AS BIGINT) FROM json_array_elements(CAST(:rows AS json))))
   AND attempt = :attempt AND lease_id = :lease_id AND (status || '') = 'in-progress'
RETURNING task_id, queue || '/' || type, resumed_seconds, checkpoint_seq, limit_key, flow_id, kin;

-- name: record_results!
INSERT INTO task_results (task_id, attempt, lease_id, seconds, cached, result)
SELECT CAST(value ->> 0 AS BIGINT), CAST(:attempt AS BIGINT), CAST(:lease_id AS TEXT),
       CAST(value ->> 1 AS DOUBLE PRECISION), CAST(value ->> 2 AS BIGINT), convert_to(value ->> 3, 'UTF8')
  FROM json_array_elements(CAST(:rows AS json));

-- name: promote
UPDATE tasks SET status = 'pending', run_at = NULL
 WHERE task_id = ANY (ARRAY(SELECT task_id FROM tasks WHERE status = 'scheduled' AND run_at <= :now
                             ORDER BY run_at LIMIT :n FOR UPDATE SKIP LOCKED))
   AND (status || '') = 'scheduled'
RETURNING queue || '/' || type, task_id, limit_key;

-- name: admit
UPDATE tasks SET place = 2
 WHERE task_id = ANY (ARRAY(
         SELECT task_id FROM (
           SELECT * FROM (SELECT task_id, place, priority FROM tasks
                           WHERE limit_key = :name AND place = 1 AND place > 0 AND queue = :queue AND type = :type
                           ORDER BY priority DESC, task_id LIMIT :n) waiting
           UNION ALL
           SELECT * FROM (SELECT task_id, place, priority FROM tasks
                           WHERE limit_key = :name AND place = 2 AND place > 0 AND queue = :queue AND type = :type
                           ORDER BY priority DESC, task_id LIMIT :n) admitted
           ORDER BY 3 DESC, 1 LIMIT :n) best WHERE place = 1))
   AND place + 0 = 1
RETURNING task_id;

-- name: admit_any
UPDATE tasks SET place = 2
 WHERE task_id = ANY (ARRAY(SELECT task_id FROM tasks WHERE limit_key = :name AND place = 1 AND place > 0 LIMIT :n))
   AND place + 0 = 1
RETURNING task_id, queue || '/' || type;

-- name: hold_back_any
UPDATE tasks SET place = 1
 WHERE task_id = ANY (ARRAY(SELECT task_id FROM tasks WHERE limit_key = :name AND place = 2 AND place > 0 LIMIT :n))
   AND place + 0 = 2
RETURNING task_id;

-- name: overdue
SELECT task_id, status, queue || '/' || type, attempt, limit_key FROM tasks
 WHERE deadline_at <= :now AND deadline_at IS NOT NULL AND status IN ('scheduled', 'pending')
 ORDER BY deadline_at LIMIT :n FOR UPDATE SKIP LOCKED;

-- name: prune_keys!
DELETE FROM idempotency WHERE key = ANY (ARRAY(SELECT key FROM idempotency WHERE created_at < :before
                                                ORDER BY created_at LIMIT :n));

-- name: prune_slots!
DELETE FROM schedule_slots WHERE ctid = ANY (ARRAY(SELECT ctid FROM schedule_slots WHERE fired_at < :before
                                                    ORDER BY fired_at LIMIT :n));

-- name: worker^
SELECT worker_key, state, name, types, ordered FROM workers WHERE worker_id = :worker_id FOR UPDATE;

-- name: lane_limits
SELECT kind, name, max_running, max_starts, per_seconds FROM limits
 WHERE kind IN ('queue', 'type') ORDER BY kind, name FOR UPDATE;

-- name: key_limits
SELECT kind, name, max_running, max_starts, per_seconds FROM limits
 WHERE kind = 'key' AND name IN (SELECT value FROM json_array_elements_text(CAST(:names AS json)))
 ORDER BY kind, name FOR UPDATE;

-- name: droppable
SELECT t.task_id, t.queue || '/' || t.type, t.status, t.flow_id, t.kin FROM tasks t
 WHERE t.task_id = ANY (ARRAY(SELECT CAST(value AS BIGINT) FROM json_array_elements_text(CAST(:task_ids AS json))))
   AND COALESCE(t.finished_at, CAST('Infinity' AS DOUBLE PRECISION)) < CAST(:before AS DOUBLE PRECISION)
   AND (t.flow_id IS NULL OR (SELECT SUM(c.n) FROM flow_counts c
                               WHERE c.flow_id = t.flow_id AND c.status = 'live') = 0)
   AND (t.kin IS NULL OR (SELECT 1 FROM edges e WHERE e.parent_id = t.task_id
                              AND (SELECT k.finished_at IS NULL FROM tasks k WHERE k.task_id = e.child_id)
                            LIMIT 1) IS NULL)
 ORDER BY t.task_id FOR UPDATE OF t SKIP LOCKED;

-- name: present_term$
SELECT term FROM leader WHERE one = 1 FOR SHARE;

-- name: database_health^
SELECT (SELECT CAST(COALESCE(MAX(extract(epoch FROM clock_timestamp() - xact_start)), 0) AS DOUBLE PRECISION)
          FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()),
       (SELECT CAST(COALESCE(SUM(n_dead_tup), 0) AS BIGINT) FROM pg_stat_user_tables
         WHERE schemaname = current_schema());

-- name: claim_lanes
-- Whoever declares the worker dead waits for this claim, or this claim for that.
SELECT w.worker_key, EXISTS (SELECT 1 FROM pauses) OR EXISTS (SELECT 1 FROM limits WHERE kind IN ('queue', 'type')),
       l.lane
  FROM workers w LEFT JOIN (SELECT queue || '/' || type AS lane FROM task_counts
                             WHERE status = 'pending' GROUP BY queue, type HAVING SUM(n) > 0) l ON 1 = 1
 WHERE w.worker_id = :worker_id AND w.state = 'alive' FOR SHARE OF w;

-- name: live_parents$
-- Those that count do not end before this transaction has.
SELECT (SELECT COUNT(*) FROM (
          SELECT 1 FROM tasks WHERE task_id = ANY (ARRAY(SELECT parent_id FROM edges WHERE child_id = :child_id))
             AND status NOT IN ('completed', 'failed', 'cancelled')
           ORDER BY task_id FOR SHARE) live)
     + (SELECT COUNT(*) FROM (
          SELECT 1 FROM nodes WHERE node_id = ANY (ARRAY(SELECT parent_id FROM edges WHERE child_id = :child_id))
             AND kind <> 'task' AND status NOT IN ('completed', 'failed', 'cancelled')
           ORDER BY node_id FOR SHARE) live);

-- name: schedule_held^
SELECT schedule_id, name, cron, every_seconds, timezone, anchor, kind, body, missed, overlap, paused, next_at,
       created_at, last_task_id, last_flow_id
  FROM schedules WHERE name = :name FOR UPDATE;

-- name: hold_flow!
SELECT 1 FROM tasks WHERE task_id = ANY (ARRAY(SELECT node_id FROM nodes WHERE flow_id = :flow_id))
 ORDER BY task_id FOR SHARE;

-- name: flow_nodes
SELECT n.node_id, n.key, COALESCE(t.status, n.status),
       COALESCE(n.error, CASE WHEN LENGTH(r.error) <= :most THEN r.error END), r.error_type
  FROM nodes n
  LEFT JOIN LATERAL (SELECT status FROM tasks WHERE task_id = n.node_id OFFSET 0) t ON true
  LEFT JOIN LATERAL (SELECT error, error_type FROM task_results
                      WHERE task_id = n.node_id AND t.status IN ('failed', 'cancelled') OFFSET 0) r ON true
 WHERE n.flow_id = :flow_id AND n.counted = 1 ORDER BY n.position, n.node_id;

-- name: flow_edges
SELECT e.child_id, e.key FROM nodes n CROSS JOIN LATERAL (
       SELECT child_id, key, position FROM edges WHERE child_id = n.node_id AND key <> '' OFFSET 0) e
 WHERE n.flow_id = :flow_id AND n.kind <> 'join' ORDER BY e.child_id, e.position;

-- name: flow_forks
SELECT e.child_id, e.parent_id FROM nodes n CROSS JOIN LATERAL (
       SELECT child_id, parent_id FROM edges WHERE child_id = n.node_id OFFSET 0) e
 WHERE n.flow_id = :flow_id AND n.counted = 1
   AND (SELECT f.kind FROM nodes f WHERE f.node_id = e.parent_id) = 'fork';

-- name: flow_tasks
SELECT task_id, queue || '/' || type, status, attempt, lease_id, limit_key, unique_key FROM tasks
 WHERE task_id = ANY (ARRAY(SELECT node_id FROM nodes WHERE flow_id = :flow_id))
   AND ((:ended = 0 AND status IN ('blocked', 'scheduled', 'pending', 'in-progress'))
        OR (:ended = 1 AND status IN ('failed', 'cancelled')))
 ORDER BY task_id;

-- name: count_up!
UPDATE tasks SET waiting = waiting + CAST(:n AS BIGINT)
 WHERE task_id = ANY (ARRAY(SELECT CAST(value AS BIGINT) FROM json_array_elements_text(CAST(:node_ids AS json))))
   AND (status || '') = 'blocked';

-- name: count_up_nodes
UPDATE nodes SET waiting = waiting + CAST(:n AS BIGINT), status = 'blocked'
 WHERE node_id = ANY (ARRAY(SELECT CAST(value AS BIGINT) FROM json_array_elements_text(CAST(:node_ids AS json))))
   AND (waiting > 0 OR kind = 'join')
RETURNING node_id, waiting;

-- name: ended_forks
SELECT node_id FROM nodes
 WHERE node_id = ANY (ARRAY(
       SELECT e.parent_id FROM edges e
        WHERE e.child_id = ANY (ARRAY(SELECT CAST(value AS BIGINT)
                                        FROM json_array_elements_text(CAST(:node_ids AS json))))))
   AND kind = 'fork' AND status <> 'blocked'
 ORDER BY node_id;

-- name: dead_above
WITH RECURSIVE up (node_id) AS (
    SELECT e.parent_id FROM edges e
     WHERE e.child_id = ANY (ARRAY(SELECT CAST(value AS BIGINT)
                                     FROM json_array_elements_text(CAST(:node_ids AS json))))
    UNION
    SELECT c.parent_id FROM up u CROSS JOIN LATERAL (
        SELECT e.parent_id FROM edges e WHERE e.child_id = u.node_id OFFSET 0) c
     WHERE u.node_id < 0
        OR (u.node_id > :after AND (SELECT t.finished_at FROM tasks t WHERE t.task_id = u.node_id) IS NOT NULL))
SELECT t.task_id FROM tasks t
 WHERE t.task_id = ANY (ARRAY(SELECT u.node_id FROM up u WHERE u.node_id > :after))
   AND (t.status || '') IN ('failed', 'cancelled')
   AND (CAST(:status AS TEXT) IS NULL OR t.status = :status)
   AND (CAST(:type AS TEXT) IS NULL OR t.type = :type) AND (CAST(:queue AS TEXT) IS NULL OR t.queue = :queue)
   AND (CAST(:tag AS TEXT) IS NULL
        OR (SELECT 1 FROM task_tags g WHERE g.tag = :tag AND g.task_id = t.task_id) = 1)
   AND (CAST(:error_type AS TEXT) IS NULL
        OR (SELECT r.error_type FROM task_results r WHERE r.task_id = t.task_id) = :error_type)
 ORDER BY t.task_id;

-- name: lift_deadlines!
UPDATE fan_outs SET deadline_at = NULL
 WHERE deadline_at <= :now
   AND fork_id = ANY (ARRAY(SELECT node_id FROM nodes WHERE flow_id = :flow_id AND kind = 'fork'
                               AND status IN ('failed', 'cancelled')));

-- name: drop_fan_outs*!
DELETE FROM fan_outs
 WHERE fork_id = ANY (ARRAY(SELECT node_id FROM nodes WHERE flow_id = :flow_id AND kind = 'fork'));

-- name: drop_flow_edges*!
DELETE FROM edges
 WHERE child_id = ANY (ARRAY(SELECT node_id FROM nodes WHERE flow_id = :flow_id AND kind <> 'task'));

-- name: add_nodes!
INSERT INTO nodes (node_id, flow_id, kind, key, position, run_if, waiting, status, counted)
SELECT CAST(value ->> 0 AS BIGINT), :flow_id, value ->> 1, value ->> 2, CAST(value ->> 3 AS BIGINT), value ->> 4,
       CAST(value ->> 5 AS BIGINT), value ->> 6, CAST(value ->> 7 AS BIGINT)
  FROM json_array_elements(CAST(:rows AS json));

-- name: add_edges!
INSERT INTO edges (child_id, parent_id, key, position)
SELECT CAST(value ->> 0 AS BIGINT), CAST(value ->> 1 AS BIGINT), value ->> 2, CAST(value ->> 3 AS BIGINT)
  FROM json_array_elements(CAST(:rows AS json));

-- name: children$
SELECT CAST(COALESCE(json_agg(e.child_id), '[]') AS TEXT)
  FROM json_array_elements_text(CAST(:node_ids AS json)) i CROSS JOIN LATERAL (
       SELECT child_id FROM edges WHERE parent_id = CAST(i.value AS BIGINT) OFFSET 0) e;

-- name: count_down
WITH counted AS (
UPDATE tasks SET waiting = waiting - CAST(:n AS BIGINT),
       status = CASE WHEN waiting > :n THEN 'blocked' WHEN run_at > :now THEN 'scheduled' ELSE 'pending' END,
       run_at = CASE WHEN waiting > :n OR run_at > :now THEN run_at END
 WHERE task_id = ANY (ARRAY(SELECT CAST(value AS BIGINT) FROM json_array_elements_text(CAST(:node_ids AS json))))
   AND (status || '') = 'blocked'
RETURNING queue || '/' || type AS lane, status, limit_key, run_at, task_id)
SELECT lane, status, limit_key, MIN(run_at), CAST(json_agg(task_id) AS TEXT) FROM counted GROUP BY 1, 2, 3;

-- name: count_down_nodes
UPDATE nodes SET waiting = waiting - CAST(:n AS BIGINT)
 WHERE node_id = ANY (ARRAY(SELECT CAST(value AS BIGINT) FROM json_array_elements_text(CAST(:node_ids AS json))))
   AND waiting > 0
RETURNING node_id, waiting, kind;

-- name: cancel_forks
UPDATE nodes SET waiting = 0, status = 'cancelled'
 WHERE node_id = ANY (ARRAY(SELECT CAST(value AS BIGINT) FROM json_array_elements_text(CAST(:node_ids AS json))))
   AND kind = 'fork' AND waiting > 0
RETURNING node_id;

-- name: cancel_blocked
UPDATE tasks SET status = 'cancelled', finished_at = :now, run_at = NULL, waiting = 0
 WHERE task_id = ANY (ARRAY(SELECT CAST(value AS BIGINT) FROM json_array_elements_text(CAST(:node_ids AS json))))
   AND status = 'blocked'
RETURNING task_id, queue || '/' || type, attempt, flow_id, kin, limit_key;

-- name: block_in_flow
UPDATE tasks SET status = 'blocked',
       waiting = (SELECT COUNT(*) FROM edges e
                   WHERE e.child_id = tasks.task_id
                     AND COALESCE((SELECT p.status FROM tasks p WHERE p.task_id = e.parent_id),
                                  (SELECT v.status FROM nodes v WHERE v.node_id = e.parent_id))
                         NOT IN ('completed', 'failed', 'cancelled'))
 WHERE task_id = ANY (ARRAY(SELECT node_id FROM nodes WHERE flow_id = :flow_id AND kind = 'task'))
   AND status IN ('blocked', 'pending')
   AND (status = 'blocked'
        OR task_id IN (SELECT CAST(value AS BIGINT) FROM json_array_elements_text(CAST(:task_ids AS json))))
   AND (SELECT 1 FROM edges e
         WHERE e.child_id = tasks.task_id
           AND COALESCE((SELECT p.status FROM tasks p WHERE p.task_id = e.parent_id),
                        (SELECT v.status FROM nodes v WHERE v.node_id = e.parent_id))
               NOT IN ('completed', 'failed', 'cancelled')
         LIMIT 1) = 1
RETURNING task_id;

-- name: parents_bytes$
WITH RECURSIVE up (node_id) AS (
    SELECT parent_id FROM edges WHERE child_id = :child_id
    UNION
    SELECT e.parent_id FROM up u CROSS JOIN LATERAL (
        SELECT parent_id FROM edges WHERE child_id = u.node_id OFFSET 0) e WHERE u.node_id < 0)
SELECT CAST(COALESCE(SUM(64 + (SELECT COALESCE(LENGTH(r.result), 0) + COALESCE(LENGTH(r.error), 0)
                                 FROM task_results r WHERE r.task_id = u.node_id)), 0) AS BIGINT) FROM up u;

-- name: edges_above$
SELECT CAST(COALESCE(json_agg(json_build_array(e.child_id, e.position, e.key, e.parent_id)), '[]') AS TEXT)
  FROM edges e
 WHERE e.child_id = ANY (ARRAY(SELECT CAST(value AS BIGINT) FROM json_array_elements_text(CAST(:node_ids AS json))));

-- name: ends
SELECT t.task_id, t.status, r.result, r.error
  FROM tasks t LEFT JOIN LATERAL (SELECT result, error FROM task_results WHERE task_id = t.task_id OFFSET 0) r ON true
 WHERE t.task_id = ANY (ARRAY(SELECT CAST(value AS BIGINT) FROM json_array_elements_text(CAST(:node_ids AS json))));

-- name: ends_bytes
SELECT task_id, 64 + COALESCE(LENGTH(result), 0) + COALESCE(LENGTH(error), 0) FROM task_results
 WHERE task_id = ANY (ARRAY(SELECT CAST(value AS BIGINT) FROM json_array_elements_text(CAST(:node_ids AS json))));

-- name: flow_counted
SELECT flow_id, status, CAST(SUM(n) AS BIGINT) FROM flow_counts
 WHERE flow_id = ANY (ARRAY(SELECT CAST(value AS BIGINT) FROM json_array_elements_text(CAST(:flow_ids AS json))))
 GROUP BY flow_id, status;

-- name: parent_ids
WITH RECURSIVE up (child_id, node_id) AS (
    SELECT child_id, parent_id FROM edges
     WHERE child_id = ANY (ARRAY(SELECT CAST(value AS BIGINT) FROM json_array_elements_text(CAST(:node_ids AS json))))
    UNION
    SELECT u.child_id, e.parent_id FROM up u CROSS JOIN LATERAL (
        SELECT parent_id FROM edges WHERE child_id = u.node_id OFFSET 0) e WHERE u.node_id < 0)
SELECT child_id, node_id FROM up WHERE node_id > 0 ORDER BY child_id, node_id;

-- name: live_parent_ids
WITH RECURSIVE up (node_id) AS (
    SELECT parent_id FROM edges WHERE child_id = :child_id
    UNION
    SELECT e.parent_id FROM up u CROSS JOIN LATERAL (
        SELECT parent_id FROM edges WHERE child_id = u.node_id OFFSET 0) e WHERE u.node_id < 0)
SELECT task_id FROM tasks
 WHERE task_id = ANY (ARRAY(SELECT u.node_id FROM up u WHERE u.node_id > 0)) AND finished_at IS NULL
 ORDER BY task_id;

-- name: bodies_bytes
SELECT i.task_id,
       COALESCE((SELECT LENGTH(p.payload) FROM task_payloads p WHERE p.task_id = i.task_id), 0)
       + COALESCE((SELECT LENGTH(r.result) FROM task_results r WHERE r.task_id = i.task_id), 0)
  FROM (SELECT CAST(value AS BIGINT) AS task_id FROM json_array_elements_text(CAST(:task_ids AS json))) i;

-- name: task_views
SELECT t.task_id, t.type, p.payload, t.status, t.priority, t.tags, t.attempt, t.failures, t.crashes, t.releases,
       t.max_retries, t.crash_limit, t.timeout_seconds, w.name, w.worker_id, t.progress, t.message,
       r.result, COALESCE(r.error, a.error), t.created_at, t.run_at, t.started_at, t.finished_at,
       CASE t.status WHEN 'completed' THEN COALESCE(t.resumed_seconds, 0) + r.seconds ELSE t.saved_seconds END,
       t.resumed_seconds, t.queue, t.deadline_at, t.stall_seconds, t.unique_key, t.limit_key,
       t.flow_id, n.key, t.kin
  FROM tasks t
  LEFT JOIN LATERAL (SELECT key FROM nodes WHERE node_id = t.task_id OFFSET 0) n ON true
  LEFT JOIN LATERAL (SELECT payload FROM task_payloads WHERE task_id = t.task_id OFFSET 0) p ON true
  LEFT JOIN LATERAL (SELECT name, worker_id FROM workers WHERE worker_key = t.worker_key OFFSET 0) w ON true
  LEFT JOIN LATERAL (SELECT result, error, seconds FROM task_results WHERE task_id = t.task_id OFFSET 0) r ON true
  LEFT JOIN LATERAL (
       SELECT error FROM attempts WHERE task_id = t.task_id AND attempt = t.attempt OFFSET 0) a ON true
 WHERE t.task_id = ANY (ARRAY(SELECT CAST(value AS BIGINT) FROM json_array_elements_text(CAST(:task_ids AS json))));

-- name: add_count!
INSERT INTO task_counts (shard, queue, type, status, n)
SELECT :shard, value ->> 0, value ->> 1, value ->> 2, CAST(value ->> 3 AS BIGINT)
  FROM json_array_elements(CAST(:rows AS json))
ON CONFLICT (shard, queue, type, status) DO UPDATE SET n = task_counts.n + excluded.n;

-- name: descendants
WITH RECURSIVE doomed (node_id) AS (
    SELECT CAST(:node_id AS BIGINT)
    UNION
    SELECT c.child_id FROM doomed d CROSS JOIN LATERAL (
        SELECT e.child_id FROM edges e
         WHERE e.parent_id = d.node_id
           AND (SELECT (n.kind = 'join' OR n.run_if = 'all_completed')
                       AND COALESCE(n.status, (SELECT t.status FROM tasks t WHERE t.task_id = n.node_id)) = 'blocked'
                  FROM nodes n WHERE n.node_id = e.child_id)
        OFFSET 0) c)
SELECT d.node_id FROM doomed d
 WHERE d.node_id <> :node_id AND (SELECT n.kind <> 'join' FROM nodes n WHERE n.node_id = d.node_id);
