"""The lease clock: what advances it, what does not, and the time of grace."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from dispatcher import clock as clock_module
from dispatcher.clock import LONGEST_STEP_SECONDS, LeaseClock


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The machine's two clocks, set by the test."""
    hands = SimpleNamespace(monotonic_now=500.0, wall_now=1_800_000_000.0)
    fake = SimpleNamespace(monotonic=lambda: hands.monotonic_now, time=lambda: hands.wall_now)
    monkeypatch.setattr(clock_module, "time", fake)
    return hands


def _run(clock: LeaseClock, system: Any, seconds: float, step: float = 0.5) -> None:
    """The process serves: the clock is read all the time."""
    for _ in range(round(seconds / step)):
        system.monotonic_now += step
        clock.lease()


def test_the_lease_clock_goes_on_from_where_it_was_stored(system: Any) -> None:
    clock = LeaseClock(1234.5, 5.0)

    _run(clock, system, 10)

    assert clock.lease() == pytest.approx(1244.5)


@pytest.mark.parametrize("seconds", [-1e9, 1e9])
def test_a_jump_of_the_wall_clock_does_not_move_it(system: Any, seconds: float) -> None:
    clock = LeaseClock(0.0, 5.0)
    system.wall_now += seconds

    assert clock.lease() == 0.0
    assert clock.wall() == 1_800_000_000.0 + seconds


def test_a_gap_counts_for_one_second_and_begins_a_time_of_grace(system: Any) -> None:
    clock = LeaseClock(0.0, 5.0)
    _run(clock, system, 6)
    before = clock.judging()
    system.monotonic_now += 3600

    assert clock.lease() == pytest.approx(6.0 + LONGEST_STEP_SECONDS)
    assert (before, clock.judging()) == (True, False)
    _run(clock, system, 5)
    assert clock.judging()


def test_nobody_is_judged_after_a_start(system: Any) -> None:
    clock = LeaseClock(100.0, 5.0)
    _run(clock, system, 4.5)
    before = clock.judging()
    _run(clock, system, 0.5)

    assert (before, clock.judging()) == (False, True)


def test_grace_begins_anew_when_heartbeats_could_not_be_kept(system: Any) -> None:
    clock = LeaseClock(0.0, 5.0)
    _run(clock, system, 10)
    clock.grace()
    _run(clock, system, 4.5)
    before = clock.judging()
    _run(clock, system, 0.5)

    assert (before, clock.judging()) == (False, True)


def test_without_grace_judging_begins_at_once(system: Any) -> None:
    assert LeaseClock(7.0, 0.0).judging()
