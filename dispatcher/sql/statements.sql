-- Every statement, by name. Suffix: none = rows, ^ = one row, $ = one value, ! = nothing, *! = nothing, and
-- once per row of the columns given. Where many tasks move at once, a
-- single statement takes :rows, a JSON array of arrays (see transaction.encoded): half the time of a
-- statement per row, and the interpreter is free for other threads meanwhile. Times arrive as :now (wall
-- clock) and :lease_now (lease clock). "The fence" is task_id, attempt and lease_id of the current
-- grant, together with status = 'in-progress': without it a late report would change the task. There
-- (status || '') keeps PostgreSQL from looking for the one row among all that are in progress.
-- Where one name has a SELECT and an UPDATE, the rows of the first are those that the second changes:
-- SQLite pays for RETURNING as much as for the change itself, and nobody comes between the two.

-- ---------------------------------------------------------------- submit

-- name: fresh_task_ids
-- :n ids that were never given before, ascending, as ranges (first, last).
UPDATE sqlite_sequence SET seq = seq + :n WHERE name = 'tasks' RETURNING seq - :n + 1, seq;

-- name: submit!
-- New tasks that are alike, blocked, scheduled or pending. :task_ids a JSON array.
INSERT INTO tasks (task_id, type, status, priority, created_at, run_at,
                   max_retries, crash_limit, timeout_seconds, backoff, tags, queue, flow_id, kin, waiting)
SELECT value, :type, :status, :priority, :now, :run_at,
       :max_retries, :crash_limit, :timeout_seconds, :backoff, :tags, :queue, :flow_id, :kin, :waiting
  FROM json_each(:task_ids);

-- name: restrict*!
-- What few of them have: until when they may start, when they hang, and keys.
UPDATE tasks SET deadline_at = :deadline_at, stall_seconds = :stall_seconds, unique_key = :unique_key,
       limit_key = :limit_key WHERE task_id = :task_id;

-- name: live_with_key^
-- The one live task with a unique key.
SELECT task_id, status FROM tasks
 WHERE unique_key = :unique_key AND unique_key IS NOT NULL
   AND status IN ('blocked', 'scheduled', 'pending', 'in-progress');

-- name: add_payload*!
INSERT INTO task_payloads (task_id, payload) VALUES (:task_id, :payload);

-- name: add_tag*!
INSERT INTO task_tags (tag, task_id) VALUES (:tag, :task_id);

-- ---------------------------------------------------------------- requests that come again

-- name: answer_of_key^
-- What was answered to a request that came with this Idempotency-Key.
SELECT body_hash, status, answer FROM idempotency WHERE key = :key;

-- name: reserve_key$
-- NULL: somebody has used it before, or does just now and has been waited for.
INSERT INTO idempotency (key, body_hash, status, answer, created_at)
VALUES (:key, :body_hash, 0, :answer, :now) ON CONFLICT (key) DO NOTHING RETURNING key;

-- name: keep_answer!
UPDATE idempotency SET status = :status, answer = :answer WHERE key = :key;

-- name: prune_keys!
-- The oldest :n.
DELETE FROM idempotency WHERE key IN (SELECT key FROM idempotency WHERE created_at < :before
                                       ORDER BY created_at LIMIT :n);

-- ---------------------------------------------------------------- claim

-- name: pending_lanes
-- Lanes (queue and type) that have something pending.
SELECT queue || '/' || type FROM task_counts
 WHERE status = 'pending' GROUP BY queue, type HAVING SUM(n) > 0;

-- name: claim_lanes
-- The same for the claim of a worker, as (its key, are queues or types paused or limited at all, lane or NULL).
-- Nothing if the worker is gone: its request may have been parked for longer than it lived.
SELECT w.worker_key, EXISTS (SELECT 1 FROM pauses) OR EXISTS (SELECT 1 FROM limits WHERE kind IN ('queue', 'type')),
       l.lane
  FROM workers w LEFT JOIN (SELECT queue || '/' || type AS lane FROM task_counts
                             WHERE status = 'pending' GROUP BY queue, type HAVING SUM(n) > 0) l ON 1 = 1
 WHERE w.worker_id = :worker_id AND w.state = 'alive';

-- name: claimable
-- The best pending tasks of a lane, in the order in which they must be claimed.
SELECT -t.priority, t.task_id, t.attempt, t.alone, t.queue || '/' || t.type, t.timeout_seconds,
       t.checkpoint_seq, p.payload, t.limit_key, t.deadline_at, t.stall_seconds, t.kin
  FROM tasks t LEFT JOIN task_payloads p ON p.task_id = t.task_id
 WHERE t.status = 'pending' AND t.place <> 1 AND t.queue = :queue AND t.type = :type
 ORDER BY t.priority DESC, t.task_id LIMIT :n;

-- name: claim!
-- Grants pending tasks: the next attempt, a lease, and where it resumes from. :task_ids a JSON array.
UPDATE tasks SET status = 'in-progress', attempt = attempt + 1, alone = :alone, worker_key = :worker_key,
       lease_id = :lease_id, lease_expires_at = :lease_expires_at, started_at = :now, run_at = NULL,
       resumed_seq = checkpoint_seq, resumed_seconds = saved_seconds
 WHERE task_id IN (SELECT value FROM json_each(:task_ids)) AND status = 'pending';

-- name: resume_point^
-- What a new grant goes on from.
SELECT seq, state, progress, elapsed_seconds, output_chunks FROM checkpoints WHERE task_id = :task_id;

-- ---------------------------------------------------------------- promote, expire

-- name: promote
-- Scheduled tasks whose time has come become pending.
UPDATE tasks SET status = 'pending', run_at = NULL
 WHERE task_id IN (SELECT task_id FROM tasks WHERE status = 'scheduled' AND run_at <= :now
                    ORDER BY run_at LIMIT :n)
   AND status = 'scheduled'
RETURNING queue || '/' || type, task_id, limit_key;

-- name: next_due$
-- When the next scheduled task is due.
SELECT MIN(run_at) FROM tasks WHERE status = 'scheduled';

-- name: next_deadline$
-- When the next task that was not started misses its deadline.
SELECT MIN(deadline_at) FROM tasks WHERE deadline_at IS NOT NULL AND status IN ('scheduled', 'pending');

-- name: overdue
-- Tasks that have missed their deadline without having been started.
SELECT task_id, status, queue || '/' || type, attempt, limit_key FROM tasks
 WHERE deadline_at <= :now AND deadline_at IS NOT NULL AND status IN ('scheduled', 'pending')
 ORDER BY deadline_at LIMIT :n;

-- name: expire*!
-- A task that was not started in time ends.
UPDATE tasks SET status = 'failed', finished_at = :now, run_at = NULL, alone = 0
 WHERE task_id = :task_id AND status IN ('scheduled', 'pending');

-- ---------------------------------------------------------------- limits and pauses

-- name: pauses
SELECT kind, name FROM pauses ORDER BY kind, name;

-- name: known_lanes
-- Queues and types that have, or had, tasks.
SELECT DISTINCT queue, type FROM task_counts;

-- name: lane_limits
-- Limits of queues and types, kept from others until this transaction ends.
SELECT kind, name, max_running, max_starts, per_seconds FROM limits
 WHERE kind IN ('queue', 'type') ORDER BY kind, name;

-- name: limited_lanes
-- Which queues and types have a limit, for those who only look.
SELECT kind, name FROM limits WHERE kind IN ('queue', 'type') ORDER BY kind, name;

-- name: key_limits
-- Limits of keys (:names a JSON array), kept from others until this transaction ends.
SELECT kind, name, max_running, max_starts, per_seconds FROM limits
 WHERE kind = 'key' AND name IN (SELECT value FROM json_each(:names)) ORDER BY kind, name;

-- name: running_in_lanes
SELECT queue, type, CAST(SUM(n) AS BIGINT) FROM task_counts
 WHERE status = 'in-progress' GROUP BY queue, type HAVING SUM(n) > 0;

-- name: running_of_key$
SELECT COUNT(*) FROM tasks WHERE limit_key = :name AND place = 3 AND place > 0;

-- name: starts_in_window^
-- How many were started within a limit's window, and the first of them.
SELECT CAST(COALESCE(SUM(n), 0) AS BIGINT), MIN(started_at) FROM limit_starts
 WHERE kind = :kind AND name = :name AND started_at > :since;

-- name: last_in_way$
-- When the last one was started of those :n that must leave a limit's window, the oldest first.
SELECT started_at FROM (SELECT started_at, SUM(n) OVER (ORDER BY started_at) AS n FROM limit_starts
                         WHERE kind = :kind AND name = :name AND started_at > :since) so_far
 WHERE so_far.n >= :n ORDER BY started_at LIMIT 1;

