"""What must be true of every database at any moment, as SQL; used after store and system tests.

Each query answers the rows that break its rule. The numbers are those of the reliability design.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import apsw

# Every node with its status, and how many of its parents have not ended.
_NODES: Final = """
    SELECT n.node_id, n.flow_id, COALESCE(t.waiting, n.waiting) AS waiting, n.counted,
           COALESCE(n.status, t.status) AS status,
           (SELECT COUNT(*) FROM edges e LEFT JOIN tasks p ON p.task_id = e.parent_id
              LEFT JOIN nodes v ON v.node_id = e.parent_id AND v.kind <> 'task'
             WHERE e.child_id = n.node_id
               AND COALESCE(v.status, p.status) NOT IN ('completed', 'failed', 'cancelled')) AS live
      FROM nodes n LEFT JOIN tasks t ON t.task_id = n.node_id"""

RULES: Final[dict[str, str]] = {
    "I4: ended means exactly one result row": """
        SELECT t.task_id, t.status FROM tasks t LEFT JOIN task_results r USING (task_id)
         WHERE (t.status IN ('completed', 'failed', 'cancelled')) <> (r.task_id IS NOT NULL)""",
    "I4: completed means that an attempt won, the last one, and the result is its": """
        SELECT t.task_id, t.status, t.attempt, r.lease_id, r.seconds, r.attempt FROM tasks t
          LEFT JOIN task_results r USING (task_id)
         WHERE (t.status = 'completed') <> (r.lease_id IS NOT NULL)
            OR (t.status = 'completed') <> (r.seconds IS NOT NULL)
            OR (t.status = 'completed' AND t.worker_key IS NULL)
            OR (t.status = 'completed' AND (r.error IS NOT NULL OR r.attempt <> t.attempt))""",
    "I4: the history holds no attempt that won": """
        SELECT task_id, attempt FROM attempts WHERE outcome = 'completed'""",
    "I12: in progress means that all lease columns are set": """
        SELECT task_id, status, worker_key, lease_id, lease_expires_at FROM tasks
         WHERE (status = 'in-progress') <> (lease_id IS NOT NULL)
            OR (status = 'in-progress') <> (lease_expires_at IS NOT NULL)
            OR (status = 'in-progress' AND worker_key IS NULL)
            OR (status <> 'in-progress' AND (running <> 0 OR missing_since IS NOT NULL))""",
    "I12: whoever holds a task is a worker that is there": """
        SELECT t.task_id, t.worker_key, w.state FROM tasks t LEFT JOIN workers w USING (worker_key)
         WHERE t.status = 'in-progress' AND (w.state IS NULL OR w.state IN ('dead', 'stopped'))""",
    "I13: the counts are the truth": """
        SELECT k.queue, k.type, k.status, k.n, c.n
          FROM (SELECT queue, type, status, SUM(n) AS n FROM task_counts
                 GROUP BY queue, type, status HAVING SUM(n) <> 0) k
          FULL JOIN (SELECT queue, type, status, COUNT(*) AS n FROM tasks GROUP BY queue, type, status) c
            ON c.queue = k.queue AND c.type = k.type AND c.status = k.status
         WHERE k.n IS DISTINCT FROM c.n""",
    "I9: one live task per unique_key": """
        SELECT unique_key, COUNT(*) FROM tasks
         WHERE unique_key IS NOT NULL AND finished_at IS NULL GROUP BY unique_key HAVING COUNT(*) > 1""",
    "I14: a place belongs to a task with a limit_key, as its status says": """
        SELECT task_id, status, limit_key, place FROM tasks
         WHERE (place = 3) <> (limit_key IS NOT NULL AND status = 'in-progress')
            OR (place IN (1, 2)) <> (limit_key IS NOT NULL AND status = 'pending')""",
    "I14: without a limit nobody waits for a place": """
        SELECT task_id, limit_key FROM tasks
         WHERE place = 1 AND limit_key NOT IN (SELECT name FROM limits WHERE kind = 'key')""",
    "I14: nobody waits for a place while there is one": """
        SELECT t.task_id, t.limit_key FROM tasks t JOIN limits l ON l.kind = 'key' AND l.name = t.limit_key
         WHERE t.place = 1 AND l.max_starts IS NULL AND l.settled = 1
           AND l.max_running > (SELECT COUNT(*) FROM tasks r WHERE r.limit_key = l.name AND r.place = 3)
           AND NOT EXISTS (SELECT 1 FROM tasks a WHERE a.limit_key = l.name AND a.place = 2
                              AND a.queue = t.queue AND a.type = t.type)""",
    "I2: attempts go 1, 2, 3 without a gap, the one that runs or won is not among them": """
        SELECT t.task_id, t.status, t.attempt, COUNT(a.attempt), MIN(a.attempt), MAX(a.attempt)
          FROM tasks t LEFT JOIN attempts a USING (task_id) GROUP BY t.task_id
        HAVING COUNT(a.attempt) <> t.attempt - CASE WHEN t.status IN ('in-progress', 'completed') THEN 1 ELSE 0 END
            OR (COUNT(a.attempt) > 0 AND (MIN(a.attempt) <> 1 OR MAX(a.attempt) <> COUNT(a.attempt)))""",
    "I2: a lease is granted once": """
        SELECT task_id, lease_id FROM (SELECT task_id, lease_id FROM attempts
               UNION ALL SELECT task_id, lease_id FROM tasks WHERE status = 'in-progress'
               UNION ALL SELECT task_id, lease_id FROM task_results WHERE lease_id IS NOT NULL) leases
         GROUP BY task_id, lease_id HAVING COUNT(*) > 1""",
    "I5: the checkpoint kept is the last one accepted; none after completion": """
        SELECT t.task_id, t.status, t.checkpoint_seq, t.saved_seconds, c.seq, c.elapsed_seconds
          FROM tasks t LEFT JOIN checkpoints c USING (task_id)
         WHERE (t.status = 'completed' AND c.task_id IS NOT NULL)
            OR (t.status <> 'completed' AND (t.checkpoint_seq IS DISTINCT FROM c.seq
                                             OR t.saved_seconds IS DISTINCT FROM c.elapsed_seconds))""",
    "output chunks go 0, 1, 2 without a gap": """
        SELECT task_id, COUNT(*), MIN(chunk_index), MAX(chunk_index) FROM task_outputs
         GROUP BY task_id HAVING MIN(chunk_index) <> 0 OR MAX(chunk_index) <> COUNT(*) - 1""",
    "as many output chunks as the checkpoint says": """
        SELECT c.task_id, c.output_chunks, COUNT(o.chunk_id)
          FROM checkpoints c LEFT JOIN task_outputs o USING (task_id)
         GROUP BY c.task_id HAVING COUNT(o.chunk_id) <> c.output_chunks""",
    "limits end a task": """
        SELECT task_id, status, crashes, crash_limit FROM tasks
         WHERE crashes >= COALESCE(crash_limit, 5) AND status NOT IN ('failed', 'cancelled')""",
    "nothing is left of a task that is gone": """
        SELECT task_id FROM (SELECT task_id FROM task_payloads UNION SELECT task_id FROM task_tags
               UNION SELECT task_id FROM task_results UNION SELECT task_id FROM checkpoints
               UNION SELECT task_id FROM task_outputs UNION SELECT task_id FROM attempts
               UNION SELECT task_id FROM task_logs
               UNION SELECT node_id FROM nodes WHERE kind = 'task'
               UNION SELECT child_id FROM edges WHERE child_id > 0) every
         WHERE task_id NOT IN (SELECT task_id FROM tasks)""",
    "nothing is left of a flow that is gone": """
        SELECT flow_id FROM (SELECT flow_id FROM nodes UNION SELECT flow_id FROM flow_counts
               UNION SELECT flow_id FROM tasks) every
         WHERE flow_id IS NOT NULL AND flow_id NOT IN (SELECT flow_id FROM flows)""",
    "an edge goes with its child": """
        SELECT child_id, parent_id FROM edges WHERE child_id NOT IN (SELECT node_id FROM nodes)""",
    "I8: blocked means that a parent has not ended, and it is counted": f"""
        SELECT n.node_id, n.status, n.waiting, n.live FROM ({_NODES}) n
         WHERE (n.status = 'blocked') <> (n.waiting > 0) OR (n.waiting > 0 AND n.waiting <> n.live)""",
    "I8: a task knows itself for how many it waits": """
        SELECT node_id, waiting FROM nodes WHERE kind = 'task' AND waiting <> 0""",
    "I8: a blocked task has parents": """
        SELECT task_id, kin FROM tasks WHERE status = 'blocked' AND (kin IS NULL OR kin NOT IN (1, 3))""",
    "I8: a task starts only when its parents have ended": """
        SELECT c.task_id, p.task_id, p.status FROM tasks c JOIN edges e ON e.child_id = c.task_id
          JOIN tasks p ON p.task_id = e.parent_id
         WHERE c.attempt > 0 AND p.finished_at IS NULL AND p.revived_attempt IS NULL""",
    "a parent that did not complete leaves no child blocked that needs it, unless that was revived since": f"""
        SELECT n.node_id, e.parent_id FROM nodes n JOIN edges e ON e.child_id = n.node_id
          JOIN ({_NODES}) p ON p.node_id = e.parent_id LEFT JOIN tasks t ON t.task_id = n.node_id
         WHERE COALESCE(t.waiting, n.waiting) > 0 AND n.kind <> 'join' AND n.run_if = 'all_completed'
           AND p.status IN ('failed', 'cancelled') AND t.revived_attempt IS NULL""",
    "kin says who has parents and children": """
        SELECT t.task_id, t.kin FROM tasks t
         WHERE (COALESCE(t.kin, 0) NOT IN (1, 3) AND t.task_id IN (SELECT child_id FROM edges))
            OR (COALESCE(t.kin, 0) NOT IN (2, 3) AND t.task_id IN (SELECT parent_id FROM edges))""",
    "the counts of flows are the truth": f"""
        SELECT k.flow_id, k.status, k.n, c.n
          FROM (SELECT flow_id, status, SUM(n) AS n FROM flow_counts GROUP BY flow_id, status HAVING SUM(n) <> 0) k
          FULL JOIN (SELECT flow_id, CASE WHEN status IN ('completed', 'failed', 'cancelled') THEN status
                                          ELSE 'live' END AS status, COUNT(*) AS n
                       FROM ({_NODES}) n WHERE counted = 1 AND flow_id IS NOT NULL GROUP BY 1, 2) c
            ON c.flow_id = k.flow_id AND c.status = k.status
         WHERE k.n IS DISTINCT FROM c.n""",
    "a slot that fired has submitted something": """
        SELECT schedule_id, slot_at, outcome FROM schedule_slots
         WHERE (outcome = 'fired') <> (task_id IS NOT NULL OR flow_id IS NOT NULL)""",
}
WHOLE: Final = "SELECT * FROM pragma_quick_check WHERE quick_check <> 'ok'"


def check_rows(rows: Callable[[str], Iterable[tuple[Any, ...]]]) -> None:
    """Assert every rule; `rows` answers a query, all of them on one state of the database."""
    lines = [f"{rule}: {row}" for rule, query in RULES.items() for row in rows(query)]
    assert not lines, "the database breaks its invariants:\n" + "\n".join(lines[:20])


def check_invariants(path: Path | str) -> None:
    """Assert every rule on the database file at `path`, which may be in use; nothing is changed."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        connection.set_busy_timeout(5000)
        connection.execute("BEGIN")  # one snapshot for all rules
        check_rows(connection.execute)
        assert list(connection.execute(WHOLE)) == [], "the file is damaged"
    finally:
        connection.close()
