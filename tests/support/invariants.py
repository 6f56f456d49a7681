"""What must be true of every database at any moment, as SQL; used after store and system tests.

Each query answers the rows that break its rule. The numbers are those of the reliability design.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import apsw

RULES: Final[dict[str, str]] = {
    "I4: ended means exactly one result row": """
        SELECT t.task_id, t.status FROM tasks t LEFT JOIN task_results r USING (task_id)
         WHERE (t.status IN ('completed', 'failed', 'cancelled')) <> (r.task_id IS NOT NULL)""",
    "I4: completed means that the attempt of the result completed": """
        SELECT t.task_id, t.status, r.attempt, a.outcome FROM tasks t
          LEFT JOIN task_results r USING (task_id)
          LEFT JOIN attempts a ON a.task_id = t.task_id AND a.attempt = r.attempt
         WHERE (t.status = 'completed') <> (a.outcome IS NOT DISTINCT FROM 'completed')
            OR (t.status = 'completed' AND (r.error IS NOT NULL OR r.attempt <> t.attempt))""",
    "I4: only completed tasks have an attempt that completed": """
        SELECT a.task_id, a.attempt FROM attempts a JOIN tasks t USING (task_id)
         WHERE a.outcome = 'completed' AND t.status <> 'completed'""",
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
        SELECT k.type, k.status, k.n, c.n
          FROM (SELECT type, status, SUM(n) AS n FROM task_counts GROUP BY type, status HAVING SUM(n) <> 0) k
          FULL JOIN (SELECT type, status, COUNT(*) AS n FROM tasks GROUP BY type, status) c
            ON c.type = k.type AND c.status = k.status
         WHERE k.n IS DISTINCT FROM c.n""",
    "I2: attempts go 1, 2, 3 without a gap, the running one is not among them": """
        SELECT t.task_id, t.status, t.attempt, COUNT(a.attempt), MIN(a.attempt), MAX(a.attempt)
          FROM tasks t LEFT JOIN attempts a USING (task_id) GROUP BY t.task_id
        HAVING COUNT(a.attempt) <> t.attempt - CASE t.status WHEN 'in-progress' THEN 1 ELSE 0 END
            OR (COUNT(a.attempt) > 0 AND (MIN(a.attempt) <> 1 OR MAX(a.attempt) <> COUNT(a.attempt)))""",
    "I2: a lease is granted once": """
        SELECT task_id, lease_id FROM (SELECT task_id, lease_id FROM attempts
               UNION ALL SELECT task_id, lease_id FROM tasks WHERE status = 'in-progress') leases
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
               UNION SELECT task_id FROM task_outputs UNION SELECT task_id FROM attempts) every
         WHERE task_id NOT IN (SELECT task_id FROM tasks)""",
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
