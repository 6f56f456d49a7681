"""How a task enters the database, and how it leaves it when it is old."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from dispatcher.transaction import Transaction, by_type, rows
from shared.lifecycle import TaskStatus
from shared.protocol import Submission

_encode = msgspec.json.Encoder().encode


def store(
    tx: Transaction, submissions: Sequence[Submission], run_ats: Sequence[float | None]
) -> tuple[list[int], list[TaskStatus]]:
    """Insert new tasks, pending or (run_at ahead) scheduled; returns ids and statuses in order."""
    ranges = tx.fresh_task_ids(n=len(submissions))
    ids = [task_id for first, last in ranges for task_id in range(first, last + 1)]
    due = [run_at if run_at is not None and run_at > tx.now else None for run_at in run_ats]
    statuses = [TaskStatus.PENDING if run_at is None else TaskStatus.SCHEDULED for run_at in due]
    tx.submit(
        now=tx.now,
        rows=rows(
            ids,
            (s.type for s in submissions),
            statuses,
            (s.priority for s in submissions),
            due,
            (s.max_retries for s in submissions),
            (s.crash_limit for s in submissions),
            (s.timeout_seconds for s in submissions),
            (None if s.backoff is None else _encode(s.backoff).decode() for s in submissions),
            (None if not s.tags else _encode(s.tags).decode() for s in submissions),
        ),
    )
    _store_bodies(tx, ids, submissions)
    for status in (TaskStatus.PENDING, TaskStatus.SCHEDULED):
        those = zip(submissions, ids, statuses, strict=True)
        for type, arrived in by_type((s.type, i) for s, i, now_is in those if now_is is status).items():
            tx.moved(type, None, status, arrived)
    waits = [run_at for run_at in due if run_at is not None]
    if waits:
        tx.due(min(waits))
    return ids, statuses


def _store_bodies(tx: Transaction, ids: Sequence[int], submissions: Sequence[Submission]) -> None:
    bodies = [(i, bytes(s.payload)) for i, s in zip(ids, submissions, strict=True)]
    bodies = [(i, body) for i, body in bodies if body != b"{}"]
    if bodies:
        tx.add_payload(task_id=[i for i, _ in bodies], payload=[body for _, body in bodies])
    tags = [(i, tag) for i, s in zip(ids, submissions, strict=True) for tag in dict.fromkeys(s.tags or ())]
    if tags:
        tx.add_tag(task_id=[i for i, _ in tags], tag=[tag for _, tag in tags])


def prune(tx: Transaction, before: float, bite: int) -> int:
    """Remove up to `bite` tasks that ended before `before`, with all that belongs to them."""
    old = tx.prunable(before=before, n=bite).fetchall()
    ids = [task_id for task_id, *_ in old]
    tagged = [(i, tag) for i in ids for tag in msgspec.json.decode(tx.tags_of(task_id=i) or b"[]")]
    tx.drop_tag(task_id=[i for i, _ in tagged], tag=[tag for _, tag in tagged])
    for drop in ("payload", "output", "checkpoint", "attempts", "results", "task"):
        getattr(tx, f"drop_{drop}")(task_id=ids)
    for task_id, type, status in old:
        tx.moved(type, TaskStatus(status), None, [task_id])
    tx.prune_workers(before=before)
    tx.prune_completions(before=int(before))
    return len(ids)
