"""An operation on the database: what a caller asked the writer for, and how it waits for the answer."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from dispatcher.lanes import Served
from dispatcher.transaction import Transaction

Run = Callable[[Transaction], Any]
Again = Callable[[Transaction, Any], Any]  # None: nothing found


class Operation:
    """What a caller asked for, and the door it waits at."""

    def __init__(self, run: Run, again: Again | None, wait_seconds: float, lanes: Served | None) -> None:
        self.run = run
        self.again = again
        self.wait_seconds = wait_seconds
        self.lanes = lanes
        self.started = False
        self.answer: Any = None
        self.found: Any = None  # by `again`
        self.error: Exception | None = None
        self._door = threading.Lock()  # closed until the answer is there
        self._door.acquire()
        self._finished = False

    def attempt(self, tx: Transaction) -> bool:
        """Carry it out; False: it found nothing and would rather wait for work."""
        if not self.started:
            self.answer = self.run(tx)
            self.started = True
        if self.again is None:
            return True
        self.found = self.again(tx, self.answer)
        return self.found is not None or self.wait_seconds <= 0

    def wants(self, arrivals: Counter[str]) -> bool:
        """Would any of these tasks suit it?"""
        return self.lanes is None or not self.lanes.isdisjoint(arrivals)

    def forget(self) -> None:
        """The transaction it ran in was undone and is tried again."""
        self.started = False
        self.answer = self.error = None

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the answer; False if it has not come in time."""
        if not self._door.acquire(timeout=-1 if seconds is None else seconds):
            return False
        self._door.release()
        return True

    def finish(self, error: Exception | None = None) -> None:
        """Let the caller go, if it has not gone."""
        if not self._finished:
            self._finished = True
            self.error = error or self.error
            self._door.release()

    def result(self) -> Any:
        """What the caller gets."""
        if self.error is not None:
            raise self.error
        return self.answer


class Group:
    """The operations of one commit and what became of each. `heard`: tasks by lane that others have stored."""

    def __init__(self, heard: Counter[str]) -> None:
        self._heard = heard
        self.tried: dict[Operation, None] = {}  # all of them, in order: who must hear of an abort
        self.answered: list[Operation] = []
        self.waiting: list[Operation] = []
        self.effects: list[Transaction] = []

    @property
    def arrivals(self) -> Counter[str]:
        """Tasks by lane that are claimable now and were not before."""
        return sum((effect.arrivals for effect in self.effects), +self._heard)

    @property
    def older(self) -> set[str]:
        """Lanes where they may stand before others."""
        return set().union(*(effect.older for effect in self.effects))