-- name: add_starts!
INSERT INTO limit_starts (kind, name, started_at, n) VALUES (:kind, :name, :at, :n)
ON CONFLICT (kind, name, started_at) DO UPDATE SET n = limit_starts.n + excluded.n;

-- name: drop_starts!
DELETE FROM limit_starts WHERE kind = :kind AND name = :name AND started_at <= :since;

-- name: set_opening!
UPDATE limits SET opens_at = :opens_at WHERE kind = :kind AND name = :name;

-- name: next_opening$
-- When the window of a limit lets more start (lease clock).
SELECT MIN(opens_at) FROM limits WHERE opens_at IS NOT NULL;

-- name: opening_limits
SELECT kind, name FROM limits WHERE opens_at IS NOT NULL AND opens_at <= :lease_now
 ORDER BY opens_at LIMIT :n;

-- name: place*!
UPDATE tasks SET place = :place WHERE task_id = :task_id;

-- name: next_waiting_lane^
-- The next lane in which tasks of a key wait for a place.
SELECT queue, type FROM tasks
 WHERE limit_key = :name AND place = 1 AND place > 0 AND (queue, type) > (:queue, :type)
 ORDER BY queue, type LIMIT 1;

-- name: admit
-- Of the best :n of a key in a lane those that still wait get a place. Better ones that come later are
-- let in too; a claim decides how many are started.
UPDATE tasks SET place = 2
 WHERE task_id IN (SELECT task_id FROM (
         SELECT * FROM (SELECT task_id, place, priority FROM tasks
                         WHERE limit_key = :name AND place = 1 AND place > 0 AND queue = :queue AND type = :type
                         ORDER BY priority DESC, task_id LIMIT :n) waiting
         UNION ALL
         SELECT * FROM (SELECT task_id, place, priority FROM tasks
                         WHERE limit_key = :name AND place = 2 AND place > 0 AND queue = :queue AND type = :type
                         ORDER BY priority DESC, task_id LIMIT :n) admitted
         ORDER BY 3 DESC, 1 LIMIT :n) best WHERE place = 1)
   AND place = 1
RETURNING task_id;

-- name: admit_any
-- Tasks of a key that wait get a place, whatever their lane.
UPDATE tasks SET place = 2
 WHERE task_id IN (SELECT task_id FROM tasks WHERE limit_key = :name AND place = 1 AND place > 0 LIMIT :n)
   AND place = 1
RETURNING task_id, queue || '/' || type;

-- name: hold_back_any
-- Tasks of a key that might have been claimed wait for a place again.
UPDATE tasks SET place = 1
 WHERE task_id IN (SELECT task_id FROM tasks WHERE limit_key = :name AND place = 2 AND place > 0 LIMIT :n)
   AND place = 2
RETURNING task_id;

-- name: put_limit!
INSERT INTO limits (kind, name, max_running, max_starts, per_seconds, settled, opens_at)
VALUES (:kind, :name, :max_running, :max_starts, :per_seconds, 0, NULL)
ON CONFLICT (kind, name) DO UPDATE SET max_running = excluded.max_running, max_starts = excluded.max_starts,
       per_seconds = excluded.per_seconds, settled = 0, opens_at = NULL;

-- name: lift_limit!
UPDATE limits SET max_running = NULL, max_starts = NULL, per_seconds = NULL, settled = 0, opens_at = NULL
 WHERE kind = :kind AND name = :name;

-- name: settle_limit!
UPDATE limits SET settled = 1 WHERE kind = :kind AND name = :name;

-- name: drop_limit!
DELETE FROM limits WHERE kind = :kind AND name = :name;

-- name: drop_all_starts!
DELETE FROM limit_starts WHERE kind = :kind AND name = :name;

-- name: unsettled_limits
SELECT kind, name FROM limits WHERE settled = 0 ORDER BY kind, name;

-- name: limit^
SELECT kind, name, max_running, max_starts, per_seconds FROM limits
 WHERE kind = :kind AND name = :name AND (max_running IS NOT NULL OR max_starts IS NOT NULL);

-- name: limit_views
SELECT kind, name, max_running, max_starts, per_seconds FROM limits
 WHERE max_running IS NOT NULL OR max_starts IS NOT NULL ORDER BY kind, name;

-- name: pause$
-- NULL, here and below: it was so before.
INSERT INTO pauses (kind, name, paused_at) VALUES (:kind, :name, :now) ON CONFLICT (kind, name) DO NOTHING
RETURNING name;

-- name: resume$
DELETE FROM pauses WHERE kind = :kind AND name = :name RETURNING name;

-- ---------------------------------------------------------------- renew, readopt

-- name: held_by
-- The grants that a worker holds, as the database sees it.
SELECT task_id, attempt, lease_id, running, missing_since, lease_expires_at, progress, message
  FROM tasks WHERE status = 'in-progress' AND worker_key = :worker_key;

-- name: renew*!
-- Fenced: the lease runs on, and what its worker says of the task is noted.
UPDATE tasks SET lease_expires_at = :lease_expires_at, running = :running, missing_since = NULL,
       progress = COALESCE(:progress, progress), message = COALESCE(:message, message)
 WHERE task_id = :task_id AND attempt = :attempt AND lease_id = :lease_id AND (status || '') = 'in-progress';

-- name: miss*!
-- Fenced: the worker's list lacks this grant since now.
UPDATE tasks SET missing_since = :lease_now
 WHERE task_id = :task_id AND attempt = :attempt AND lease_id = :lease_id AND (status || '') = 'in-progress';

-- name: hand_over$
-- Fenced: a restarted worker holds what its predecessor finished.
UPDATE tasks SET worker_key = :worker_key, missing_since = NULL, lease_expires_at = :lease_expires_at
 WHERE task_id = :task_id AND attempt = :attempt AND lease_id = :lease_id AND (status || '') = 'in-progress'
RETURNING task_id;

-- name: ended_grants
-- Which of these grants have ended for good: :rows of (task_id, lease_id).
SELECT r.task_id, r.lease_id, r.attempt, 'completed'
  FROM jsonb_each(:rows) g CROSS JOIN task_results r
 WHERE r.task_id = g.value ->> 0 AND r.lease_id = g.value ->> 1
UNION ALL
SELECT a.task_id, a.lease_id, a.attempt, a.outcome
  FROM jsonb_each(:rows) g CROSS JOIN attempts a
 WHERE a.task_id = g.value ->> 0 AND a.lease_id = g.value ->> 1 AND a.outcome <> 'reclaimed';

-- name: current_attempt$
-- The attempt that a lease was granted for, whether it runs or has ended.
SELECT attempt FROM tasks WHERE task_id = :task_id AND lease_id = :lease_id
UNION ALL
SELECT attempt FROM task_results WHERE task_id = :task_id AND lease_id = :lease_id
UNION ALL
SELECT attempt FROM attempts WHERE task_id = :task_id AND lease_id = :lease_id
 ORDER BY attempt DESC LIMIT 1;

-- name: readopt^
-- A reclaimed grant that nobody has claimed since goes on; the record of its reclaim is undone next.
UPDATE tasks SET status = 'in-progress', worker_key = :worker_key, lease_id = :lease_id,
       lease_expires_at = :lease_expires_at, run_at = NULL, missing_since = NULL, running = :running,
       crashes = tasks.crashes - a.counted, alone = a.alone
  FROM attempts a
 WHERE tasks.task_id = :task_id AND tasks.attempt = :attempt AND tasks.status IN ('pending', 'scheduled')
   AND tasks.status = :status
   AND a.task_id = :task_id AND a.attempt = :attempt AND a.lease_id = :lease_id AND a.outcome = 'reclaimed'
   AND (tasks.revived_attempt IS NULL OR tasks.revived_attempt < tasks.attempt)
RETURNING tasks.queue || '/' || tasks.type, COALESCE(tasks.saved_seconds, 0) - COALESCE(tasks.resumed_seconds, 0);

-- name: forget_reclaim^
-- The second half of readopt: the attempt has not ended after all.
DELETE FROM attempts
 WHERE task_id = :task_id AND attempt = :attempt AND lease_id = :lease_id AND outcome = 'reclaimed'
RETURNING lost_seconds;

-- ---------------------------------------------------------------- checkpoint

-- name: checkpoint^
-- Fenced, and only a greater seq: the task's memory moves on, and its crashes are forgiven.
UPDATE tasks SET checkpoint_seq = :seq, saved_seconds = :elapsed_seconds, crashes = 0,
       progress = COALESCE(:progress, progress)
 WHERE task_id = :task_id AND attempt = :attempt AND lease_id = :lease_id AND (status || '') = 'in-progress'
   AND (checkpoint_seq IS NULL OR checkpoint_seq < :seq)
RETURNING task_id;

