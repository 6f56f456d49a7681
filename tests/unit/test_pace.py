"""How many tasks a worker asks for."""

from __future__ import annotations

from shared.protocol import WANT_MAX
from worker.pace import AHEAD_TASKS, Pace


def test_nothing_known_means_one_task_for_each_free_slot() -> None:
    pace = Pace()

    assert [pace.want(4, unfinished) for unfinished in (0, 3, 4, 5)] == [4, 1, 0, 0]


def test_long_tasks_are_never_fetched_ahead() -> None:
    pace = Pace()
    pace.observe("long", 1, 0.3)

    assert [pace.want(2, unfinished) for unfinished in (0, 1, 2)] == [2, 1, 0]


def test_short_tasks_are_asked_for_by_the_quarter_of_a_second() -> None:
    pace = Pace()
    pace.observe("short", 100, 100 * 0.01)

    assert pace.want(2, 0) == 2 * 25


def test_a_claim_is_made_when_half_of_the_work_is_done() -> None:
    pace = Pace()
    pace.observe("short", 100, 100 * 0.01)

    assert [pace.want(1, unfinished) for unfinished in (25, 13, 12)] == [0, 0, 13]


def test_trust_grows_in_steps() -> None:
    pace = Pace()

    wants = []
    for _ in range(7):
        wants.append(pace.want(1, 0))
        pace.observe("tiny", wants[-1], wants[-1] * 1e-6)

    assert wants == [1, 4, 20, 100, 500, WANT_MAX, WANT_MAX]


def test_however_short_the_tasks_only_so_many_are_held() -> None:
    pace = Pace()
    pace.observe("tiny", 10_000, 0.0)

    assert [pace.want(1, held) for held in (0, AHEAD_TASKS // 2, AHEAD_TASKS // 2 + 1)] == [WANT_MAX, WANT_MAX, 0]


def test_the_slowest_recent_type_decides() -> None:
    pace = Pace()
    pace.observe("short", 40, 0.4)
    pace.observe("long", 1, 10.0)

    wanted = pace.want(1, 0)
    pace.observe("short", 50, 0.5)

    assert wanted == 1
    assert pace.want(1, 0) == 25


def test_the_mean_follows_a_change() -> None:
    pace = Pace()
    pace.observe("task", 10, 10.0)

    for _ in range(5):
        pace.observe("task", 10, 0.1)

    assert 0.01 <= pace.seconds("task") < 0.012


def test_an_unknown_type_counts_as_endless() -> None:
    pace = Pace()

    assert pace.seconds("new") == float("inf")
    assert not pace.is_short("new")
