"""The scale model: the real ledger under virtual time. No thread waits, so it takes no time."""

from __future__ import annotations

import pytest

from analysis.calibration import Costs
from analysis.fleet import Conditions
from analysis.simulation import Simulation
from analysis.simulation_outcome import COLUMNS, Outcome, assumptions, reading, row

CHEAP = Costs(0.0002, 0.0002, 0.0003, 0.0005, source="given")
HARSH = Conditions(task_seconds=4.0, lifetime_seconds=20.0, absence_seconds=1.0)


def _run(workers: int, costs: Costs, conditions: Conditions = HARSH, seconds: float = 6.0) -> Outcome:
    return Simulation(workers, conditions, costs).run(seconds)


def test_a_small_fleet_has_no_false_deaths_and_finds_the_true_ones() -> None:
    outcome = _run(40, CHEAP)

    assert outcome.false_deaths == 0
    assert outcome.deaths > 0
    assert outcome.detection_median is not None
    assert 0.8 < outcome.detection_median < 2.3  # two seconds of silence, of which up to one had passed
    assert outcome.load < 0.1


def test_a_death_costs_about_half_a_checkpoint_interval() -> None:
    outcome = _run(100, CHEAP)

    assert outcome.lost_per_death == pytest.approx(0.5, abs=0.25)
    assert outcome.lost_by_mistake == 0


def test_tasks_go_on_and_end() -> None:
    outcome = _run(40, CHEAP)

    assert outcome.completed > 20  # 40 workers, 6 s, 4 s a task
    assert outcome.delay_median is not None
    assert outcome.delay_median < 0.02


# 1,000 workers need 3.5 s for a round of heartbeats: more than the two seconds that silence may last.
SLOW = Costs(0.0035, 0.0035, 0.0035, 0.0005, source="given")


def test_a_dispatcher_that_cannot_keep_up_takes_the_living_for_dead() -> None:
    outcome = _run(1000, SLOW, Conditions(), seconds=8.0)

    assert outcome.load > 0.9
    assert outcome.false_deaths > 0
    assert outcome.gap_p99 is not None
    assert outcome.gap_p99 > 2.0
    assert "1,000 workers: broken" in reading([outcome], Conditions(), SLOW)[-1]


def test_a_longer_timeout_forgives_the_same_slowness() -> None:
    patient = Conditions(heartbeat_seconds=5.0, timeout_seconds=15.0, checkpoint_seconds=5.0)

    outcome = _run(1000, SLOW, patient, seconds=8.0)

    assert outcome.false_deaths == 0
    assert outcome.load < 0.9


def test_the_same_seed_gives_the_same_answer() -> None:
    first, second = _run(20, CHEAP), _run(20, CHEAP)

    assert first.completed == second.completed
    assert first.deaths == second.deaths
    assert first.delay_p99 == second.delay_p99


def test_the_reading_tells_what_breaks_and_the_assumptions_their_source() -> None:
    conditions = Conditions()
    outcome = _run(20, CHEAP, seconds=2.0)

    said = " ".join(reading([outcome], conditions, CHEAP))
    assumed = " ".join(assumptions(conditions, CHEAP))

    assert "at about 5,000 workers" in said  # a second divided by 200 µs
    assert "at about 10,000 workers" in said  # two seconds
    assert "20 workers: fine" in said
    assert "200 µs" in assumed
    assert "(given)" in assumed
    assert len(row(outcome)) == len(COLUMNS)