-- name: store_checkpoint^
-- Keeps the body of the checkpoint just fenced; answers how many output chunks there are now.
INSERT INTO checkpoints (task_id, attempt, seq, state, progress, elapsed_seconds, output_chunks, saved_at)
VALUES (:task_id, :attempt, :seq, :state, :progress, :elapsed_seconds, :chunks, :now)
ON CONFLICT (task_id) DO UPDATE SET attempt = excluded.attempt, seq = excluded.seq, state = excluded.state,
       progress = excluded.progress, elapsed_seconds = excluded.elapsed_seconds, saved_at = excluded.saved_at,
       output_chunks = checkpoints.output_chunks + excluded.output_chunks
RETURNING output_chunks;

-- name: append_output*!
INSERT INTO task_outputs (task_id, chunk_index, body) VALUES (:task_id, :chunk_index, :body);

-- ---------------------------------------------------------------- the end of an attempt

-- name: complete
-- Fenced: tasks of one attempt and lease end with results. :rows of (task_id, seconds, cached, result).
SELECT task_id, queue || '/' || type, resumed_seconds, checkpoint_seq, limit_key, flow_id, kin FROM tasks
 WHERE task_id IN (SELECT value ->> 0 FROM jsonb_each(:rows)) AND attempt = :attempt AND lease_id = :lease_id
   AND status = 'in-progress';
UPDATE tasks SET status = 'completed', finished_at = :now, lease_id = NULL, lease_expires_at = NULL,
       missing_since = NULL, running = 0, alone = 0, progress = 1, message = NULL
 WHERE task_id IN (SELECT value ->> 0 FROM jsonb_each(:rows)) AND attempt = :attempt AND lease_id = :lease_id
   AND status = 'in-progress';

-- name: record_results!
-- Results of tasks just completed; :rows as for complete, the winners only.
INSERT INTO task_results (task_id, attempt, lease_id, seconds, cached, result)
SELECT value ->> 0, :attempt, :lease_id, value ->> 1, value ->> 2, CAST(value ->> 3 AS BLOB) FROM jsonb_each(:rows);

-- name: held^
-- Fenced: what must be known to decide how an attempt ends.
SELECT task_id, attempt, lease_id, queue || '/' || type, worker_key, started_at, failures, crashes, releases, alone, running,
       max_retries, crash_limit, backoff, resumed_seq, resumed_seconds, checkpoint_seq, saved_seconds, limit_key
  FROM tasks
 WHERE task_id = :task_id AND attempt = :attempt AND lease_id = :lease_id AND (status || '') = 'in-progress';

-- name: end_attempt^
-- Fenced: fail, crash, release, reclaim and cancel differ only in what they leave behind. Its message stays with a
-- task that ends with the attempt; the next attempt has its own. A deadline that was kept binds no more.
UPDATE tasks SET status = :status, run_at = :run_at, finished_at = :finished_at, failures = :failures,
       crashes = :crashes, releases = :releases, alone = :alone, lease_id = NULL, lease_expires_at = NULL,
       missing_since = NULL, running = 0,
       progress = (SELECT c.progress FROM checkpoints c WHERE c.task_id = tasks.task_id),
       message = CASE WHEN CAST(:status AS TEXT) IN ('failed', 'cancelled') THEN message END,
       deadline_at = CASE WHEN :kept_deadline = 0 THEN deadline_at END
 WHERE task_id = :task_id AND attempt = :attempt AND lease_id = :lease_id AND (status || '') = 'in-progress'
RETURNING flow_id, kin;

-- name: record_attempt!
-- History: one row when an attempt ends that did not complete its task.
INSERT INTO attempts (task_id, attempt, worker_key, lease_id, outcome, started_at, finished_at,
                      elapsed_seconds, resumed_seq, lost_seconds, alone, counted, error)
VALUES (:task_id, :attempt, :worker_key, :lease_id, :outcome, :started_at, :now,
        :elapsed_seconds, :resumed_seq, :lost_seconds, :alone, :counted, :error);

-- name: record_error*!
-- The recorded outcome of a task that ended without a result.
INSERT INTO task_results (task_id, attempt, error, error_type)
VALUES (:task_id, :attempt, :error, :error_type);

-- name: drop_checkpoint*!
DELETE FROM checkpoints WHERE task_id = :task_id;

-- name: attempt_end^
-- How an attempt ended, to tell the repeat of a report from a contradiction.
SELECT lease_id, 'completed', NULL, result FROM task_results
 WHERE task_id = :task_id AND attempt = :attempt AND lease_id IS NOT NULL
UNION ALL
SELECT lease_id, outcome, error, NULL FROM attempts WHERE task_id = :task_id AND attempt = :attempt;

-- ---------------------------------------------------------------- reclaim

-- name: silent_workers
-- Workers not heard of since :before (lease clock).
SELECT worker_key, worker_id, name, last_heartbeat, last_heartbeat_at FROM workers
 WHERE state IN ('alive', 'paused', 'draining') AND last_heartbeat < :before;

-- name: lose_worker^
-- Decided again inside the transaction: only if it has not been heard of since.
UPDATE workers SET state = 'dead', gone_at = :now
 WHERE worker_key = :worker_key AND state IN ('alive', 'paused', 'draining') AND last_heartbeat < :before
RETURNING worker_key;

-- name: last_heard$
SELECT last_heartbeat_at FROM workers WHERE worker_key = :worker_key;

-- name: held_of_worker
-- The fences of everything a worker holds.
SELECT task_id, attempt, lease_id FROM tasks
 WHERE status = 'in-progress' AND worker_key = :worker_key ORDER BY task_id;

-- name: expired_leases
-- Grants whose lease is over although their worker lives.
SELECT t.task_id, t.attempt, t.lease_id FROM tasks t
 WHERE t.status = 'in-progress' AND t.lease_expires_at < :lease_now ORDER BY +t.task_id LIMIT :n;

-- ---------------------------------------------------------------- cancel, revive

-- name: task_state^
SELECT status, queue || '/' || type, attempt, lease_id, worker_key, limit_key, place, unique_key
  FROM tasks WHERE task_id = :task_id;

-- name: cancel^
-- A task that waits, as :status, ends; one that runs is ended by end_attempt.
UPDATE tasks SET status = 'cancelled', finished_at = :now, run_at = NULL, waiting = 0
 WHERE task_id = :task_id AND status = :status AND status IN ('blocked', 'scheduled', 'pending')
RETURNING task_id, flow_id, kin;

-- name: revive^
-- A failed or cancelled task, as :status, gets a second life; its attempts are counted on.
UPDATE tasks SET status = 'pending', finished_at = NULL, run_at = NULL, failures = 0, crashes = 0, alone = 0,
       message = NULL, revived_attempt = attempt,
       deadline_at = CASE WHEN deadline_at <= :now THEN NULL ELSE deadline_at END
 WHERE task_id = :task_id AND status = :status AND status IN ('failed', 'cancelled')
RETURNING task_id;

-- name: drop_results*!
DELETE FROM task_results WHERE task_id = :task_id;

-- name: drop_payload*!
DELETE FROM task_payloads WHERE task_id = :task_id;

-- name: drop_output*!
DELETE FROM task_outputs WHERE task_id = :task_id;

-- name: restart!
-- Forget the checkpoint of a task that begins again from scratch.
UPDATE tasks SET checkpoint_seq = NULL, saved_seconds = NULL, progress = NULL
 WHERE task_id = :task_id;

-- ---------------------------------------------------------------- dead letters by filter

-- name: dead_above
-- What the tasks :node_ids depend on, through forks, joins and dead letters after an id: those of these dead letters
-- that a filter wants.
WITH RECURSIVE up (node_id) AS (
    SELECT e.parent_id FROM json_each(:node_ids) i JOIN edges e ON e.child_id = i.value
    UNION
    SELECT e.parent_id FROM up u JOIN edges e ON e.child_id = u.node_id
     WHERE u.node_id < 0
        OR (u.node_id > :after AND (SELECT t.finished_at FROM tasks t WHERE t.task_id = u.node_id) IS NOT NULL))
SELECT t.task_id FROM up u CROSS JOIN tasks t
 WHERE t.task_id = u.node_id AND t.task_id > :after AND t.status IN ('failed', 'cancelled')
   AND (CAST(:status AS TEXT) IS NULL OR t.status = :status)
   AND (CAST(:type AS TEXT) IS NULL OR t.type = :type) AND (CAST(:queue AS TEXT) IS NULL OR t.queue = :queue)
   AND (CAST(:tag AS TEXT) IS NULL
        OR EXISTS (SELECT 1 FROM task_tags g WHERE g.tag = :tag AND g.task_id = t.task_id))
   AND (CAST(:error_type AS TEXT) IS NULL
        OR EXISTS (SELECT 1 FROM task_results r WHERE r.task_id = t.task_id AND r.error_type = :error_type))
 ORDER BY t.task_id;

