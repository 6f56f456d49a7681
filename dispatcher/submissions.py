"""How a task enters the database, and how it leaves it when it is old."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from dispatcher.checks import Times
from dispatcher.lanes import lane
from dispatcher.transaction import Transaction, columns, encoded, grouped
from shared.lifecycle import TaskStatus
from shared.protocol import Submission

HAS_PARENTS: Final = 1
HAS_CHILDREN: Final = 2
_encode = msgspec.json.Encoder().encode


class Place(NamedTuple):
    """Where a new task stands among others; `kin`: HAS_PARENTS, HAS_CHILDREN, both, or None.

    `waiting`: for how many parents; blocked by one or more.
    """

    flow_id: int | None
    kin: int | None
    waiting: int


ALONE: Final = Place(None, None, waiting=0)


class Submitted(NamedTuple):
    """What became of submissions, in their order; `existing`: ids of tasks that were there before."""

    ids: list[int]
    statuses: list[TaskStatus]
    existing: set[int]
    warning: str | None = None


def store(
    tx: Transaction,
    submissions: Sequence[Submission],
    times: Sequence[Times],
    places: Sequence[Place] | None = None,
) -> Submitted:
    """Insert new tasks, pending, scheduled (run_at ahead) or blocked; one whose unique_key lives is that one."""
    places = [ALONE] * len(submissions) if places is None else places
    if all(submission.unique_key is None for submission in submissions):
        ids, statuses = insert(tx, submissions, times, places)
        return Submitted(ids, statuses, set())
    known: dict[str, tuple[int, TaskStatus]] = {}
    keys = sorted({s.unique_key for s in submissions if s.unique_key is not None})
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
    ids, statuses = insert(
        tx, [submissions[i] for i in fresh], [times[i] for i in fresh], [places[i] for i in fresh]
    )
    made = dict(zip(fresh, zip(ids, statuses, strict=True), strict=True))
    known |= {named: made[i] for i in fresh if (named := submissions[i].unique_key) is not None}
    each = [made[i] if i in made else known[s.unique_key or ""] for i, s in enumerate(submissions)]
    return Submitted([task_id for task_id, _ in each], [status for _, status in each], existing)


def insert(
    tx: Transaction, submissions: Sequence[Submission], times: Sequence[Times], places: Sequence[Place]
) -> tuple[list[int], list[TaskStatus]]:
    """Each as a task of its own: none of their unique keys lives, and none comes twice. Ids and statuses."""
    if not submissions:
        return [], []
    ranges = tx.fresh_task_ids(n=len(submissions))
    ids = [task_id for first, last in ranges for task_id in range(first, last + 1)]
    due = [run_at if run_at is not None and run_at > tx.now else None for run_at, _ in times]
    statuses = [_status(run_at, place) for run_at, place in zip(due, places, strict=True)]
    alike = zip(submissions, statuses, due, places, strict=True)
    kinds = [_kind(s, status, run_at, place) for s, status, run_at, place in alike]
    for facts, those in grouped(kinds, ids).items():
        kind = _Kind(*facts)
        tx.submit(task_ids=encoded(those), now=tx.now, **kind._asdict())
        tx.moved(lane(kind.queue, kind.type), None, kind.status, those)
    _restrict(tx, ids, submissions, times)
    _store_bodies(tx, ids, submissions)
    for status in dict.fromkeys(statuses):
        keyed = [
            (task_id, lane(s.queue, s.type), s.limit_key)
            for task_id, s, now_is in zip(ids, submissions, statuses, strict=True)
            if s.limit_key is not None and now_is is status
        ]
        if keyed:
            tx.keep_places(status, keyed)
    tx.older.update(lane(s.queue, s.type) for s in submissions if s.priority)
    waits = [at for at, status in zip(due, statuses, strict=True) if at and status is TaskStatus.SCHEDULED]
    if waits:
        tx.due(min(waits))
    return ids, statuses


class _Kind(NamedTuple):
    """What the tasks of a batch often have in common: those that have it all are stored as one."""

    type: str
    status: TaskStatus
    priority: int
    run_at: float | None
    max_retries: int | None
    crash_limit: int | None
    timeout_seconds: float | None
    backoff: str | None
    tags: str | None
    queue: str
    flow_id: int | None
    kin: int | None
    waiting: int


def _kind(s: Submission, status: TaskStatus, run_at: float | None, place: Place) -> tuple[Any, ...]:
    """The fields of a _Kind, plain: there may be ten thousand of them."""
    return (
        s.type,
        status,
        s.priority,
        run_at,
        s.max_retries,
        s.crash_limit,
        s.timeout_seconds,
        None if s.backoff is None else _encode(s.backoff).decode(),
        None if not s.tags else _encode(s.tags).decode(),
        s.queue,
        place.flow_id,
        place.kin,
        place.waiting,
    )


def _status(run_at: float | None, place: Place) -> TaskStatus:
    if place.waiting:
        return TaskStatus.BLOCKED
    return TaskStatus.PENDING if run_at is None else TaskStatus.SCHEDULED


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
        tx.restrict(**columns(names, restricted))


def _store_bodies(tx: Transaction, ids: Sequence[int], submissions: Sequence[Submission]) -> None:
    bodies = [(i, bytes(s.payload)) for i, s in zip(ids, submissions, strict=True)]
    bodies = [(i, body) for i, body in bodies if body != b"{}"]
    if bodies:
        tx.add_payload(task_id=[i for i, _ in bodies], payload=[body for _, body in bodies])
    tags = [(i, tag) for i, s in zip(ids, submissions, strict=True) for tag in dict.fromkeys(s.tags or ())]
    if tags:
        tx.add_tag(task_id=[i for i, _ in tags], tag=[tag for _, tag in tags])


class Ended(NamedTuple):
    """A place in the order in which tasks have ended."""

    ended: float = 0.0
    task_id: int = 0


def prune(tx: Transaction, before: float, bite: int, after: Ended) -> tuple[int, Ended]:
    """Of the next `bite` tasks that ended before `before` remove those that nobody needs, with all that is theirs.

    Returns how many, and where to go on: those that are kept are not looked at again before all others.
    """
    old = tx.prunable(before=before, n=bite, **after._asdict()).fetchall()
    unneeded = [task_id for _, task_id, may_go in old if may_go]
    removed = tx.droppable(task_ids=encoded(unneeded), before=before).fetchall() if unneeded else []
    drop(tx, removed)
    tx.prune_workers(before=before)
    tx.prune_slots(before=before, n=bite)
    tx.prune_completions(before=int(before))
    return len(removed), Ended(*old[-1][:2]) if len(old) == bite else Ended()


def drop(tx: Transaction, tasks: Sequence[tuple[int, str, str, int | None, int | None]]) -> None:
    """Remove ended tasks, as (task_id, lane, status, flow_id, kin), with all that belongs to them."""
    ids = [task_id for task_id, *_ in tasks]
    tagged = [(i, tag) for i in ids for tag in msgspec.json.decode(tx.tags_of(task_id=i) or b"[]")]
    tx.drop_tag(task_id=[i for i, _ in tagged], tag=[tag for _, tag in tagged])
    for what in ("payload", "output", "checkpoint", "attempts", "results", "logs", "task"):
        getattr(tx, f"drop_{what}")(task_id=ids)
    for task_id, where, status, flow_id, _ in tasks:
        tx.moved(where, TaskStatus(status), None, [task_id])
        tx.in_flow(flow_id, TaskStatus(status), None)
    relatives = [task_id for task_id, _, _, flow_id, kin in tasks if flow_id is not None or kin is not None]
    if relatives:
        tx.drop_edges(task_id=relatives)
        tx.drop_node(task_id=relatives)
        drop_flows(tx, sorted({flow_id for _, _, _, flow_id, _ in tasks if flow_id is not None}))


def drop_flows(tx: Transaction, flow_ids: Sequence[int]) -> None:
    """Forget those of these flows that have no task, or none any more."""
    emptied = [flow_id for flow_id in flow_ids if not tx.flow_has_tasks(flow_id=flow_id)]
    if emptied:
        for what in ("fan_outs", "flow_edges", "flow_nodes", "flow_counts", "flow"):
            getattr(tx, f"drop_{what}")(flow_id=emptied)
        for flow_id in emptied:
            tx.forget_flow(flow_id)
