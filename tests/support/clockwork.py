"""Clockwork: a schedule that passes its time under a test's clock."""

from __future__ import annotations

from typing import Any

import msgspec

from dispatcher.schedules import Schedules
from shared.schedules import ScheduleSubmission
from tests.support.builder import Builder

MINUTE, DAY = 60.0, 86400.0


class Clockwork:
    """One schedule named "s", and what it has fired."""

    def __init__(self, tasks: Builder, **fields: Any) -> None:
        self.tasks = tasks
        when = {} if "cron" in fields else {"every_seconds": 60}
        what = {} if "flow" in fields else {"task": {"type": "tick"}}
        body = msgspec.json.encode({"name": "s", **when, **what, **fields})
        self.schedules.add(msgspec.json.decode(body, type=ScheduleSubmission))

    @property
    def schedules(self) -> Schedules:
        return self.tasks.dispatcher.ledger.schedules

    def pass_time(self, seconds: float) -> None:
        """Time passes while the monitor looks every ten seconds."""
        until = self.tasks.dispatcher.clock.wall() + seconds
        while self.tasks.dispatcher.clock.wall() < until:
            self.tasks.advance(min(10.0, until - self.tasks.dispatcher.clock.wall()))
            self.schedules.fire()

    def sleep(self, seconds: float) -> None:
        """Time passes while no dispatcher runs."""
        self.tasks.dispatcher.close()
        self.tasks.advance(seconds)
        self.tasks.dispatcher.open()
        self.schedules.fire()

    def outcomes(self) -> list[str]:
        """Of its slots, oldest first."""
        rows = self.tasks.dispatcher.rows("SELECT outcome FROM schedule_slots ORDER BY slot_at, by_hand")
        return [outcome for (outcome,) in rows]

    def ticks(self) -> int:
        return int(self.tasks.dispatcher.rows("SELECT COUNT(*) FROM tasks WHERE type = 'tick'")[0][0])

    def check_that_no_slot_came_twice(self) -> None:
        fired = [outcome for outcome in self.outcomes() if outcome == "fired"]
        assert self.ticks() == len(fired)