-- name: ended_ids
-- Ended tasks after an id, as a filter wants them: found by readers, decided on again by the writer.
SELECT task_id FROM tasks
 WHERE task_id > :after AND finished_at IS NOT NULL AND (CAST(:status AS TEXT) IS NULL OR status = :status)
   AND (CAST(:type AS TEXT) IS NULL OR type = :type) AND (CAST(:queue AS TEXT) IS NULL OR queue = :queue)
 ORDER BY task_id LIMIT :n;

-- name: ended_ids_dead
-- The same for one kind of dead letters.
SELECT task_id FROM tasks
 WHERE status IN ('failed', 'cancelled') AND status = :status AND task_id > :after
   AND (CAST(:type AS TEXT) IS NULL OR type = :type) AND (CAST(:queue AS TEXT) IS NULL OR queue = :queue)
 ORDER BY task_id LIMIT :n;

-- name: ended_ids_with_error
-- The same for those with an error of one type.
SELECT t.task_id FROM task_results r JOIN tasks t ON t.task_id = r.task_id
 WHERE r.error_type = :error_type AND r.error_type IS NOT NULL AND r.task_id > :after
   AND (CAST(:status AS TEXT) IS NULL OR t.status = :status)
   AND (CAST(:type AS TEXT) IS NULL OR t.type = :type) AND (CAST(:queue AS TEXT) IS NULL OR t.queue = :queue)
 ORDER BY r.task_id LIMIT :n;

-- name: ended_ids_with_tag
SELECT t.task_id FROM task_tags g JOIN tasks t ON t.task_id = g.task_id
  LEFT JOIN task_results r ON r.task_id = t.task_id
 WHERE g.tag = :tag AND g.task_id > :after AND t.finished_at IS NOT NULL
   AND (CAST(:error_type AS TEXT) IS NULL OR r.error_type = :error_type)
   AND (CAST(:status AS TEXT) IS NULL OR t.status = :status)
   AND (CAST(:type AS TEXT) IS NULL OR t.type = :type) AND (CAST(:queue AS TEXT) IS NULL OR t.queue = :queue)
 ORDER BY g.task_id LIMIT :n;

-- ---------------------------------------------------------------- prune, drop

-- name: something_old$
-- Is there anything that prune would remove?
SELECT EXISTS (SELECT 1 FROM tasks WHERE finished_at IS NOT NULL AND finished_at < :before)
    OR EXISTS (SELECT 1 FROM workers WHERE gone_at < :before)
    OR EXISTS (SELECT 1 FROM completions WHERE second < :before)
    OR EXISTS (SELECT 1 FROM schedule_slots WHERE fired_at < :before)
    OR EXISTS (SELECT 1 FROM idempotency WHERE created_at < :keys_before);

-- name: prunable
-- The next :n tasks, from one on, in the order in which they ended, that ended before :before, and whether each may go:
-- not before all of its flow, and whatever depends on it, ended before :before, too.
SELECT t.finished_at, t.task_id,
       (t.flow_id IS NULL OR (SELECT SUM(c.n) = 0 AND MAX(c.changed_at) < :before FROM flow_counts c
                               WHERE c.flow_id = t.flow_id AND c.status = 'live'))
       AND (t.kin IS NULL OR (SELECT 1 FROM edges e WHERE e.parent_id = t.task_id
                                 AND (SELECT k.finished_at IS NULL OR k.finished_at >= :before FROM tasks k
                                       WHERE k.task_id = e.child_id)
                               LIMIT 1) IS NULL)
  FROM tasks t
 WHERE t.finished_at IS NOT NULL AND t.finished_at < :before AND t.finished_at >= :ended
   AND (t.finished_at > :ended OR t.task_id > :task_id)
 ORDER BY t.finished_at, t.task_id LIMIT :n;

-- name: droppable
-- Of these tasks (:task_ids a JSON array) those that ended before :before; none whose flow or whose child still lives.
SELECT t.task_id, t.queue || '/' || t.type, t.status, t.flow_id, t.kin FROM tasks t
 WHERE t.task_id IN (SELECT value FROM json_each(:task_ids)) AND t.finished_at < :before
   AND (t.flow_id IS NULL OR (SELECT SUM(c.n) FROM flow_counts c
                               WHERE c.flow_id = t.flow_id AND c.status = 'live') = 0)
   AND (t.kin IS NULL OR (SELECT 1 FROM edges e WHERE e.parent_id = t.task_id
                              AND (SELECT k.finished_at IS NULL FROM tasks k WHERE k.task_id = e.child_id)
                            LIMIT 1) IS NULL)
 ORDER BY t.task_id;

-- name: drop_task*!
DELETE FROM tasks WHERE task_id = :task_id;

-- name: drop_attempts*!
DELETE FROM attempts WHERE task_id = :task_id;

-- name: drop_logs*!
DELETE FROM task_logs WHERE task_id = :task_id;

-- name: tags_of$
SELECT tags FROM tasks WHERE task_id = :task_id;

-- name: drop_tag*!
DELETE FROM task_tags WHERE tag = :tag AND task_id = :task_id;

-- name: prune_workers!
DELETE FROM workers WHERE gone_at < :before;

-- name: prune_completions!
DELETE FROM completions WHERE second < :before;

-- ---------------------------------------------------------------- logs

-- name: add_log_line*!
INSERT INTO task_logs (task_id, attempt, at, level, message)
VALUES (:task_id, :attempt, :at, :level, :message);

-- name: trim_log!
-- Only the newest :n lines of an attempt are kept.
DELETE FROM task_logs WHERE task_id = :task_id AND attempt = :attempt AND line_id <=
       (SELECT line_id FROM task_logs WHERE task_id = :task_id AND attempt = :attempt
         ORDER BY line_id DESC LIMIT 1 OFFSET :n);

-- name: log_page
SELECT line_id, attempt, at, level, message FROM task_logs
 WHERE task_id = :task_id AND line_id > :after AND (CAST(:attempt AS BIGINT) IS NULL OR attempt = :attempt)
 ORDER BY line_id LIMIT :n;

-- ---------------------------------------------------------------- workers

-- name: worker^
-- Kept from others until this transaction ends.
SELECT worker_key, state, name, types, ordered FROM workers WHERE worker_id = :worker_id;

-- name: hear_worker^
-- Any message counts as a heartbeat; an unknown worker registers itself.
INSERT INTO workers (worker_id, name, host, pid, slots, types, queues, threads, state,
                     last_heartbeat, last_heartbeat_at, gone_at)
VALUES (:worker_id, :name, :host, :pid, :slots, :types, :queues, :threads, :state, :lease_now, :now, :gone_at)
ON CONFLICT (worker_id) DO UPDATE SET name = excluded.name, host = excluded.host, pid = excluded.pid,
       slots = excluded.slots, types = excluded.types, queues = excluded.queues, threads = excluded.threads,
       state = excluded.state,
       last_heartbeat = excluded.last_heartbeat, last_heartbeat_at = excluded.last_heartbeat_at,
       gone_at = excluded.gone_at
RETURNING worker_key;

-- name: touch_worker!
-- A heartbeat of a worker that said before who it is.
UPDATE workers SET state = :state, last_heartbeat = :lease_now, last_heartbeat_at = :now, gone_at = :gone_at
 WHERE worker_key = :worker_key;

-- name: order_worker!
-- What an operator wants of a worker that lives: it hears it with its next message, and keeps to it.
UPDATE workers SET ordered = :ordered, state = :state
 WHERE worker_key = :worker_key AND state IN ('alive', 'paused', 'draining');

-- name: forget_worker^
DELETE FROM workers WHERE worker_key = :worker_key AND state IN ('dead', 'stopped') RETURNING worker_key;

-- name: announced_types
-- What the workers of the last day announced; NULL: a live one takes every type.
SELECT types FROM workers WHERE types IS NOT NULL OR state = 'alive';

-- ---------------------------------------------------------------- counts, clock, a copy

-- name: add_count!
-- :rows of (queue, type, status, n), each lane and status once. (Without WHERE, SQLite reads ON as a join's.)
INSERT INTO task_counts (shard, queue, type, status, n)
SELECT :shard, value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM jsonb_each(:rows) WHERE 1 = 1
ON CONFLICT (shard, queue, type, status) DO UPDATE SET n = task_counts.n + excluded.n;

-- name: add_completions!
INSERT INTO completions (second, shard, n) VALUES (:second, :shard, :n)
ON CONFLICT (second, shard) DO UPDATE SET n = completions.n + excluded.n;

-- name: add_work*!
INSERT INTO work_totals (shard, kind, seconds) VALUES (:shard, :kind, :seconds)
ON CONFLICT (shard, kind) DO UPDATE SET seconds = work_totals.seconds + excluded.seconds;

-- name: save_lease_clock!
UPDATE lease_clock SET lease_now = :lease_now WHERE one = 1;

-- name: lease_clock$
SELECT lease_now FROM lease_clock WHERE one = 1;

-- name: copy_unfinished$
-- Has a copy into this database begun and not come to its end?
SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'unfinished_copy');

