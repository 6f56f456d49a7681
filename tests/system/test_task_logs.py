"""What tasks print and log, each line with the attempt that made it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import psutil
import pytest

from shared.protocol import LOG_LINES_MAX
from tests.system.bench import Bench, error_of


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    made.start()
    yield made
    made.executor.close()


def test_everything_a_task_prints_is_kept_with_it(bench: Bench) -> None:
    grant = bench.add("odd.say", words="hello", level="warning")

    bench.result_of(grant)

    assert bench.lines_of(grant) == [
        ("info", "python hello"),
        ("warning", "log hello"),
        ("info", "raw hello"),
        ("info", "program hello"),
        ("info", "half hello"),
    ]


@pytest.mark.parametrize("how", ["wrap", "detach", "close", "go back"])
def test_what_a_task_does_to_its_stdout_loses_no_line_and_harms_no_other_task(bench: Bench, how: str) -> None:
    first, second = bench.add("odd.stdout", how=how, words="one"), bench.add("odd.stdout", how=how, words="two")
    other = bench.add("odd.chatter", lines=1)

    bench.until(lambda: len(bench.results) == 3)

    assert {result.outcome for result in bench.results} == {"completed"}
    assert [bench.lines_of(grant) for grant in (first, second)] == [[("info", "one")], [("info", "two")]]
    assert bench.lines_of(other) == [("info", "0")]


def test_lines_of_short_tasks_in_one_batch_are_kept_apart(bench: Bench) -> None:
    bench.pace.observe("odd.chatter", 1000, 0.001)
    bench.pace.observe("noop", 1000, 0.001)
    loud, silent, loud_again = (
        bench.add("odd.chatter", lines=3),
        bench.add("noop"),
        bench.add("odd.chatter", lines=2),
    )

    bench.until(lambda: len(bench.results) == 3)

    assert [text for _, text in bench.lines_of(loud)] == ["0", "1", "2"]
    assert bench.lines_of(silent) == []
    assert [text for _, text in bench.lines_of(loud_again)] == ["0", "1"]


def test_what_a_program_prints_is_not_of_the_task_before(bench: Bench) -> None:
    first = bench.add("odd.say", words="first")
    second = bench.add("odd.run", words="second")

    bench.until(lambda: len(bench.results) == 2)

    assert len(bench.lines_of(first)) == 5
    assert bench.lines_of(second) == [("info", "program second")]


def test_lines_of_a_running_task_go_with_the_heartbeat_and_not_again_with_the_result(bench: Bench) -> None:
    grant = bench.add("odd.say_and_wait", words="so far", timeout_seconds=1.0)

    bench.until(lambda: bench.logs)
    result = bench.result_of(grant)

    (log,) = bench.logs
    assert (log.task_id, log.attempt, log.lease_id) == (grant.task_id, 1, "lease")
    assert [line.message for line in log.lines] == ["so far"]
    assert 0 <= log.lines[0].age_seconds < 5
    assert result.log == []


def test_a_crash_report_carries_the_last_lines(bench: Bench) -> None:
    grant = bench.add("odd.die")

    result = bench.result_of(grant)

    assert bench.lines_of(grant) == [("info", "last words")]
    assert error_of(result)["last_log_lines"] == ["last words"]


def test_a_task_that_prints_without_end_costs_little_memory_and_keeps_its_newest_lines(bench: Bench) -> None:
    before = psutil.Process().memory_info().rss
    grant = bench.add("odd.chatter", lines=300_000)
    longest = 0.0

    while not bench.results:
        started_at = time.monotonic()
        bench.executor.run_once()
        longest = max(longest, time.monotonic() - started_at)
        parcel = bench.hand.outgoing.pack()  # as if the dispatcher were away: nothing goes with heartbeats
        bench.results += parcel.results

    lines = [line.message for line in bench.results[0].log]
    assert lines == [str(number) for number in range(300_000 - LOG_LINES_MAX, 300_000)]
    assert bench.results[0].task_id == grant.task_id
    assert longest < 2.0  # the worker's other children go on; an idle round takes 1 s
    assert psutil.Process().memory_info().rss - before < 100 * 2**20
    assert len(bench.log.getvalue().splitlines()) < 100_000


def test_lines_after_the_loss_of_a_grant_are_nobodys(bench: Bench) -> None:
    grant = bench.add("odd.say_and_wait", words="hello")
    bench.until(lambda: bench.logs)

    bench.hand.drop([(grant.task_id, grant.attempt)])
    bench.executor.ring()

    bench.until(lambda: not bench.executor.running())
    assert bench.hand.is_empty
