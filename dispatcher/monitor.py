"""The list of background duties and their periods. Each is one pass over the database.

A timed duty answers when it wants to run next (wall clock), and runs at that moment besides.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from dispatcher.ledger import Ledger
from shared import errors
from shared.log import Log

# The monitor counts as alive for /ready if a pass ended within this time.
ALIVE_SECONDS = 5.0


class Duty(NamedTuple):
    """Something to do every `period_seconds`, by the leader of several dispatchers or `everywhere`."""

    name: str
    period_seconds: float
    run: Callable[[], object]
    timed: bool = False
    everywhere: bool = False


class Monitor:
    """Runs the duties in one thread until stopped."""

    def __init__(self, ledger: Ledger, log: Log) -> None:
        self.duties = (
            # A silent worker is found within its time-out plus this; one indexed read when all is well.
            Duty("reclaim_silent", 0.2, ledger.reclaim_silent),
            Duty("promote", 1.0, ledger.promote, timed=True),  # at the very moment the next task is due
            Duty("fire_schedules", 1.0, ledger.schedules.fire, timed=True),  # at the very moment of the next slot
            Duty("open_windows", 1.0, ledger.limits.open_windows, timed=True),  # when one moves on
            Duty("expire", 0.5, ledger.expire, timed=True),  # at once again while there are more
            Duty("settle_limits", 1.0, ledger.limits.settle_all),
            Duty("reclaim_expired", 1.0, ledger.reclaim_expired),
            Duty("serve_parked", 1.0, ledger.database.serve_parked, everywhere=True),
            Duty("prune", 0.2, ledger.prune),
        )
        self.passed_at = time.monotonic()
        self._ledger = ledger
        self._log = log
        self._wake = threading.Event()
        self._stopping = False
        self._due_at: float | None = None
        self._thread = threading.Thread(target=self.run_forever, name="monitor", daemon=True)
        ledger.database.when_due = self._expect

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the present duty."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        self._ledger.leadership.give_up()

    @property
    def alive(self) -> bool:
        """Has a pass ended lately?"""
        return self._thread.is_alive() and time.monotonic() - self.passed_at < ALIVE_SECONDS

    def _expect(self, run_at: float) -> None:
        """The writer tells of a newly scheduled task, or a window that will open: wake in time for it."""
        if self._due_at is None or run_at < self._due_at:
            self._due_at = run_at
            self._wake.set()

    def run_once(self) -> None:
        """One pass over every duty, whatever their periods."""
        for duty in self.duties:
            self._run(duty)

    def run_forever(self) -> None:
        """Each duty at its time; an error of one is logged and ends neither it nor the others."""
        timetable = [(0.0, index) for index in range(len(self.duties))]
        while not self._stopping:
            at, index = timetable[0]
            pause = at - time.monotonic()
            if self._due_at is not None:
                pause = min(pause, self._due_at - self._ledger.database.clock.wall())
            if pause > 0:
                self._wake.wait(pause)
                self._wake.clear()
                self._ledger.database.clock.lease()  # a clock that is read knows that no time was missed
            if self._due_at is not None and self._due_at <= self._ledger.database.clock.wall():
                self._run_timed()
            if at <= time.monotonic():
                self._run(self.duties[index])
                heapq.heapreplace(timetable, (time.monotonic() + self.duties[index].period_seconds, index))
                self.passed_at = time.monotonic()

    def _run_timed(self) -> None:
        self._due_at = None
        for duty in self.duties:
            if duty.timed:
                self._run(duty)

    def _run(self, duty: Duty) -> None:
        try:
            if not (duty.everywhere or self._ledger.leadership.holds()):
                return
            answer = duty.run()
        except errors.Unavailable:
            return  # said already; the next pass tries again
        except Exception as error:
            self._log("internal_error", where=f"duty {duty.name}", reason=repr(error))
            return
        if duty.timed and isinstance(answer, float):
            self._due_at = answer if self._due_at is None else min(self._due_at, answer)
