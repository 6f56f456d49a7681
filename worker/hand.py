"""The hand: every grant this worker holds, and what it has to deliver about them.

A grant is held from the answer that brought it until the dispatcher has answered for its result. What
is not in the hand is nobody's business here: a result for a dropped grant falls through. All threads
use it; each method is one step under the lock `changed`. See outgoing.py for the delivery.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable

from msgspec import UNSET

from shared.protocol import Checkpoint, Grant, Holding, Result
from worker.changed import Changed
from worker.outgoing import Key, Outgoing
from worker.strand import Running
from worker.tail import Said


class Hand:
    """What the worker holds. `changed` is told when there is something to deliver or to ask for."""

    def __init__(self) -> None:
        self.changed = Changed()
        self.outgoing = Outgoing(self.changed)
        self._grants: dict[Key, Grant] = {}  # without a result yet
        # Those that no child has, and perhaps some dropped ones: for main strands, and for those that wait.
        self._queues: tuple[deque[Grant], deque[Grant]] = (deque(), deque())
        self._start_by: dict[Key, float] = {}  # when it is too late to start some of them
        self.waiting_types: frozenset[str] = frozenset()  # those that run on threads

    @property
    def unfinished(self) -> int:
        """How many grants have no result yet."""
        return len(self._grants)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to run and nothing to deliver."""
        with self.changed:
            return not self._grants and self.outgoing.is_empty

    def __contains__(self, key: Key) -> bool:
        """Whether this grant is held, without a result yet."""
        return key in self._grants

    # --- the queues: one for main strands, one for the threads (`waits`)

    def add(self, grants: Iterable[Grant]) -> None:
        """Take up new grants; they wait in a queue."""
        with self.changed:
            for grant in grants:
                self._grants[grant.task_id, grant.attempt] = grant
                self._queues[grant.type in self.waiting_types].append(grant)
                if grant.start_within_seconds is not UNSET:
                    self._start_by[grant.task_id, grant.attempt] = time.monotonic() + grant.start_within_seconds

    def queued(self, waits: bool = False) -> int:
        """How many grants wait for a child."""
        return len(self._queues[waits])

    def waiting(self) -> int:
        """How many grants without a result yet are of those that run on threads."""
        if not self.waiting_types:
            return 0
        with self.changed:
            return sum(grant.type in self.waiting_types for grant in self._grants.values())

    def start_by(self) -> dict[Key, float]:
        """When it is too late to start those grants that have a deadline, on the monotonic clock."""
        return self._start_by

    def next_batch(
        self, count: int, seconds: float, seconds_of: Callable[[str], float], waits: bool = False
    ) -> list[Grant]:
        """Take from a queue up to `count` tasks of `seconds` together; at least one if any waits."""
        batch: list[Grant] = []
        with self.changed:
            queue, grants = self._queues[waits], self._grants
            while queue and len(batch) < count:
                grant = queue[0]
                seconds -= seconds_of(grant.type)
                if batch and seconds < 0:
                    break
                queue.popleft()
                if (grant.task_id, grant.attempt) in grants:
                    batch.append(grant)
        return batch

    def put_back(self, grants: list[Grant]) -> None:
        """Tasks that a child did not start wait again, in front."""
        with self.changed:
            for grant in reversed(grants):
                self._queues[grant.type in self.waiting_types].appendleft(grant)

    def empty_queue(self, waits: bool = False) -> list[Grant]:
        """Take everything that waits in a queue."""
        return self.next_batch(len(self._queues[waits]), 0.0, lambda _: 0.0, waits)

    # --- endings

    def end(self, results: Iterable[Result]) -> list[Result]:
        """These attempts have ended; returns the results that count (others' grants were dropped)."""
        with self.changed:
            grants = self._grants
            counted = [r for r in results if grants.pop((r.task_id, r.attempt), None) is not None]
            self._forget_deadlines()
            self.outgoing.add(counted)
        return counted

    def say(self, grant: Grant, lines: Iterable[Said]) -> None:
        """Deliver lines of a task's log."""
        with self.changed:
            if (grant.task_id, grant.attempt) in self._grants:
                self.outgoing.say(grant, lines)

    def save(self, checkpoint: Checkpoint) -> None:
        """Deliver a running task's checkpoint."""
        with self.changed:
            if (checkpoint.task_id, checkpoint.attempt) in self._grants:
                self.outgoing.save(checkpoint)

    def drop(self, keys: Collection[Key]) -> list[Key]:
        """Forget grants that are cancelled or lost, with all that waits about them; returns those we had."""
        with self.changed:
            dropped = [key for key in keys if self._grants.pop(key, None) is not None]
            self._forget_deadlines()
            return dropped + self.outgoing.drop(keys)

    def _forget_deadlines(self) -> None:
        if self._start_by:
            self._start_by = {key: at for key, at in self._start_by.items() if key in self._grants}

    # --- the list for the heartbeat

    def holding(self, running: Iterable[Running]) -> list[Holding]:
        """The complete list: an entry for each lease, and one for each running task that shows progress."""
        with self.changed:
            entries: list[Holding] = []
            leases: dict[str, Holding] = {}
            shown: set[Key] = set()
            for grant, progress, message in running:
                key = grant.task_id, grant.attempt
                if key not in self._grants:
                    continue
                if progress is not None or message is not None:
                    shown.add(key)
                    entries.append(Holding(grant.lease_id, *key, None, True, progress, message))
                else:
                    _list(leases, grant).running.append(grant.task_id)  # type: ignore[union-attr]
            for key, grant in self._grants.items():
                if key not in shown:
                    _list(leases, grant).task_ids.append(grant.task_id)  # type: ignore[union-attr]
            for result in self.outgoing.results():
                _list(leases, result).task_ids.append(result.task_id)  # type: ignore[union-attr]
        return [*entries, *leases.values()]


def _list(leases: dict[str, Holding], item: Grant | Result) -> Holding:
    entry = leases.get(item.lease_id)
    if entry is None:
        entry = leases[item.lease_id] = Holding(item.lease_id, task_ids=[], running=[])
    return entry
