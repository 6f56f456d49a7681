"""How a task enters the database, and how it leaves it when it is old."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from dispatcher.checks import Times
from dispatcher.lanes import lane
from dispatcher.transaction import Transaction, grouped, rows
from shared import errors
from shared.lifecycle import TaskStatus
from shared.protocol import Submission

_encode = msgspec.json.Encoder().encode


class Submitted(NamedTuple):
    """What became of submissions, in their order; `existing`: ids of tasks that were there before."""

    ids: list[int]
    statuses: list[TaskStatus]
    existing: set[int]
    warning: str | None = None


def store(tx: Transaction, submissions: Sequence[Submission], times: Sequence[Times]) -> Submitted:
    """Insert new tasks, pending or (run_at ahead) scheduled; one whose unique_key lives is that one."""
    if all(submission.unique_key is None for submission in submissions):
        ids, statuses = _insert(tx, submissions, times)
        return Submitted(ids, statuses, set())
    known: dict[str, tuple[int, TaskStatus]] = {}
    keys = sorted({s.unique_key for s in submissions if s.unique_key is not None})
    tx.lock_key(unique_key=keys)
    for key in keys:
        row = tx.live_with_key(unique_key=key)
        if row is not None:
            known[key] = row[0], TaskStatus(row[1])
    existing = {task_id for task_id, _ in known.values()}
    seen = set(known)
    fresh: list[int] = []  # which of the submissions become tasks
    for index, submission in enumerate(submissions):
        if submission.unique_key is None:
            fresh.append(index)
        elif submission.unique_key not in seen:
            fresh.append(index)
            seen.add(submission.unique_key)
    ids, statuses = _insert(tx, [submissions[i] for i in fresh], [times[i] for i in fresh])
    made = dict(zip(fresh, zip(ids, statuses, strict=True), strict=True))
    known |= {named: made[i] for i in fresh if (named := submissions[i].unique_key) is not None}
    each = [made[i] if i in made else known[s.unique_key or ""] for i, s in enumerate(submissions)]
    return Submitted([task_id for task_id, _ in each], [status for _, status in each], existing)


def _insert(
    tx: Transaction, submissions: Sequence[Submission], times: Sequence[Times]
) -> tuple[list[int], list[TaskStatus]]:
    if not submissions:
        return [], []
    ranges = tx.fresh_task_ids(n=len(submissions))
    ids = [task_id for first, last in ranges for task_id in range(first, last + 1)]
    due = [run_at if run_at is not None and run_at > tx.now else None for run_at, _ in times]
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
            (s.queue for s in submissions),
        ),
    )
    _restrict(tx, ids, submissions, times)
    _store_bodies(tx, ids, submissions)
    alike = zip(submissions, ids, statuses, strict=True)
    lanes = grouped(((s.queue, s.type, s.limit_key, status), i) for s, i, status in alike)
    for (queue, type, limit_key, status), those in lanes.items():
        tx.moved(lane(queue, type), None, status, those, limit_key)
    waits = [run_at for run_at in due if run_at is not None]
    if waits:
        tx.due(min(waits))
    return ids, statuses


def _restrict(
    tx: Transaction, ids: Sequence[int], submissions: Sequence[Submission], times: Sequence[Times]
) -> None:
    """Store what only some have, so that the many without it cost nothing for it."""
    restricted = [
        (i, times[at].deadline_at, s.stall_seconds, s.unique_key, s.limit_key)
        for at, (i, s) in enumerate(zip(ids, submissions, strict=True))
        if s.unique_key or s.limit_key or s.stall_seconds is not None or s.deadline is not None
    ]
    if restricted:
        names = ("task_id", "deadline_at", "stall_seconds", "unique_key", "limit_key")
        columns = dict(zip(names, map(list, zip(*restricted, strict=True)), strict=True))
        tx.restrict(**columns)


def _store_bodies(tx: Transaction, ids: Sequence[int], submissions: Sequence[Submission]) -> None:
    bodies = [(i, bytes(s.payload)) for i, s in zip(ids, submissions, strict=True)]
    bodies = [(i, body) for i, body in bodies if body != b"{}"]
    if bodies:
        tx.add_payload(task_id=[i for i, _ in bodies], payload=[body for _, body in bodies])
    tags = [(i, tag) for i, s in zip(ids, submissions, strict=True) for tag in dict.fromkeys(s.tags or ())]
    if tags:
        tx.add_tag(task_id=[i for i, _ in tags], tag=[tag for _, tag in tags])


def revive(tx: Transaction, task_id: int, from_scratch: bool) -> None:
    """A failed or cancelled task is pending again. Conflict if it is not one, or if its key is taken."""
    status, where, _, _, _, limit_key, _, unique_key = tx.task_state(task_id=task_id)
    if unique_key is not None:
        tx.lock_key(unique_key=[unique_key])
        holder = tx.live_with_key(unique_key=unique_key)
        if holder is not None:
            raise errors.Conflict(
                f"task {holder[0]} is live and has the unique_key {unique_key!r} of task {task_id}; "
                "wait for its end or cancel it",
                task_id=holder[0],
            )
    if tx.revive(task_id=task_id, now=tx.now) is None:
        raise errors.Conflict(
            f"task {task_id} is {status}; only failed and cancelled tasks can be revived", status=status
        )
    tx.drop_result(task_id=task_id)
    if from_scratch:
        tx.restart(task_id=task_id)
        tx.drop_checkpoint(task_id=[task_id])
        tx.drop_output(task_id=[task_id])
    tx.moved(where, TaskStatus(status), TaskStatus.PENDING, [task_id], limit_key)
    tx.log("revive", task_id=task_id)


def prune(tx: Transaction, before: float, bite: int) -> int:
    """Remove up to `bite` tasks that ended before `before`, with all that belongs to them."""
    old = tx.prunable(before=before, n=bite).fetchall()
    drop(tx, old)
    tx.prune_workers(before=before)
    tx.prune_completions(before=int(before))
    return len(old)


def drop(tx: Transaction, tasks: Sequence[tuple[int, str, str]]) -> None:
    """Remove ended tasks, as (task_id, lane, status), with all that belongs to them."""
    ids = [task_id for task_id, *_ in tasks]
    tagged = [(i, tag) for i in ids for tag in msgspec.json.decode(tx.tags_of(task_id=i) or b"[]")]
    tx.drop_tag(task_id=[i for i, _ in tagged], tag=[tag for _, tag in tagged])
    for what in ("payload", "output", "checkpoint", "attempts", "results", "logs", "task"):
        getattr(tx, f"drop_{what}")(task_id=ids)
    for task_id, where, status in tasks:
        tx.moved(where, TaskStatus(status), None, [task_id])