-- ---------------------------------------------------------------- the leader among several dispatchers

-- name: take_term$
-- Lead from now on, if nobody does or the leader has not renewed its term since :before.
UPDATE leader SET term = term + 1, holder = :holder, renewed_at = :now
 WHERE one = 1 AND (holder = '' OR renewed_at < :before) RETURNING term;

-- name: renew_term$
UPDATE leader SET renewed_at = :now WHERE one = 1 AND term = :term RETURNING term;

-- name: give_up_term!
UPDATE leader SET holder = '' WHERE one = 1 AND term = :term;

-- name: present_term$
-- The term in force, which cannot change before this transaction ends.
SELECT term FROM leader WHERE one = 1;

-- ---------------------------------------------------------------- relatives: flows and depends_on

-- name: add_flow$
INSERT INTO flows (name, created_at) VALUES (:name, :now) RETURNING flow_id;

-- name: add_nodes!
-- :rows of (node_id, kind, key, position, run_if, waiting, status, counted).
INSERT INTO nodes (node_id, flow_id, kind, key, position, run_if, waiting, status, counted)
SELECT value ->> 0, :flow_id, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6,
       value ->> 7
  FROM jsonb_each(:rows);

-- name: add_edges!
-- :rows of (child_id, parent_id, key, position).
INSERT INTO edges (child_id, parent_id, key, position)
SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM jsonb_each(:rows);

-- name: add_fan_out!
INSERT INTO fan_outs (fork_id, join_id, source_id, run_at, deadline_at, task)
VALUES (:fork_id, :join_id, :source_id, :run_at, :deadline_at, :task);

-- name: add_flow_count*!
INSERT INTO flow_counts (flow_id, status, shard, n, changed_at) VALUES (:flow_id, :status, :shard, :n, :now)
ON CONFLICT (flow_id, status, shard) DO UPDATE SET n = flow_counts.n + excluded.n, changed_at = excluded.changed_at;

-- name: mark_parent$
-- A task that is there gets a child. Its row is ours now: it cannot end before the edge is stored.
UPDATE tasks SET kin = COALESCE(kin, 0) | 2 WHERE task_id = :task_id RETURNING status;

-- name: relatives^
-- What is asked only when a task ends or lives again in an uncommon way.
SELECT flow_id, kin FROM tasks WHERE task_id = :task_id AND (flow_id IS NOT NULL OR kin IS NOT NULL);

-- name: children$
-- The child of each edge from one of these nodes, as a JSON array (:node_ids too, as below).
SELECT json_group_array(e.child_id) FROM json_each(:node_ids) i JOIN edges e ON e.parent_id = i.value;

-- name: count_down
-- So many parents of each task have ended. After the last of them it may run, or waits for its time.
-- Those that are alike now, as (lane, status, limit_key, first run_at, JSON array of ids).
SELECT t.queue || '/' || t.type,
       CASE WHEN t.waiting > :n THEN 'blocked' WHEN t.run_at > :now THEN 'scheduled' ELSE 'pending' END,
       t.limit_key, MIN(t.run_at), json_group_array(t.task_id)
  FROM json_each(:node_ids) i CROSS JOIN tasks t ON t.task_id = i.value WHERE t.status = 'blocked' GROUP BY 1, 2, 3;
UPDATE tasks SET waiting = waiting - :n,
       status = CASE WHEN waiting > :n THEN 'blocked' WHEN run_at > :now THEN 'scheduled' ELSE 'pending' END,
       run_at = CASE WHEN waiting > :n OR run_at > :now THEN run_at END
 WHERE task_id IN (SELECT value FROM json_each(:node_ids)) AND status = 'blocked';

-- name: count_down_nodes
-- The same for forks and joins; what becomes of those that wait no more is decided elsewhere.
UPDATE nodes SET waiting = waiting - :n
 WHERE node_id IN (SELECT value FROM json_each(:node_ids)) AND waiting > 0
RETURNING node_id, waiting, kind;

-- name: count_up!
-- So many parents of each task live again: if it is still blocked, it waits for as many more.
UPDATE tasks SET waiting = waiting + :n
 WHERE task_id IN (SELECT value FROM json_each(:node_ids)) AND status = 'blocked';

-- name: count_up_nodes
-- The same for forks and joins. A join that had ended waits again: it lives as long as one of its parts.
UPDATE nodes SET waiting = waiting + :n, status = 'blocked'
 WHERE node_id IN (SELECT value FROM json_each(:node_ids)) AND (waiting > 0 OR kind = 'join')
RETURNING node_id, waiting;

-- name: ended_forks
-- Of these parts.
SELECT node_id FROM nodes
 WHERE node_id IN (SELECT e.parent_id FROM json_each(:node_ids) i JOIN edges e ON e.child_id = i.value)
   AND kind = 'fork' AND status <> 'blocked'
 ORDER BY +node_id;

-- name: reopen_fork$
-- NULL: it waits already.
UPDATE nodes SET status = 'blocked', waiting = :waiting WHERE node_id = :node_id AND status <> 'blocked'
RETURNING node_id;

-- name: descendants
-- What must not run because a parent did not complete. A join is passed through: it ends with its parts.
-- The status of a task is looked up row by row: as a join, PostgreSQL might walk all nodes in each step.
WITH RECURSIVE doomed (node_id) AS (
    SELECT e.child_id FROM edges e JOIN nodes n ON n.node_id = e.child_id
     WHERE e.parent_id = :node_id AND (n.kind = 'join' OR n.run_if = 'all_completed')
       AND COALESCE(n.status, (SELECT t.status FROM tasks t WHERE t.task_id = e.child_id)) = 'blocked'
    UNION
    SELECT e.child_id FROM doomed d JOIN edges e ON e.parent_id = d.node_id JOIN nodes n ON n.node_id = e.child_id
     WHERE (n.kind = 'join' OR n.run_if = 'all_completed')
       AND COALESCE(n.status, (SELECT t.status FROM tasks t WHERE t.task_id = e.child_id)) = 'blocked')
SELECT d.node_id FROM doomed d JOIN nodes n ON n.node_id = d.node_id WHERE n.kind <> 'join';

-- name: cancel_forks
-- Forks of fan-outs that will not run.
UPDATE nodes SET waiting = 0, status = 'cancelled'
 WHERE node_id IN (SELECT value FROM json_each(:node_ids)) AND kind = 'fork' AND waiting > 0
RETURNING node_id;

-- name: cancel_blocked
UPDATE tasks SET status = 'cancelled', finished_at = :now, run_at = NULL, waiting = 0
 WHERE task_id IN (SELECT value FROM json_each(:node_ids)) AND status = 'blocked'
RETURNING task_id, queue || '/' || type, attempt, flow_id, kin, limit_key;

-- name: end_node!
-- A fork or a join ends.
UPDATE nodes SET waiting = 0, status = :status, error = :error WHERE node_id = :node_id;

-- name: node^
SELECT flow_id, kind, key, position, counted, status, error FROM nodes WHERE node_id = :node_id;

-- name: parts_ended^
-- One that failed, and one that was cancelled, of what a join has waited for.
SELECT MIN(CASE WHEN status = 'failed' THEN parent_id END), MIN(CASE WHEN status = 'cancelled' THEN parent_id END)
  FROM (SELECT e.parent_id, COALESCE((SELECT t.status FROM tasks t WHERE t.task_id = e.parent_id),
                                     (SELECT n.status FROM nodes n WHERE n.node_id = e.parent_id)) AS status
          FROM edges e WHERE e.child_id = :node_id) parts;

-- name: fan_out^
SELECT join_id, source_id, run_at, deadline_at, task FROM fan_outs WHERE fork_id = :fork_id;

-- name: result_of$
SELECT result FROM task_results WHERE task_id = :task_id;

-- name: widen!
-- The join of a fan-out learns how many parts there are.
UPDATE nodes SET waiting = waiting + :n, counted = 0 WHERE node_id = :node_id;

-- name: edges_above$
-- As a JSON array of (child_id, position, key, parent_id).
SELECT json_group_array(json_array(e.child_id, e.position, e.key, e.parent_id))
  FROM json_each(:node_ids) i JOIN edges e ON e.child_id = i.value;

-- name: ends
-- What children see of their parents.
SELECT t.task_id, t.status, r.result, r.error
  FROM json_each(:node_ids) i CROSS JOIN tasks t LEFT JOIN task_results r ON r.task_id = t.task_id
 WHERE t.task_id = i.value;

