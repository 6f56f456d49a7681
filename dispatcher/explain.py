"""Why is it not running? One sentence, the facts behind it, and a forecast. Reads only.

The questions are asked in the order in which they stand in the way of a claim; the first that holds
is the answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from dispatcher import limits
from dispatcher.database import Database
from dispatcher.lanes import Served, is_of, lane, split
from dispatcher.limits import Limit
from dispatcher.transaction import Transaction, encoded
from dispatcher.views import iso
from shared import errors
from shared.flows import COMMAND
from shared.lifecycle import ENDED, TaskStatus
from shared.operating import Explanation
from shared.protocol import DEFAULT_QUEUE, INTEGER_MAX, WorkerInfo
from shared.wording import error_in_words

PARENTS_NAMED = 5  # of those that a blocked task waits for


class Standing(NamedTuple):
    """A row of the statement `standing`."""

    task_id: int
    status: str
    queue: str
    type: str
    priority: int
    attempt: int
    run_at: float | None
    deadline_at: float | None
    started_at: float | None
    finished_at: float | None
    alone: int
    unique_key: str | None
    limit_key: str | None
    place: int
    worker_key: int | None
    failures: int
    crashes: int

    @property
    def lane(self) -> str:
        """Its queue and type."""
        return lane(self.queue, self.type)


class Reason(NamedTuple):
    """A code, a sentence, the facts; `wait_seconds` until it may start as far as this reason goes."""

    code: str
    message: str
    details: dict[str, Any]
    wait_seconds: float | None = None


class LivingWorker(NamedTuple):
    """A row of `living_workers`."""

    worker_id: str
    name: str
    state: str
    types: str | None
    queues: str | None
    slots: int
    running: int

    @property
    def served(self) -> Served:
        """The lanes it takes tasks of."""
        types, queues = (None if text is None else msgspec.json.decode(text) for text in (self.types, self.queues))
        return Served(WorkerInfo(self.worker_id, types=types, queues=queues))


class Explainer:
    """Answers from one short read."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def explain(self, task_id: int) -> Explanation:
        """Where a task stands and what it waits for. NotFound."""
        with self.database.read() as tx:
            row = tx.standing(task_id=task_id) if task_id <= INTEGER_MAX else None
            if row is None:
                raise errors.NotFound(f"there is no task {task_id}")
            task = Standing(*row)
            reason = _reason(tx, task)
        wait = None if reason.wait_seconds is None else round(max(0.0, reason.wait_seconds), 3)
        return Explanation(task_id, task.status, reason.code, reason.message, reason.details, wait)


def _reason(tx: Transaction, task: Standing) -> Reason:
    if task.status in ENDED:
        return _ended(tx, task)
    if task.status == TaskStatus.IN_PROGRESS:
        return _running(tx, task)
    if task.status == TaskStatus.BLOCKED:
        return _blocked(tx, task)
    if task.deadline_at is not None and task.deadline_at <= tx.now:
        return Reason(
            "deadline", "its deadline has passed; it ends as failed now", {"deadline": iso(task.deadline_at)}
        )
    if task.status == TaskStatus.SCHEDULED:
        return _not_due(tx, task)
    return _paused(tx, task) or _no_worker(tx, task) or _limited(tx, task) or _in_line(tx, task)


def _blocked(tx: Transaction, task: Standing) -> Reason:
    """The tasks it depends on, through forks and joins, that have not ended; the first few by their ids."""
    live = [task_id for (task_id,) in tx.live_parent_ids(child_id=task.task_id)]
    named = ", ".join(map(str, live[:PARENTS_NAMED]))
    more = len(live) - PARENTS_NAMED
    which = f"{named} and {more:,} more" if more > 0 else named
    message = "it waits until the tasks it depends on have ended" + (f": {which}" if live else "")
    return Reason("blocked", message, {"waits_for": live[:PARENTS_NAMED], "waiting_for": len(live)})


