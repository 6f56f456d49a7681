"""The rules of 02-protocol.md over plain dictionaries: what the real ledger is compared with.

Deliberately naive: no SQL, no batches, no transactions. Pauses are steady (builder.STEADY).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

PAUSE, TIMEOUT, LEASE, INTERVAL, WINDOW = 10.0, 2.0, 100.0, 1.0, 5.0
ENDED = ("completed", "failed", "cancelled")
Key = tuple[int, int]  # task_id, attempt


class End(NamedTuple):
    lease_id: str
    outcome: str
    body: Any
    counted: int
    alone: int


NEVER = End("", "", None, 0, 0)


@dataclass
class Task:
    id: int
    type: str
    priority: int
    max_retries: int
    crash_limit: int
    queue: str = "default"
    unique_key: str | None = None
    limit_key: str | None = None
    deadline_at: float | None = None
    depends_on: list[int] = field(default_factory=list)
    run_if: str = "all_completed"
    waits_for: set[int] = field(default_factory=set)  # blocked: the parents that have not ended
    status: str = "pending"
    attempt: int = 0
    failures: int = 0
    crashes: int = 0
    releases: int = 0
    alone: int = 0  # pending: must travel alone; held: did, and with 2 had to
    run_at: float = 0.0
    worker: str = ""
    lease_id: str = ""
    expires: float = 0.0
    running: bool = False
    missing: float | None = None
    seq: int | None = None
    output: list[int] = field(default_factory=list)
    history: dict[int, End] = field(default_factory=dict)  # by attempt
    revived: int = 0  # the last attempt before a revival

    @property
    def waits(self) -> bool:
        return self.status in ("pending", "scheduled")

    def went_on_without(self, attempt: int) -> bool:
        return self.status not in ENDED and self.attempt > attempt

    def names(self) -> list[tuple[str, str | None]]:
        """What limits and pauses may speak of."""
        return [("queue", self.queue), ("type", self.type), ("key", self.limit_key)]

    def order(self) -> tuple[int, int]:
        return -self.priority, self.id


class Model:
    """Methods are the verbs; `now` and `wall` are the two clocks, moved by the machine."""

    def __init__(self, now: float, wall: float) -> None:
        self.now, self.wall, self.judging_from = now, wall, 0.0
        self.tasks: dict[int, Task] = {}
        self.heard: dict[str, float] = {}  # of living workers
        self.limits: dict[tuple[str, str | None], tuple[int | None, int | None]] = {}  # running, starts a window
        self.starts: dict[tuple[str, str | None], list[float]] = {}
        self.paused: set[tuple[str, str | None]] = set()

    # --- limits and pauses

    def set_limit(self, name: tuple[str, str | None], running: int | None, starts: int | None) -> None:
        self.limits[name] = running, starts
        if starts is None:
            self.starts.pop(name, None)

    def lift(self, name: tuple[str, str | None]) -> bool:
        self.starts.pop(name, None)
        return self.limits.pop(name, None) is not None

    def runs_full(self, name: tuple[str, str | None]) -> bool:
        most, _ = self.limits.get(name, (None, None))
        running = sum(task.status == "in-progress" and name in task.names() for task in self.tasks.values())
        return most is not None and running >= most

    def window_full(self, name: tuple[str, str | None]) -> bool:
        _, most = self.limits.get(name, (None, None))
        within = [at for at in self.starts.get(name, ()) if at > self.now - WINDOW]
        return most is not None and len(within) >= most

    def may_start(self, task: Task) -> bool:
        return not any(
            name in self.paused or self.runs_full(name) or self.window_full(name) for name in task.names()
        )

    def live_with_key(self, key: str | None) -> Task | None:
        live = (t for t in self.tasks.values() if t.unique_key == key and t.status not in ENDED)
        return None if key is None else next(live, None)

    def is_late(self, task: Task) -> bool:
        return task.deadline_at is not None and task.deadline_at <= self.wall

    def miss_deadlines(self) -> None:
        for task in self.tasks.values():
            if task.waits and self.is_late(task):
                task.status, task.alone = "failed", False
                self.settle(task)

    # --- parents and children

    def tie(self, task: Task) -> None:
        """Where a task with parents begins, or begins again, unless it is scheduled or pending."""
        parents = [self.tasks[parent] for parent in task.depends_on]
        task.waits_for = {parent.id for parent in parents if parent.status not in ENDED}
        if task.waits_for:
            task.status = "blocked"

    def spoilt(self, task: Task) -> bool:
        """Has a parent ended in a way that keeps it from running?"""
        ends = {self.tasks[parent].status for parent in task.depends_on}
        return task.run_if == "all_completed" and bool(ends & {"failed", "cancelled"})

    def settle(self, ended: Task) -> None:
        """What the end of a task does to its children, one after the other."""
        for child in self.tasks.values():
            if ended.status not in ENDED or ended.id not in child.waits_for:
                continue
            child.waits_for.discard(ended.id)
            # One that ended so before counts no more: the child has been revived since, in spite of it.
            if child.run_if == "all_completed" and ended.status in ("failed", "cancelled"):
                child.status, child.waits_for = "cancelled", set()
                self.settle(child)
            elif not child.waits_for:
                child.status = "scheduled" if child.run_at > self.wall else "pending"

    # --- grants

    def held(self, task_id: int, attempt: int, lease_id: str) -> Task | None:
        task = self.tasks[task_id]
        current = task.status == "in-progress" and (task.attempt, task.lease_id) == (attempt, lease_id)
        return task if current else None

    def holds(self, worker: str) -> list[Task]:
        return [task for task in self.tasks.values() if task.status == "in-progress" and task.worker == worker]

    def eligible(self, types: list[str] | None) -> list[Task]:
        pending = (t for t in self.tasks.values() if t.status == "pending" and (types is None or t.type in types))
        return sorted(pending, key=Task.order)

    def claim(self, worker: str, types: list[str] | None, want: int) -> list[Key]:
        chosen: list[Task] = []
        for task in self.eligible(types):
            if len(chosen) == want or (chosen and chosen[0].alone):
                break
            if self.is_late(task) or not self.may_start(task):
                continue
            if chosen and task.alone:
                break
            chosen.append(task)
            self.start(task, worker)
        for task in chosen:
            task.alone = 1 + bool(task.alone) if len(chosen) == 1 else 0
        return [(task.id, task.attempt) for task in chosen]

    def start(self, task: Task, worker: str) -> None:
        task.status, task.attempt, task.worker = "in-progress", task.attempt + 1, worker
        task.expires, task.running, task.missing = self.now + LEASE, False, None
        for name in task.names():
            if self.limits.get(name, (None, None))[1] is not None:
                self.starts.setdefault(name, []).append(self.now)

    def end(self, task: Task, status: str, outcome: str, body: Any = None, counted: int = 0) -> None:
        if task.running and outcome in ("released", "crashed", "reclaimed"):
            task.deadline_at = None  # it has kept it
        task.history[task.attempt] = End(task.lease_id, outcome, body, counted, task.alone)
        unstarted = outcome == "released" and not task.running
        task.status, task.alone = status, int(unstarted and task.alone == 2)
        task.running, task.missing = False, None
        if status == "scheduled":
            task.run_at = self.wall + PAUSE
        self.settle(task)

    def crash(self, task: Task, outcome: str, body: Any = None) -> None:
        task.crashes += 1
        later = "pending" if task.crashes == 1 else "scheduled"
        status = "failed" if task.crashes >= task.crash_limit else later
        self.end(task, status, outcome, body, int(outcome == "reclaimed"))
        task.alone = True

    def reclaim(self, task: Task, counts: bool) -> None:
        task.running = task.running or task.alone  # as far as anybody knows
        if counts and task.running:
            self.crash(task, "reclaimed")
        else:
            self.end(task, "pending", "reclaimed")
            task.alone = True

    def report(self, grant: tuple[int, int, str], outcome: str, body: Any) -> bool:
        """False: lost."""
        task, attempt = self.held(*grant), grant[1]
        if task is None:
            end = self.tasks[grant[0]].history.get(attempt, NEVER)
            return end[:2] == (grant[2], outcome) and (outcome == "released" or end.body == body)
        if outcome == "crashed":
            self.crash(task, outcome, body)
        elif outcome == "failed":
            task.failures += 1
            self.end(task, "scheduled" if task.failures <= task.max_retries else "failed", outcome, body)
        elif outcome == "released":
            task.releases += 1
            self.end(task, "pending", outcome)
        else:
            self.end(task, "completed", outcome, body)
        return True

    def checkpoint(self, grant: tuple[int, int, str], seq: int, output: list[int]) -> bool:
        task = self.held(*grant)
        if task is not None and (task.seq is None or task.seq < seq):
            task.seq, task.crashes, task.output = seq, 0, task.output + output
        return task is not None

    def is_cancelled(self, task_id: int, attempt: int, lease_id: str) -> bool:
        return self.tasks[task_id].history.get(attempt, NEVER)[:2] == (lease_id, "cancelled")

    def cancel(self, task: Task) -> bool:
        accepted = task.status not in ENDED
        if task.status == "in-progress":
            self.end(task, "cancelled", "cancelled")
        if accepted:
            task.status, task.waits_for = "cancelled", set()
            self.settle(task)
        return accepted

    def revive(self, task: Task, from_scratch: bool) -> bool:
        if task.status not in ("failed", "cancelled") or self.live_with_key(task.unique_key):
            return False
        if self.is_late(task):
            task.deadline_at = None
        task.status, task.failures, task.crashes, task.alone, task.revived = "pending", 0, 0, False, task.attempt
        task.run_at = 0.0
        self.tie(task)
        for child in self.tasks.values():
            if child.waits_for and task.id in child.depends_on:
                child.waits_for.add(task.id)
        if from_scratch:
            task.seq, task.output = None, []
        return True

    def silent(self) -> list[str]:
        suspects = [worker for worker, heard in self.heard.items() if heard < self.now - TIMEOUT]
        return suspects if self.now >= self.judging_from else []

    def lose(self, worker: str) -> int:
        held = self.holds(worker)
        for task in held:
            self.reclaim(task, counts=True)
        del self.heard[worker]
        return len(held)

    def expire(self) -> int:
        over = [t for t in self.tasks.values() if t.status == "in-progress" and t.expires < self.now]
        over = over if self.now >= self.judging_from else []
        for task in over:
            self.reclaim(task, counts=True)
        return len(over)

    def promote(self) -> None:
        for task in self.tasks.values():
            if task.status == "scheduled" and task.run_at <= self.wall:
                task.status = "pending"

    def renew(self, worker: str, listed: dict[int, tuple[int, str, bool]]) -> tuple[list[Key], list[Key]]:
        """Returns (lost, cancel)."""
        held = {task.id: task for task in self.holds(worker)}
        for task in held.values():
            if listed.get(task.id, (0, "", False))[:2] == (task.attempt, task.lease_id):
                continue
            if task.missing is None:
                task.missing = self.now
            elif self.now - task.missing >= INTERVAL * 0.9:
                self.reclaim(task, counts=False)
        lost: list[Key] = []
        cancel: list[Key] = []
        for task_id, (attempt, lease_id, running) in listed.items():
            self._renew_one(self.tasks[task_id], attempt, lease_id, running, worker, lost, cancel)
        return lost, cancel

    def _renew_one(
        self, task: Task, attempt: int, lease: str, running: bool, worker: str, lost: list[Key], cancel: list[Key]
    ) -> None:
        end = task.history.get(attempt, NEVER)
        if self.held(task.id, attempt, lease):
            mine = task.worker == worker
            news = not mine or task.running != running or task.missing is not None
            if news or task.expires - self.now < LEASE / 2:  # a fresh lease is left as it is
                task.expires = self.now + LEASE
            task.missing, task.worker = None, worker
            task.running = running if mine else task.running  # a grant handed over says more the next time
        elif (
            task.waits
            and task.attempt == attempt > task.revived
            and end[:2] == (lease, "reclaimed")
            and not any(map(self.runs_full, task.names()))
        ):
            task.status, task.worker, task.missing, task.expires = "in-progress", worker, None, self.now + LEASE
            task.crashes, task.running, task.alone = task.crashes - end.counted, running, end.alone
            del task.history[attempt]
        else:
            (cancel if self.is_cancelled(task.id, attempt, lease) else lost).append((task.id, attempt))