-- name: ends_bytes
-- About how many bytes that is.
SELECT task_id, 64 + COALESCE(LENGTH(result), 0) + COALESCE(LENGTH(error), 0)
  FROM json_each(:node_ids) i CROSS JOIN task_results r
 WHERE r.task_id = i.value;

-- name: parents_bytes$
-- The same of all that a fork or a join has waited for.
WITH RECURSIVE up (node_id) AS (
    SELECT parent_id FROM edges WHERE child_id = :child_id
    UNION
    SELECT e.parent_id FROM up u JOIN edges e ON e.child_id = u.node_id WHERE u.node_id < 0)
SELECT CAST(COALESCE(SUM(64 + COALESCE(LENGTH(r.result), 0) + COALESCE(LENGTH(r.error), 0)), 0) AS BIGINT)
  FROM up u LEFT JOIN task_results r ON r.task_id = u.node_id;

-- name: parent_ids
-- (task, one that it depends on), through forks and joins.
WITH RECURSIVE up (child_id, node_id) AS (
    SELECT i.value, e.parent_id FROM json_each(:node_ids) i JOIN edges e ON e.child_id = i.value
    UNION
    SELECT u.child_id, e.parent_id FROM up u JOIN edges e ON e.child_id = u.node_id WHERE u.node_id < 0)
SELECT child_id, node_id FROM up WHERE node_id > 0 ORDER BY child_id, node_id;

-- name: live_parent_ids
-- Those of them that have not ended.
WITH RECURSIVE up (node_id) AS (
    SELECT parent_id FROM edges WHERE child_id = :child_id
    UNION
    SELECT e.parent_id FROM up u JOIN edges e ON e.child_id = u.node_id WHERE u.node_id < 0)
SELECT t.task_id FROM up u CROSS JOIN tasks t
 WHERE t.task_id = u.node_id AND t.finished_at IS NULL ORDER BY u.node_id;

-- name: live_parents$
SELECT COUNT(*) FROM edges e LEFT JOIN tasks t ON t.task_id = e.parent_id
  LEFT JOIN nodes n ON n.node_id = e.parent_id AND n.kind <> 'task'
 WHERE e.child_id = :child_id AND COALESCE(t.status, n.status) NOT IN ('completed', 'failed', 'cancelled');

-- name: block!
-- A revived task has parents that have not ended: so many.
UPDATE tasks SET status = 'blocked', waiting = :waiting WHERE task_id = :task_id AND status = 'pending';

-- name: flow^
SELECT flow_id, name, created_at FROM flows WHERE flow_id = :flow_id;

-- name: flow_page
-- Newest first.
SELECT flow_id, name, created_at FROM flows WHERE flow_id < :after ORDER BY flow_id DESC LIMIT :n;

-- name: flow_counted
SELECT c.flow_id, c.status, CAST(SUM(c.n) AS BIGINT)
  FROM json_each(:flow_ids) i JOIN flow_counts c ON c.flow_id = i.value GROUP BY c.flow_id, c.status;

-- name: flow_nodes
-- Its tasks, and the fan-outs that have no parts; an error of more than :most bytes is only named.
SELECT n.node_id, n.key, COALESCE(t.status, n.status),
       COALESCE(n.error, CASE WHEN LENGTH(r.error) <= :most THEN r.error END), r.error_type
  FROM nodes n LEFT JOIN tasks t ON t.task_id = n.node_id
  LEFT JOIN task_results r ON r.task_id = t.task_id AND t.status IN ('failed', 'cancelled')
 WHERE n.flow_id = :flow_id AND n.counted = 1 ORDER BY n.position, n.node_id;

-- name: flow_edges
-- Who depends on whom, by key; what stands between a fan-out and its own parts is left out.
SELECT e.child_id, e.key FROM nodes n JOIN edges e ON e.child_id = n.node_id
 WHERE n.flow_id = :flow_id AND n.kind <> 'join' AND e.key <> '' ORDER BY e.child_id, e.position;

-- name: flow_forks
-- For each part, and each fan-out without parts, its fork.
SELECT e.child_id, e.parent_id FROM nodes n JOIN edges e ON e.child_id = n.node_id
  JOIN nodes f ON f.node_id = e.parent_id AND f.kind = 'fork'
 WHERE n.flow_id = :flow_id AND n.counted = 1;

-- name: flow_tasks
-- Those that are live, or (:ended = 1) those that ended without a result.
SELECT t.task_id, t.queue || '/' || t.type, t.status, t.attempt, t.lease_id, t.limit_key, t.unique_key
  FROM nodes n JOIN tasks t ON t.task_id = n.node_id
 WHERE n.flow_id = :flow_id AND ((:ended = 0 AND t.status IN ('blocked', 'scheduled', 'pending', 'in-progress'))
                                 OR (:ended = 1 AND t.status IN ('failed', 'cancelled')))
 ORDER BY t.task_id;

-- name: cancel_nodes
-- No fork and no join of the flow waits any more; whether the flow counts them.
UPDATE nodes SET waiting = 0, status = 'cancelled' WHERE flow_id = :flow_id AND status = 'blocked' RETURNING counted;

-- name: lift_deadlines!
-- Fan-outs of a flow that did not complete live again: a deadline that has passed binds their parts no more.
UPDATE fan_outs SET deadline_at = NULL
 WHERE deadline_at <= :now AND fork_id IN (SELECT node_id FROM nodes WHERE flow_id = :flow_id AND kind = 'fork'
                                              AND status IN ('failed', 'cancelled'));

-- name: reopen_nodes
-- Forks and joins of a flow that ended so wait again; whether the flow counts them.
UPDATE nodes SET status = 'blocked', error = NULL WHERE flow_id = :flow_id AND status = :status RETURNING counted;

-- name: hold_flow!
-- Until this transaction ends, no task of the flow does. Where there is one writer, that is so anyway.
SELECT 1 WHERE :flow_id IS NULL;

-- name: recount_nodes!
-- How many live parents each fork and join of the flow has.
UPDATE nodes SET waiting = (
        SELECT COUNT(*) FROM edges e
         WHERE e.child_id = nodes.node_id
           AND COALESCE((SELECT t.status FROM tasks t WHERE t.task_id = e.parent_id),
                        (SELECT p.status FROM nodes p WHERE p.node_id = e.parent_id))
               NOT IN ('completed', 'failed', 'cancelled'))
 WHERE flow_id = :flow_id AND status = 'blocked';

-- name: block_in_flow
-- Tasks of the flow that were revived just now (:task_ids a JSON array) wait for their live parents, if
-- they have any; those that were blocked all the while may have more of them.
UPDATE tasks SET status = 'blocked', waiting = live.n
  FROM (SELECT n.node_id, COUNT(*) AS n FROM nodes n JOIN edges e ON e.child_id = n.node_id
          LEFT JOIN tasks p ON p.task_id = e.parent_id LEFT JOIN nodes v ON v.node_id = e.parent_id AND v.kind <> 'task'
         WHERE n.flow_id = :flow_id AND n.kind = 'task'
           AND COALESCE(p.status, v.status) NOT IN ('completed', 'failed', 'cancelled')
         GROUP BY n.node_id) live
 WHERE tasks.task_id = live.node_id AND tasks.status IN ('blocked', 'pending')
   AND (tasks.status = 'blocked' OR tasks.task_id IN (SELECT value FROM json_each(:task_ids)))
RETURNING task_id;

-- name: ready_nodes
-- Blocked forks and joins that wait for nobody.
SELECT node_id, kind FROM nodes WHERE flow_id = :flow_id AND waiting = 0 AND status = 'blocked' ORDER BY +node_id;

-- name: drop_node*!
DELETE FROM nodes WHERE node_id = :task_id;

-- name: drop_edges*!
-- An edge goes with its child: as long as that is there, it is told that it had this parent.
DELETE FROM edges WHERE child_id = :task_id;

-- name: flow_has_tasks$
SELECT EXISTS (SELECT 1 FROM nodes WHERE flow_id = :flow_id AND kind = 'task');

-- name: flows_from
-- The next :n flows, and which of them began before :before and have no tasks: one of empty fan-outs never had any.
SELECT f.flow_id, CASE WHEN f.created_at < :before
       THEN (SELECT 1 FROM nodes n WHERE n.flow_id = f.flow_id AND n.kind = 'task' LIMIT 1) IS NULL END
  FROM (SELECT flow_id, created_at FROM flows WHERE flow_id > :after ORDER BY flow_id LIMIT :n) f
 ORDER BY f.flow_id;

-- name: drop_fan_outs*!
DELETE FROM fan_outs WHERE fork_id IN (SELECT node_id FROM nodes WHERE flow_id = :flow_id AND kind = 'fork');