def _ended(tx: Transaction, task: Standing) -> Reason:
    ends = {"completed": "it has completed", "failed": "it has failed", "cancelled": "it was cancelled"}
    how = f"{ends[task.status]}, after {task.attempt} attempt(s), at {iso(task.finished_at)}"
    for *_, error in tx.ends(node_ids=encoded([task.task_id])):
        how += "" if error is None else f": {error_in_words(msgspec.json.decode(error))}"
    counters = {"attempts": task.attempt, "failures": task.failures, "crashes": task.crashes}
    return Reason(task.status, how, {"finished_at": iso(task.finished_at), **counters})


def _running(tx: Transaction, task: Standing) -> Reason:
    worker_id, name, state = tx.worker_of(worker_key=task.worker_key) or ("", "a worker", "gone")
    facts = {"worker": name, "worker_id": worker_id, "worker_state": state, "attempt": task.attempt}
    message = f"attempt {task.attempt} runs on {name} since {iso(task.started_at)}"
    return Reason("running", message, facts | {"started_at": iso(task.started_at)}, 0.0)


def _not_due(tx: Transaction, task: Standing) -> Reason:
    assert task.run_at is not None
    after = f" (it is tried again after attempt {task.attempt})" if task.attempt else ""
    message = f"it is not due before {iso(task.run_at)}{after}"
    return Reason("not_due", message, {"run_at": iso(task.run_at), "attempts": task.attempt}, task.run_at - tx.now)


def _paused(tx: Transaction, task: Standing) -> Reason | None:
    for kind, name in tx.pauses():
        if is_of(task.lane, kind, name):
            advice = f"./baton {kind}s resume {name}, or POST /{kind}s/{name}/resume"
            return Reason("paused", f"the {kind} {name!r} is paused; resume it with {advice}", {kind: name})
    return None


def _no_worker(tx: Transaction, task: Standing) -> Reason | None:
    living = [LivingWorker(*row) for row in tx.living_workers()]
    able = [worker for worker in living if task.lane in worker.served]
    if any(worker.state == "alive" for worker in able):
        return None
    facts = {"type": task.type, "queue": task.queue, "workers": [worker.name for worker in able]}
    if able:
        return Reason("workers_paused", "every worker for its type and queue is paused or drains", facts)
    return Reason("no_worker", _who_is_missing(task, living), facts)


def _who_is_missing(task: Standing, living: Sequence[LivingWorker]) -> str:
    served = "" if task.queue == DEFAULT_QUEUE else f" --queues {task.queue}"
    allows = "COMMAND_PROGRAMS=PROGRAM " if task.type == COMMAND else ""
    start = f"start one, for example with {allows}./start_worker.sh worker-1{served}"
    if not living:
        return f"no worker is alive for type {task.type!r}; {start}"
    if any(lane(queue, task.type) in worker.served for worker in living for queue in _queues(worker)):
        return f"no worker is alive for queue {task.queue!r} and type {task.type!r}; {start}"
    if broken := [worker.name for worker in living if worker.types == "[]"]:
        return f"the task processes of {', '.join(broken)} do not start; the worker's log says why"
    if task.type == COMMAND:
        return (
            "none of the workers that are alive may run programs; its program belongs into their COMMAND_PROGRAMS"
        )
    return f"none of the workers that are alive knows type {task.type!r}; its file belongs into their TASK_MODULES"


def _queues(worker: LivingWorker) -> list[str]:
    return ["default"] if worker.queues is None else list(msgspec.json.decode(worker.queues))


def _limited(tx: Transaction, task: Standing) -> Reason | None:
    own = {("queue", task.queue), ("type", task.type), ("key", task.limit_key)}
    in_lanes = limits.running_in_lanes(tx)
    for limit in (Limit(*row) for row in tx.limit_views()):
        if (limit.kind, limit.name) in own:
            running = limits.running_under(tx, limit, in_lanes)
            if limits.room(tx, limit, running) == 0:
                return _full(tx, limit, running)
    return None


