"""Tasks that wait, in threads of one process: what time limits, cancels and deaths can do to them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from analysis.cluster import cluster
from shared.protocol import Grant
from tests.support.invariants import check_invariants
from tests.system.bench import Bench, error_of
from tests.system.support import ended, submit


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench(threads=3)
    made.start()
    yield made
    made.executor.close()


def until_saved(bench: Bench, *grants: Grant) -> None:
    """Until each of them has saved something."""
    ids = {grant.task_id for grant in grants}
    bench.until(lambda: ids <= {checkpoint.task_id for checkpoint in bench.checkpoints})


def test_tasks_that_wait_run_side_by_side_in_one_process(bench: Bench) -> None:
    waiting = [bench.add("odd.wait", seconds=600) for _ in range(3)]
    computing = bench.add("odd.deaf", seconds=600)

    bench.until_running(*waiting, computing)

    assert len(bench.pids()) == 1
    assert (bench.executor.closed_strands(), bench.executor.closed_strands(waits=True)) == (1, 3)


def test_types_that_do_not_wait_never_run_side_by_side(bench: Bench) -> None:
    first = bench.add("odd.deaf", seconds=600)
    bench.until_running(first)
    second = bench.add("odd.deaf", seconds=600)

    assert bench.result_of(second).outcome == "released"
    assert [running.grant for running in bench.executor.running()] == [first]


def test_without_threads_a_task_that_waits_runs_like_any_other() -> None:
    bench = Bench()
    bench.start()
    first = bench.add("odd.wait", seconds=600)
    bench.until_running(first)
    second = bench.add("odd.wait", seconds=600)

    assert bench.result_of(second).outcome == "released"
    assert [running.grant for running in bench.executor.running()] == [first]
    bench.executor.close()


def test_each_thread_prints_into_the_log_of_its_own_task(bench: Bench) -> None:
    grants = [bench.add("odd.wait", seconds=0.2, words=f"I am {number}") for number in range(3)]

    bench.until(lambda: len(bench.results) == 3)

    assert [bench.lines_of(grant) for grant in grants] == [[("info", f"I am {number}")] for number in range(3)]


def test_what_a_program_prints_beside_a_task_that_runs_alone_is_that_tasks(bench: Bench) -> None:
    grant = bench.add("odd.say", words="hello")

    bench.result_of(grant)

    assert ("info", "program hello") in bench.lines_of(grant)


def test_what_a_program_prints_on_a_thread_is_of_the_tasks_on_threads(bench: Bench) -> None:
    bench.result_of(bench.add("odd.say", words="before"))
    neighbour = bench.add("odd.wait", seconds=600)
    bench.until_running(neighbour)

    grant = bench.add("odd.wait_for_program", words="hello")
    bench.result_of(grant)

    assert bench.lines_of(grant) == [("info", "program hello")]
    assert bench.lines_of(neighbour) == [("info", "program hello")]


def test_a_time_limit_stops_a_thread_that_looks_and_its_neighbours_go_on(bench: Bench) -> None:
    (pid,) = bench.pids()
    neighbour = bench.add("odd.wait", seconds=600)
    bench.until_running(neighbour)

    result = bench.result_of(bench.add("odd.wait", timeout_seconds=0.2, seconds=600))

    assert (result.outcome, error_of(result)["type"]) == ("failed", "TimeLimit")
    assert bench.pids() == [pid]
    assert [running.grant for running in bench.executor.running()] == [neighbour]


def test_a_thread_that_does_not_look_costs_its_neighbours_a_release(bench: Bench) -> None:
    neighbour = bench.add("odd.wait", seconds=600)
    computing = bench.add("odd.step", steps=10_000, seconds=0.02)
    bench.until_running(neighbour, computing)
    deaf = bench.add("odd.wait_deaf", timeout_seconds=0.2, seconds=600)

    results = [bench.result_of(grant) for grant in (deaf, neighbour, computing)]

    assert [result.outcome for result in results] == ["failed", "released", "released"]
    assert error_of(results[0])["type"] == "TimeLimit"


def test_a_cancel_stops_a_thread_that_looks_and_its_neighbours_go_on(bench: Bench) -> None:
    (pid,) = bench.pids()
    neighbour, cancelled = bench.add("odd.wait", seconds=600), bench.add("odd.wait", seconds=600)
    bench.until_running(neighbour, cancelled)

    bench.hand.drop([(cancelled.task_id, 1)])

    bench.until(lambda: [running.grant for running in bench.executor.running()] == [neighbour])
    assert bench.pids() == [pid]
    assert bench.results == []


def test_a_drain_releases_every_thread_with_its_checkpoint(bench: Bench) -> None:
    grants = [bench.add("odd.wait", seconds=600) for _ in range(3)]
    bench.until_running(*grants)
    until_saved(bench, *grants)

    bench.executor.drain()
    bench.until(lambda: len(bench.results) == 3)

    assert {result.outcome for result in bench.results} == {"released"}
    assert all(result.checkpoint for result in bench.results)


def test_a_death_is_reported_for_every_task_of_the_process(bench: Bench) -> None:
    neighbour = bench.add("odd.wait", seconds=600)
    bench.until_running(neighbour)
    culprit = bench.add("odd.wait_and_die")

    results = [bench.result_of(grant) for grant in (neighbour, culprit)]

    assert [result.outcome for result in results] == ["crashed", "crashed"]
    assert {error_of(result)["tasks_in_process"] for result in results} == {2}


def test_what_waits_behind_a_full_house_goes_back(bench: Bench) -> None:
    bench.pace.observe("odd.wait", 1000, 0.001)
    running = [bench.add("odd.wait", seconds=600) for _ in range(3)]
    bench.until_running(*running)
    late = bench.add("odd.wait", seconds=600)

    assert bench.result_of(late).outcome == "released"
    assert bench.result_of(bench.add("noop")).outcome == "completed"


def test_a_worker_fills_its_threads_and_computes_beside_them(tmp_path: Path) -> None:
    with cluster(tmp_path) as baton:
        baton.start_worker("worker-1", "--threads", "8")
        waiting = submit(baton, "sleep", 8, seconds=600)

        def all_run() -> bool:
            return all((baton.client.task(task_id)["progress"] or 0) > 0 for task_id in waiting)

        baton.wait(all_run, "all of them to run at once")
        (computing,) = submit(baton, "hash_chain", rounds=100, seed="s")

        assert ended(baton, computing)["status"] == "completed"
        for task_id in waiting:
            baton.client.cancel(task_id)
    check_invariants(baton.database)