-- name: drop_flow_edges*!
DELETE FROM edges WHERE child_id IN (SELECT node_id FROM nodes WHERE flow_id = :flow_id AND kind <> 'task');

-- name: drop_flow_nodes*!
DELETE FROM nodes WHERE flow_id = :flow_id;

-- name: drop_flow_counts*!
DELETE FROM flow_counts WHERE flow_id = :flow_id;

-- name: drop_flow*!
DELETE FROM flows WHERE flow_id = :flow_id;

-- ---------------------------------------------------------------- schedules

-- name: add_schedule$
-- NULL: the name is taken.
INSERT INTO schedules (name, cron, every_seconds, timezone, anchor, kind, body, missed, overlap, paused, next_at,
                       created_at)
VALUES (:name, :cron, :every_seconds, :timezone, :anchor, :kind, :body, :missed, :overlap, 0, :next_at, :now)
ON CONFLICT (name) DO NOTHING RETURNING schedule_id;

-- name: schedule^
SELECT schedule_id, name, cron, every_seconds, timezone, anchor, kind, body, missed, overlap, paused, next_at,
       created_at, last_task_id, last_flow_id
  FROM schedules WHERE name = :name;

-- name: schedule_page
SELECT schedule_id, name, cron, every_seconds, timezone, anchor, kind, body, missed, overlap, paused, next_at,
       created_at, last_task_id, last_flow_id
  FROM schedules WHERE name > :after ORDER BY name LIMIT :n;

-- name: due_schedules
SELECT schedule_id, name, cron, every_seconds, timezone, anchor, kind, body, missed, overlap, paused, next_at,
       created_at, last_task_id, last_flow_id
  FROM schedules WHERE paused = 0 AND next_at <= :now ORDER BY next_at LIMIT :n;

-- name: waiting_schedules
SELECT schedule_id, cron, every_seconds, timezone, anchor, next_at FROM schedules WHERE paused = 0;

-- name: next_slot$
SELECT MIN(next_at) FROM schedules WHERE paused = 0;

-- name: change_schedule!
UPDATE schedules SET cron = :cron, every_seconds = :every_seconds, timezone = :timezone, anchor = :anchor,
       kind = :kind, body = :body, missed = :missed, overlap = :overlap, paused = :paused, next_at = :next_at
 WHERE schedule_id = :schedule_id;

-- name: schedule_held^
-- The same for who is going to change it, or to fire: it stays like this until this transaction ends.
SELECT schedule_id, name, cron, every_seconds, timezone, anchor, kind, body, missed, overlap, paused, next_at,
       created_at, last_task_id, last_flow_id
  FROM schedules WHERE name = :name;

-- name: submitted_last^
SELECT last_task_id, last_flow_id FROM schedules WHERE schedule_id = :schedule_id;

-- name: advance_schedule!
UPDATE schedules SET next_at = :next_at WHERE schedule_id = :schedule_id;

-- name: note_last!
-- What the schedule has submitted last, for the rule about overlaps.
UPDATE schedules SET last_task_id = :task_id, last_flow_id = :flow_id WHERE schedule_id = :schedule_id;

-- name: take_slot$
-- The one place where a slot is decided: NULL if it has fired before, whoever did it.
INSERT INTO schedule_slots (schedule_id, slot_at, by_hand, fired_at, outcome)
VALUES (:schedule_id, :slot_at, 0, :now, 'fired') ON CONFLICT (schedule_id, slot_at, by_hand) DO NOTHING
RETURNING schedule_id;

-- name: take_turn$
-- A firing by hand is beside the timetable: it takes no slot away.
INSERT INTO schedule_slots (schedule_id, slot_at, by_hand, fired_at, outcome)
SELECT :schedule_id, :now, 1 + COALESCE(MAX(by_hand), 0), :now, 'fired'
  FROM schedule_slots WHERE schedule_id = :schedule_id AND slot_at = :now
RETURNING by_hand;

-- name: note_slot!
UPDATE schedule_slots SET outcome = :outcome, task_id = :task_id, flow_id = :flow_id, message = :message
 WHERE schedule_id = :schedule_id AND slot_at = :slot_at AND by_hand = :by_hand;

-- name: slot_page
-- Newest first; of one moment those asked for by hand first.
SELECT slot_at, by_hand, fired_at, outcome, task_id, flow_id, message FROM schedule_slots
 WHERE schedule_id = :schedule_id AND (slot_at, by_hand) < (:slot_at, :by_hand)
 ORDER BY slot_at DESC, by_hand DESC LIMIT :n;

-- name: drop_slots!
DELETE FROM schedule_slots WHERE schedule_id = :schedule_id;

-- name: drop_schedule!
DELETE FROM schedules WHERE schedule_id = :schedule_id;

-- name: prune_slots!
-- The oldest :n.
DELETE FROM schedule_slots WHERE (schedule_id, slot_at, by_hand) IN (
       SELECT schedule_id, slot_at, by_hand FROM schedule_slots WHERE fired_at < :before
        ORDER BY fired_at LIMIT :n);

-- ---------------------------------------------------------------- reading

-- name: bodies_bytes
-- How large payload and result of each task are.
SELECT i.value, COALESCE(LENGTH(p.payload), 0) + COALESCE(LENGTH(r.result), 0)
  FROM json_each(:task_ids) i
  LEFT JOIN task_payloads p ON p.task_id = i.value
  LEFT JOIN task_results r ON r.task_id = i.value;

-- name: task_views
SELECT t.task_id, t.type, p.payload, t.status, t.priority, t.tags, t.attempt, t.failures, t.crashes, t.releases,
       t.max_retries, t.crash_limit, t.timeout_seconds, w.name, w.worker_id, t.progress, t.message,
       r.result, COALESCE(r.error, a.error), t.created_at, t.run_at, t.started_at, t.finished_at,
       CASE t.status WHEN 'completed' THEN COALESCE(t.resumed_seconds, 0) + r.seconds ELSE t.saved_seconds END,
       t.resumed_seconds, t.queue, t.deadline_at, t.stall_seconds, t.unique_key, t.limit_key,
       t.flow_id, n.key, t.kin
  FROM json_each(:task_ids) i CROSS JOIN tasks t
  LEFT JOIN nodes n ON n.node_id = t.task_id
  LEFT JOIN task_payloads p ON p.task_id = t.task_id
  LEFT JOIN workers w ON w.worker_key = t.worker_key
  LEFT JOIN task_results r ON r.task_id = t.task_id
  LEFT JOIN attempts a ON a.task_id = t.task_id AND a.attempt = t.attempt
 WHERE t.task_id = i.value;

-- name: task_ids
-- Newest first.
SELECT task_id FROM tasks
 WHERE task_id < :after AND (CAST(:status AS TEXT) IS NULL OR status = :status) AND (CAST(:type AS TEXT) IS NULL OR type = :type)
   AND (CAST(:queue AS TEXT) IS NULL OR queue = :queue)
 ORDER BY task_id DESC LIMIT :n;

-- name: task_ids_dead
-- The same for dead letters, which may be few among millions: the literals let their own index be used.
SELECT task_id FROM tasks
 WHERE status IN ('failed', 'cancelled') AND status = :status AND task_id < :after
   AND (CAST(:type AS TEXT) IS NULL OR type = :type)
   AND (CAST(:queue AS TEXT) IS NULL OR queue = :queue)
 ORDER BY task_id DESC LIMIT :n;

-- name: task_ids_held
-- The same for what runs now; a + keeps SQLite from walking the whole table in the order of ids.
SELECT task_id FROM tasks
 WHERE status = 'in-progress' AND CAST(:status AS TEXT) = 'in-progress' AND +task_id < :after
   AND (CAST(:type AS TEXT) IS NULL OR type = :type)
   AND (CAST(:queue AS TEXT) IS NULL OR queue = :queue)
 ORDER BY +task_id DESC LIMIT :n;

-- name: task_ids_due
-- The same for what waits for its time.
SELECT task_id FROM tasks
 WHERE status = 'scheduled' AND CAST(:status AS TEXT) = 'scheduled' AND +task_id < :after
   AND (CAST(:type AS TEXT) IS NULL OR type = :type)
   AND (CAST(:queue AS TEXT) IS NULL OR queue = :queue)
 ORDER BY +task_id DESC LIMIT :n;

-- name: task_ids_with_tag
SELECT t.task_id FROM task_tags g JOIN tasks t ON t.task_id = g.task_id
  LEFT JOIN task_results r ON r.task_id = t.task_id
 WHERE g.tag = :tag AND g.task_id < :after
   AND (CAST(:error_type AS TEXT) IS NULL OR r.error_type = :error_type)
   AND (CAST(:status AS TEXT) IS NULL OR t.status = :status)
   AND (CAST(:type AS TEXT) IS NULL OR t.type = :type)
   AND (CAST(:queue AS TEXT) IS NULL OR t.queue = :queue)
 ORDER BY g.task_id DESC LIMIT :n;

