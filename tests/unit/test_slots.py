"""Timetables: cron and periods, over both changes of the clock."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from itertools import takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.slots import Timetable, problem

BERLIN = "Europe/Berlin"
SPRING = datetime(2026, 3, 28, 12, tzinfo=UTC).timestamp()  # 02:00 on the 29th becomes 03:00
AUTUMN = datetime(2026, 10, 24, 12, tzinfo=UTC).timestamp()  # 03:00 on the 25th becomes 02:00
DAY = 86400.0


def cron(expression: str, zone: str = BERLIN) -> Timetable:
    return Timetable(expression, None, zone, 0.0)


def local(slots: list[float]) -> list[str]:
    return [datetime.fromtimestamp(slot, ZoneInfo(BERLIN)).strftime("%d %H:%M%z") for slot in slots]


def test_a_time_that_the_change_skips_fires_right_after_the_gap() -> None:
    assert local(cron("30 2 * * *").upcoming(SPRING, 2)) == ["29 03:00+0200", "30 02:30+0200"]


def test_a_time_that_comes_twice_fires_the_first_time_only() -> None:
    assert local(cron("30 2 * * *").upcoming(AUTUMN, 2)) == ["25 02:30+0200", "26 02:30+0100"]


def test_between_the_two_comings_of_an_hour_the_next_is_tomorrow() -> None:
    between = datetime(2026, 10, 25, 1, 10, tzinfo=UTC).timestamp()

    assert local(cron("30 2 * * *").upcoming(between, 1)) == ["26 02:30+0100"]


def test_within_the_second_coming_of_an_hour_its_first_is_not_forgotten() -> None:
    within = datetime(2026, 10, 25, 1, 0, tzinfo=UTC).timestamp()

    assert local(cron("30 2 * * *").due(within - DAY / 2, within, 5)[0]) == ["25 02:30+0200"]


def test_just_before_a_slot_it_is_still_to_come() -> None:
    slot = cron("30 2 * * *").next(SPRING) or 0.0

    assert cron("30 2 * * *").due(math.nextafter(slot, 0.0), slot, 1) == ([slot], False)


@pytest.mark.parametrize(("start", "hours"), [(SPRING, 23), (AUTUMN, 25)])
def test_every_hour_means_every_hour_that_passes(start: float, hours: int) -> None:
    midnight = start - start % DAY + DAY - (2 if start == AUTUMN else 1) * 3600
    until = midnight + hours * 3600

    assert len(list(takewhile(lambda slot: slot < until, cron("0 * * * *").after(midnight - 1)))) == hours


def test_a_period_counts_from_its_anchor_and_fires_first_after_one_period() -> None:
    timetable = Timetable(None, 30.0, "UTC", 1000.0)

    assert timetable.upcoming(1000.0, 3) == [1030.0, 1060.0, 1090.0]
    assert timetable.upcoming(500.0, 1) == [1030.0]
    assert timetable.next(1060.0) == 1090.0


def test_the_newest_of_what_is_due_is_kept() -> None:
    timetable = Timetable(None, 10.0, "UTC", 0.0)

    assert timetable.due(0.0, 100.0, 3) == ([80.0, 90.0, 100.0], True)
    assert timetable.due(70.0, 100.0, 3) == ([80.0, 90.0, 100.0], False)
    assert timetable.due(100.0, 100.0, 3) == ([], False)


ZONES = (BERLIN, "America/New_York", "UTC", "Pacific/Auckland")
NIGHTLY = ("30 2 * * *", "0 2,3 * * *", "30 1,2 * * *", "15 0-3 * * *", "59 1 * * 1-5", "0 0 1 * *")
STEPPED = ("*/30 * * * *", "15 */2 * * *", "*/7 1-3 * * 7")
PERIODS = (1.0, 7.5, 3600.0, 0.1 + 0.2 + 1)
TIMETABLES = st.builds(cron, st.sampled_from(NIGHTLY + STEPPED), st.sampled_from(ZONES)) | st.builds(
    Timetable, st.none(), st.sampled_from(PERIODS), st.just("UTC"), st.just(5.25)
)
CHANGES = [datetime(2026, m, d, h, tzinfo=UTC).timestamp() for m, d, h in
           ((3, 29, 1), (10, 25, 1), (3, 8, 7), (11, 1, 6), (4, 4, 14), (9, 26, 14))]  # fmt: skip
STARTS = st.floats(1.7e9, 1.9e9) | st.builds(
    lambda at, by: at + by * 300.0, st.sampled_from(CHANGES), st.integers(-60, 60)
)


@given(timetable=TIMETABLES, start=STARTS, steps=st.integers(1, 30), limit=st.integers(1, 5))
def test_the_newest_are_the_last_of_all(timetable: Timetable, start: float, steps: int, limit: int) -> None:
    end = start + steps * min(timetable.every_seconds or 7200.0, 7200.0)

    slots = list(takewhile(lambda slot: slot <= end, timetable.after(start)))

    assert timetable.due(start, end, limit) == (slots[-limit:], len(slots) > limit)
    assert slots == sorted(set(slots))


@given(timetable=TIMETABLES, start=STARTS)
def test_slots_are_the_same_from_wherever_one_looks(timetable: Timetable, start: float) -> None:
    first, second = timetable.upcoming(start, 2)

    assert timetable.next((start + first) / 2) == first
    assert timetable.next(first) == second


@pytest.mark.parametrize("expression", ["", "* * * *", "61 * * * *", "0 0 30 2 *", "x * * * *", "0 0 * * * *"])
def test_what_is_no_cron_expression_is_said_so(expression: str) -> None:
    assert problem(expression, SPRING, "UTC")


def test_the_29th_of_february_is_a_date() -> None:
    assert problem("0 0 29 2 *", SPRING, "UTC") is None
