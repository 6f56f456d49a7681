"""The monitor's loop: every duty at its time, whatever the others do."""

from __future__ import annotations

import io
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from dispatcher.monitor import Duty, Monitor
from shared import errors
from shared.log import Log
from tests.support.fake_clock import FakeClock
from tests.support.waiting import wait_until


@pytest.fixture
def monitor() -> Any:
    """A monitor whose duties do nothing yet; its log can be read."""
    database = SimpleNamespace(clock=FakeClock(), serve_parked=lambda: None, when_due=None)
    names = ("reclaim_silent", "promote", "expire", "reclaim_expired", "prune")
    limits = SimpleNamespace(open_windows=lambda: None, settle_all=lambda: None)
    leadership = SimpleNamespace(holds=lambda: True, give_up=lambda: None)
    ledger: Any = SimpleNamespace(
        database=database,
        limits=limits,
        leadership=leadership,
        schedules=SimpleNamespace(fire=lambda: None),
        **{name: lambda: None for name in names},
    )
    stream = io.StringIO()
    made = Monitor(ledger, Log("dispatcher", stream))
    made.test_stream = stream  # type: ignore[attr-defined]
    yield made
    made.stop()


def test_all_duties_are_in_one_list(monitor: Monitor) -> None:
    names = [duty.name for duty in monitor.duties]

    assert names == [
        "reclaim_silent",
        "promote",
        "fire_schedules",
        "open_windows",
        "expire",
        "settle_limits",
        "reclaim_expired",
        "serve_parked",
        "prune",
    ]


def test_one_pass_runs_every_duty_once(monitor: Monitor) -> None:
    ran: list[str] = []
    monitor.duties = tuple(duty._replace(run=lambda name=duty.name: ran.append(name)) for duty in monitor.duties)

    monitor.run_once()

    assert ran == [duty.name for duty in monitor.duties]


@pytest.mark.parametrize(("error", "lines"), [(errors.DatabaseUnavailable(), 0), (ZeroDivisionError(), 1)])
def test_a_duty_that_fails_ends_neither_the_pass_nor_the_others(
    monitor: Any, error: Exception, lines: int
) -> None:
    ran: list[str] = []

    def fail() -> None:
        raise error

    monitor.duties = (Duty("first", 1.0, fail), Duty("second", 1.0, lambda: ran.append("second")))

    monitor.run_once()

    assert ran == ["second"]
    assert len(monitor.test_stream.getvalue().splitlines()) == lines


def test_each_duty_runs_at_its_own_period(monitor: Monitor) -> None:
    ran = {"often": 0, "seldom": 0}

    def count(name: str) -> None:
        ran[name] += 1

    monitor.duties = (
        Duty("often", 0.001, lambda: count("often")),
        Duty("seldom", 60.0, lambda: count("seldom")),
    )

    monitor.start()

    wait_until(lambda: ran["often"] > 5, "the duty to run several times")
    assert ran["seldom"] == 1
    assert monitor.alive
    monitor.stop()
    assert not monitor.alive


def test_a_task_that_falls_due_is_promoted_at_its_moment(monitor: Any) -> None:
    promoted = threading.Event()
    runs: list[int] = []

    def promote() -> None:
        runs.append(1)
        if len(runs) > 1:  # the first is that of its period
            promoted.set()

    monitor.duties = (Duty("idle", 60.0, lambda: None), Duty("promote", 60.0, promote, timed=True))
    monitor.start()
    wait_until(lambda: runs, "the first pass")

    monitor._ledger.database.when_due(monitor._ledger.database.clock.wall() + 0.02)
    monitor._ledger.database.clock.advance(0.02)

    assert promoted.wait(5.0)


def test_stopping_before_the_start_is_fine(monitor: Monitor) -> None:
    monitor.stop()

    assert not monitor.alive