-- name: task_ids_with_error
-- The same for dead letters with an error of one type.
SELECT t.task_id FROM task_results r JOIN tasks t ON t.task_id = r.task_id
 WHERE r.error_type = :error_type AND r.error_type IS NOT NULL AND r.task_id < :after
   AND (CAST(:status AS TEXT) IS NULL OR t.status = :status)
   AND (CAST(:type AS TEXT) IS NULL OR t.type = :type)
   AND (CAST(:queue AS TEXT) IS NULL OR t.queue = :queue)
 ORDER BY r.task_id DESC LIMIT :n;

-- name: attempt_views
-- Attempts that ended otherwise from history; the one that runs or completed the task from its row.
SELECT a.attempt, w.name, w.worker_id, a.outcome, a.started_at, a.finished_at, a.elapsed_seconds,
       a.resumed_seq, a.lost_seconds, a.error, 0
  FROM attempts a LEFT JOIN workers w ON w.worker_key = a.worker_key
 WHERE a.task_id = :task_id
UNION ALL
SELECT t.attempt, w.name, w.worker_id, CASE t.status WHEN 'completed' THEN t.status END, t.started_at,
       t.finished_at, r.seconds, t.resumed_seq, NULL, NULL, COALESCE(r.cached, 0)
  FROM tasks t LEFT JOIN task_results r ON r.task_id = t.task_id
  LEFT JOIN workers w ON w.worker_key = t.worker_key
 WHERE t.task_id = :task_id AND t.status IN ('in-progress', 'completed')
 ORDER BY 1;

-- name: history_completed
-- Attempts that completed their task, newest first.
SELECT t.task_id, t.type, t.queue, t.attempt, w.name, w.worker_id, t.status, t.started_at, t.finished_at,
       r.seconds, t.resumed_seq, NULL, NULL, COALESCE(r.cached, 0)
  FROM tasks t LEFT JOIN task_results r ON r.task_id = t.task_id
  LEFT JOIN workers w ON w.worker_key = t.worker_key
 WHERE t.finished_at IS NOT NULL AND t.status = 'completed'
   AND t.finished_at <= :until AND t.finished_at >= :since
   AND (t.finished_at < :at OR (t.finished_at = :at AND (t.task_id, t.attempt) < (:task_id, :attempt)))
   AND (CAST(:type AS TEXT) IS NULL OR t.type = :type) AND (CAST(:queue AS TEXT) IS NULL OR t.queue = :queue)
   AND (CAST(:worker AS TEXT) IS NULL OR w.worker_id = :worker OR w.name = :worker)
   AND (CAST(:tag AS TEXT) IS NULL
        OR EXISTS (SELECT 1 FROM task_tags g WHERE g.tag = :tag AND g.task_id = t.task_id))
 ORDER BY t.finished_at DESC, t.task_id DESC LIMIT :n;

-- name: history_others
-- Attempts that ended otherwise, newest first.
SELECT t.task_id, t.type, t.queue, a.attempt, w.name, w.worker_id, a.outcome, a.started_at, a.finished_at,
       a.elapsed_seconds, a.resumed_seq, a.lost_seconds, a.error, 0
  FROM attempts a JOIN tasks t ON t.task_id = a.task_id
  LEFT JOIN workers w ON w.worker_key = a.worker_key
 WHERE a.finished_at <= :until AND a.finished_at >= :since
   AND (a.finished_at < :at OR (a.finished_at = :at AND (a.task_id, a.attempt) < (:task_id, :attempt)))
   AND (CAST(:outcome AS TEXT) IS NULL OR a.outcome = :outcome)
   AND (CAST(:type AS TEXT) IS NULL OR t.type = :type) AND (CAST(:queue AS TEXT) IS NULL OR t.queue = :queue)
   AND (CAST(:worker AS TEXT) IS NULL OR w.worker_id = :worker OR w.name = :worker)
   AND (CAST(:tag AS TEXT) IS NULL
        OR EXISTS (SELECT 1 FROM task_tags g WHERE g.tag = :tag AND g.task_id = t.task_id))
 ORDER BY a.finished_at DESC, a.task_id DESC, a.attempt DESC LIMIT :n;

-- name: checkpoint_view^
SELECT task_id, attempt, seq, state, progress, elapsed_seconds, saved_at
  FROM checkpoints WHERE task_id = :task_id;

-- name: output_chunks$
-- How many there are; null for none. They are numbered from 0, without gaps.
SELECT max(chunk_index) + 1 FROM task_outputs WHERE task_id = :task_id;

-- name: output_page
SELECT chunk_index, body FROM task_outputs
 WHERE task_id = :task_id AND chunk_index >= :first ORDER BY chunk_index LIMIT :n;

-- name: worker_views
-- Those gone for longer than a day are no longer shown.
SELECT w.worker_id, w.name, w.host, w.pid, w.state, w.slots, w.types, w.queues, w.threads,
       (SELECT COUNT(*) FROM tasks t WHERE t.status = 'in-progress' AND t.worker_key = w.worker_key),
       w.last_heartbeat_at, w.last_heartbeat
  FROM workers w WHERE w.gone_at IS NULL OR w.gone_at > :since
 ORDER BY w.gone_at IS NOT NULL, w.name, w.worker_key;

-- name: queue_views
SELECT queue, status, CAST(SUM(n) AS BIGINT) FROM task_counts GROUP BY queue, status;

-- name: count_tasks$
-- How many there are of a status, a type and a queue; NULL: of all.
SELECT CAST(COALESCE(SUM(n), 0) AS BIGINT) FROM task_counts
 WHERE (CAST(:status AS TEXT) IS NULL OR status = :status) AND (CAST(:type AS TEXT) IS NULL OR type = :type)
   AND (CAST(:queue AS TEXT) IS NULL OR queue = :queue);

-- name: count_views
SELECT status, CAST(SUM(n) AS BIGINT) FROM task_counts GROUP BY status;

-- name: worker_counts
SELECT state, COUNT(*) FROM workers WHERE gone_at IS NULL OR gone_at > :since GROUP BY state;

-- name: completed_since$
SELECT CAST(COALESCE(SUM(n), 0) AS BIGINT) FROM completions WHERE second > :since;

-- name: database_health^
-- Seconds that the oldest open transaction is old, and rows that wait to be swept; NULL: no such thing.
SELECT NULL, NULL;

-- name: work_views
SELECT kind, SUM(seconds) FROM work_totals GROUP BY kind;

-- ---------------------------------------------------------------- explaining

-- name: standing^
-- What decides when a task may start.
SELECT task_id, status, queue, type, priority, attempt, run_at, deadline_at, started_at, finished_at, alone,
       unique_key, limit_key, place, worker_key, failures, crashes
  FROM tasks WHERE task_id = :task_id;

-- name: worker_of^
SELECT worker_id, name, state FROM workers WHERE worker_key = :worker_key;

-- name: living_workers
SELECT w.worker_id, w.name, w.state, w.types, w.queues, w.slots,
       (SELECT COUNT(*) FROM tasks t WHERE t.status = 'in-progress' AND t.worker_key = w.worker_key)
  FROM workers w WHERE w.state IN ('alive', 'paused', 'draining') ORDER BY w.worker_key;

-- name: ahead_in_lane$
-- How many tasks of a lane a claim would take before this one; of its own limit_key also those let in before it.
SELECT (SELECT COUNT(*) FROM tasks WHERE status = 'pending' AND place <> 1 AND queue = :queue AND type = :type
           AND (priority > :priority OR (priority = :priority AND task_id < :task_id)))
     + (SELECT COUNT(*) FROM tasks WHERE limit_key = :limit_key AND place = 1 AND place > 0
           AND queue = :queue AND type = :type
           AND (priority > :priority OR (priority = :priority AND task_id < :task_id)));

-- name: ahead_for_key$
-- How many tasks with the same limit_key a claim would take before this one.
SELECT COUNT(*) FROM tasks WHERE limit_key = :limit_key AND place IN (1, 2) AND place > 0
   AND (priority > :priority OR (priority = :priority AND task_id < :task_id));

-- name: mean_seconds$
-- How long tasks of a type took, among those completed last.
SELECT AVG(COALESCE(latest.resumed_seconds, 0) + r.seconds)
  FROM (SELECT task_id, type, resumed_seconds FROM tasks
         WHERE finished_at IS NOT NULL AND status = 'completed' ORDER BY finished_at DESC LIMIT 1000) latest
  JOIN task_results r ON r.task_id = latest.task_id
 WHERE latest.type = :type;
