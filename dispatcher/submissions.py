"""How a task enters the database, and how it leaves it when it is old."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from dispatcher.transaction import Transaction, by_type, rows
from shared.lifecycle import TaskStatus
from shared.protocol import Submission

HAS_PARENTS: Final = 1
HAS_CHILDREN: Final = 2
_encode = msgspec.json.Encoder().encode


class Place(NamedTuple):
    """Where a new task stands among others; `kin`: HAS_PARENTS, HAS_CHILDREN, both, or None."""

    flow_id: int | None
    kin: int | None
    blocked: bool


ALONE: Final = Place(None, None, blocked=False)


def store(
    tx: Transaction,
    submissions: Sequence[Submission],
    run_ats: Sequence[float | None],
    places: Sequence[Place] | None = None,
) -> tuple[list[int], list[TaskStatus]]:
    """Insert new tasks, pending, scheduled (run_at ahead) or blocked; returns ids and statuses in order."""
    places = [ALONE] * len(submissions) if places is None else places
    ranges = tx.fresh_task_ids(n=len(submissions))
    ids = [task_id for first, last in ranges for task_id in range(first, last + 1)]
    due = [run_at if run_at is not None and run_at > tx.now else None for run_at in run_ats]
    statuses = [_status(run_at, place) for run_at, place in zip(due, places, strict=True)]
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
            (place.flow_id for place in places),
            (place.kin for place in places),
        ),
    )
    _store_bodies(tx, ids, submissions)
    for status in (TaskStatus.PENDING, TaskStatus.SCHEDULED, TaskStatus.BLOCKED):
        those = zip(submissions, ids, statuses, strict=True)
        for type, arrived in by_type((s.type, i) for s, i, now_is in those if now_is is status).items():
            tx.moved(type, None, status, arrived)
    waits = [at for at, status in zip(due, statuses, strict=True) if at and status is TaskStatus.SCHEDULED]
    if waits:
        tx.due(min(waits))
    return ids, statuses


def _status(run_at: float | None, place: Place) -> TaskStatus:
    if place.blocked:
        return TaskStatus.BLOCKED
    return TaskStatus.PENDING if run_at is None else TaskStatus.SCHEDULED


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
    for task_id, type, status, flow_id, _ in old:
        tx.moved(type, TaskStatus(status), None, [task_id])
        tx.in_flow(flow_id, TaskStatus(status), None)
    relatives = [task_id for task_id, _, _, flow_id, kin in old if flow_id is not None or kin is not None]
    if relatives:
        tx.drop_edges(task_id=relatives)
        tx.drop_node(task_id=relatives)
    emptied = [flow_id for (flow_id,) in tx.emptied_flows(before=before, n=bite)]
    if emptied:
        for drop in ("fan_outs", "flow_edges", "flow_nodes", "flow_counts", "flow"):
            getattr(tx, f"drop_{drop}")(flow_id=emptied)
        for flow_id in emptied:
            tx.forget_flow(flow_id)
    tx.prune_workers(before=before)
    tx.prune_slots(before=before)
    tx.prune_completions(before=int(before))
    return len(ids)
