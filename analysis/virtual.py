"""A dispatcher under virtual time: the real ledger, the real database and the real list of duties.

Only the clock is ours, and the server in front: messages come as a list and share one commit, as the
writer's group commit does it. Nothing here waits.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from dispatcher.database import Database
from dispatcher.lanes import Served
from dispatcher.ledger import Ledger
from dispatcher.monitor import Monitor
from dispatcher.operation import Again, Run
from dispatcher.sqlite import SQLite
from dispatcher.transaction import Transaction
from shared.log import Log
from shared.protocol import Exchange, ExchangeAnswer
from shared.settings import Settings

_EPOCH: Final = 1_800_000_000.0  # any date will do


class VirtualClock:
    """As dispatcher.clock.Clock; somebody sets `now`, in seconds since the start of the simulation."""

    def __init__(self) -> None:
        self.now = 0.0
        self.judging_from = 0.0

    def wall(self) -> float:
        """Unix seconds of an invented date."""
        return _EPOCH + self.now

    def lease(self) -> float:
        """Seconds of the lease clock."""
        return self.now

    def judging(self) -> bool:
        """May silence be held against a worker now?"""
        return self.now >= self.judging_from

    def grace(self) -> None:
        """The database was away: it never is, here."""


class GroupedDatabase(Database):
    """A real database whose writes join the transaction of the group under way, if there is one.

    `before_single` is called before a write of its own: a duty's, which waits for its turn and its
    commit among the messages of workers.
    """

    _group: Transaction | None = None
    before_single: Callable[[], object] = staticmethod(lambda: None)

    def together(self, operations: Sequence[Callable[[], Any]]) -> list[Any]:
        """Carry out all of them in one transaction; returns their answers."""

        def run(tx: Transaction) -> list[Any]:
            self._group = tx
            try:
                return [operation() for operation in operations]
            finally:
                self._group = None

        answers: list[Any] = super().write(run)
        return answers

    def write(self, run: Run) -> Any:
        """In the group's transaction, or in one of its own."""
        if self._group is not None:
            return run(self._group)
        self.before_single()
        return super().write(run)

    def write_and_wait(
        self, run: Run, again: Again, wait_seconds: float, lanes: Served | None
    ) -> tuple[Any, Any, bool]:
        """As `write`; nobody waits here, who finds nothing asks again later."""

        def both(tx: Transaction) -> tuple[Any, Any]:
            answer = run(tx)
            return answer, again(tx, answer)

        return *self.write(both), True


class VirtualDispatcher:
    """Opened on an empty folder. `on_event(event, facts)` hears of every log line.

    `ledger_seconds` and `duty_seconds`: what the real ledger has really taken so far.
    """

    def __init__(
        self, folder: Path, settings: Settings, on_event: Callable[[str, dict[str, Any]], object]
    ) -> None:
        self.clock = VirtualClock()
        log = _Ear(on_event)
        self.database = GroupedDatabase(
            SQLite(folder / "baton.db", durability="normal"), log=log, on_fatal=fail, clock=self.clock
        )
        self.ledger = Ledger(self.database, settings)
        self.ledger_seconds = 0.0
        self.duty_seconds: dict[str, list[float]] = {}
        monitor = Monitor(self.ledger, log)
        # serve_parked belongs to parked requests, of which there are none.
        self._duties = {duty.name: duty for duty in monitor.duties if duty.name != "serve_parked"}
        self._due = dict.fromkeys(self._duties, 0.0)

    def serve(self, messages: Sequence[Exchange]) -> list[ExchangeAnswer]:
        """The answers to messages that share a commit."""
        began = perf_counter()
        operations = [lambda message=message: self.ledger.exchange(message) for message in messages]
        answers = self.database.together(operations)
        self.ledger_seconds += perf_counter() - began
        return answers

    @property
    def next_duty_at(self) -> float:
        """When the next of the monitor's duties is due."""
        return min(self._due.values())

    def run_duties(self) -> None:
        """Run the duties that are due now, each in its own period."""
        for name, duty in self._duties.items():
            if self._due[name] <= self.clock.now:
                self._due[name] = self.clock.now + duty.period_seconds
                began = perf_counter()
                duty.run()
                self.duty_seconds.setdefault(name, []).append(perf_counter() - began)

    def close(self) -> None:
        """Close the database."""
        self.database.close()


class _Ear(Log):
    """Hears events instead of writing them."""

    def __init__(self, on_event: Callable[[str, dict[str, Any]], object]) -> None:
        super().__init__("dispatcher", io.StringIO())
        self._on_event = on_event

    def __call__(self, event: str, **facts: Any) -> None:
        self._on_event(event, facts)


def fail(reason: str) -> None:
    """What `on_fatal` does where there is no process to end."""
    raise RuntimeError(reason)