def _full(tx: Transaction, limit: Limit, running: int) -> Reason:
    facts: dict[str, Any] = {limit.kind: limit.name, "running": running, "max_running": limit.max_running}
    if limit.max_running is not None and running >= limit.max_running:
        whose = f"the limit of {limit.kind} {limit.name!r}"
        message = f"{whose} is reached: {running} of {limit.max_running} run"
        if limit.max_running == 0:
            message = f"{whose} is 0: none may run until it is raised"
        return Reason("limit", message, facts)
    facts |= {"max_starts": limit.max_starts, "per_seconds": limit.per_seconds}
    since = tx.lease_now - (limit.per_seconds or 0.0)
    started, _ = tx.starts_in_window(kind=limit.kind, name=limit.name, since=since)
    n = started - (limit.max_starts or 0) + 1
    last: float | None = tx.last_in_way(kind=limit.kind, name=limit.name, since=since, n=n)
    message = f"the limit of {limit.kind} {limit.name!r} is reached: {started} started in {limit.per_seconds:g} s"
    return Reason("limit", message, facts, None if last is None else last - since)


def _in_line(tx: Transaction, task: Standing) -> Reason:
    """Nothing stands in its way but those that come first."""
    able = [worker for row in tx.living_workers() if task.lane in (worker := LivingWorker(*row)).served]
    able = [worker for worker in able if worker.state == "alive"]
    order = {"priority": task.priority, "task_id": task.task_id}
    slots = sum(worker.slots for worker in able)
    most = _most_ahead(tx, task, slots)
    ahead = 0
    for (where,) in tx.pending_lanes():
        if any(where in worker.served for worker in able):
            queue, type = split(where)
            there = tx.ahead_in_lane(queue=queue, type=type, limit_key=task.limit_key, **order)
            ahead += min(there, most.get(("queue", queue), there), most.get(("type", type), there))
    facts: dict[str, Any] = {"ahead": ahead, "workers": len(able), "slots": slots, "alone": bool(task.alone)}
    if task.limit_key is not None and task.place:
        facts["ahead_with_its_limit_key"] = tx.ahead_for_key(limit_key=task.limit_key, **order)
    seconds = _forecast(tx, task, ahead, able)
    if task.alone:
        message = f"it travels alone since its last loss, and {ahead} task(s) are ahead of it"
        return Reason("travels_alone", message, facts, seconds)
    if ahead == 0:
        return Reason("next", "it is the next; the next worker that asks gets it", facts, seconds)
    return Reason("in_line", f"{ahead} task(s) are ahead of it for {slots} slot(s)", facts, seconds)


def _most_ahead(tx: Transaction, task: Standing, slots: int) -> dict[tuple[str, str], int]:
    """Of which other queues and types only so many can come first: they are paused, or cannot take all slots."""
    in_lanes = limits.running_in_lanes(tx)
    most = dict.fromkeys(tx.pauses(), 0)
    for limit in (Limit(*row) for row in tx.limit_views()):
        kind, name, max_running, max_starts, _ = limit
        is_own = (kind, name) in (("queue", task.queue), ("type", task.type))
        if kind != "key" and not is_own and (max_starts is not None or (max_running or 0) < slots):
            most.setdefault((kind, name), limits.room(tx, limit, limits.running_under(tx, limit, in_lanes)))
    return most


def _forecast(tx: Transaction, task: Standing, ahead: int, able: Sequence[LivingWorker]) -> float | None:
    """Rounds of the able workers' slots that must pass before its turn, at the mean duration of its type."""
    mean: float | None = tx.mean_seconds(type=task.type)
    slots = sum(worker.slots for worker in able)
    before = ahead + sum(worker.running for worker in able)
    if before < slots:
        return 0.0
    return None if mean is None or not slots else math.ceil((before - slots + 1) / slots) * mean
