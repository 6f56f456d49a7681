"""Child processes without a dispatcher: what becomes of tasks that die, overrun, or are asked to stop."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shared.protocol import Grant, GrantedCheckpoint
from tests.system.bench import Bench, error_of, lives


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    made.executor.start()
    yield made
    made.executor.close()


def test_a_task_that_is_killed_is_reported_with_its_signal_and_last_words(bench: Bench) -> None:
    grant = bench.add("odd.die")

    result = bench.result_of(grant)

    error = error_of(result)
    assert (result.outcome, error["type"], error["signal"]) == ("crashed", "Killed", 9)
    assert error["last_log_lines"] == ["last words"]
    assert error["peak_rss_bytes"] > 1_000_000


def test_a_segmentation_fault_says_where(bench: Bench) -> None:
    result = bench.result_of(bench.add("odd.die", by=int(signal.SIGSEGV)))

    error = error_of(result)
    assert error["message"] == "signal 11 (SIGSEGV)"
    assert any("odd_tasks.py" in line for line in error["last_log_lines"])


def test_a_task_that_ends_its_process_is_reported_with_the_status(bench: Bench) -> None:
    result = bench.result_of(bench.add("odd.exit", status=3))

    assert (result.outcome, error_of(result)["type"], error_of(result)["status"]) == ("crashed", "Exited", 3)


def test_a_task_that_calls_sys_exit_only_fails(bench: Bench) -> None:
    (pid,) = bench.pids()

    result = bench.result_of(bench.add("odd.sys_exit"))

    assert (result.outcome, error_of(result)["type"]) == ("failed", "SystemExit")
    assert bench.pids() == [pid]


def test_neighbours_of_a_crash_run_as_if_nothing_had_been(bench: Bench) -> None:
    bench.pace.observe("noop", 1000, 0.001)
    bench.pace.observe("odd.die", 1000, 0.001)
    before = [bench.add("noop") for _ in range(20)]
    culprit = bench.add("odd.die")
    after = [bench.add("noop") for _ in range(20)]

    bench.until(lambda: len(bench.results) == 41)

    outcomes = {result.task_id: result.outcome for result in bench.results}
    assert len(outcomes) == 41
    assert outcomes.pop(culprit.task_id) == "crashed"
    assert outcomes == {grant.task_id: "completed" for grant in before + after}


def test_a_crash_is_noticed_although_a_forked_process_lives_on(bench: Bench) -> None:
    result = bench.result_of(bench.add("odd.fork"))

    assert result.outcome == "crashed"
    assert bench.result_of(bench.add("noop")).outcome == "completed"


def test_a_task_that_overruns_is_interrupted_and_its_child_lives(bench: Bench) -> None:
    (pid,) = bench.pids()

    result = bench.result_of(bench.add("odd.limited"))

    assert (result.outcome, error_of(result)["type"], result.retryable) == ("failed", "TimeLimit", True)
    assert bench.state_of(result) == {"so": "far"}
    assert bench.pids() == [pid]


def test_the_grants_time_limit_counts_before_the_declared_one(bench: Bench) -> None:
    result = bench.result_of(bench.add("odd.limited", timeout_seconds=0.05))

    assert "0.05 s" in error_of(result)["message"]


def test_an_interruption_that_the_task_swallows_counts_all_the_same(bench: Bench) -> None:
    result = bench.result_of(bench.add("odd.swallow", timeout_seconds=0.1))

    assert (result.outcome, error_of(result)["type"]) == ("failed", "TimeLimit")


def test_a_task_that_nothing_stops_is_killed_with_all_it_started(bench: Bench, tmp_path: Path) -> None:
    pid_file = tmp_path / "helper"

    result = bench.result_of(bench.add("odd.stubborn", timeout_seconds=0.5, pid_file=str(pid_file)))

    helper = int(pid_file.read_text())
    assert (result.outcome, error_of(result)["type"]) == ("failed", "TimeLimit")
    bench.until(lambda: not lives(helper), 2.0)


def test_the_task_runs_again_soon_after_its_child_was_killed(bench: Bench) -> None:
    grant = bench.add("odd.deaf", seconds=600)
    bench.until_running(grant)
    (pid,) = bench.pids()
    killed_at = time.monotonic()

    os.kill(pid, signal.SIGKILL)
    crashed = bench.result_of(grant)
    again = bench.add("odd.deaf", seconds=600)
    bench.until_running(again)

    assert crashed.outcome == "crashed"
    assert time.monotonic() - killed_at < 2.0  # 0.1 s on an idle machine


def test_a_drain_releases_a_task_with_its_newest_checkpoint(bench: Bench) -> None:
    grant = bench.add("odd.step", steps=10_000, seconds=0.02)
    bench.until(lambda: bench.checkpoints)

    bench.executor.drain()

    result = bench.result_of(grant)
    assert result.outcome == "released"
    assert result.checkpoint is not None
    assert result.checkpoint.seq == bench.checkpoints[-1].seq + 1


def test_a_drain_releases_what_has_not_started(bench: Bench) -> None:
    bench.pace.observe("odd.step", 1000, 1.0)
    grants = [bench.add("odd.step", steps=10_000, seconds=0.02) for _ in range(5)]
    bench.until_running(grants[0])

    bench.executor.drain()
    bench.until(lambda: len(bench.results) == 5)

    assert {result.outcome for result in bench.results} == {"released"}
    assert [result.task_id for result in bench.results if result.checkpoint] == [grants[0].task_id]


def test_a_drain_lets_a_task_finish_that_does_not_save(bench: Bench) -> None:
    grant = bench.add("odd.deaf", seconds=0.5)
    bench.until_running(grant)

    bench.executor.drain()

    assert bench.result_of(grant).outcome == "completed"


def test_what_does_not_finish_in_time_is_killed_and_released(bench: Bench) -> None:
    grant = bench.add("odd.deaf", seconds=600)
    bench.until_running(grant)

    bench.executor.drain()
    bench.executor.kill_all()

    assert bench.result_of(grant).outcome == "released"


def test_a_dropped_task_stops_and_reports_nothing(bench: Bench) -> None:
    grant = bench.add("odd.deaf", seconds=600)
    bench.until_running(grant)

    key = (grant.task_id, grant.attempt)
    bench.hand.drop([key])
    bench.executor.ring()

    assert bench.result_of(bench.add("noop")).outcome == "completed"
    assert [result.task_id for result in bench.results] == [2]


def test_short_tasks_do_not_wait_behind_one_that_turns_out_long() -> None:
    bench = Bench(slots=2)
    bench.executor.start()
    bench.pace.observe("odd.deaf", 1000, 0.001)
    long = bench.add("odd.deaf", seconds=600)
    short = [bench.add("odd.deaf", seconds=0.0) for _ in range(20)]

    bench.until(lambda: len(bench.results) == 20)

    assert [r.grant for r in bench.executor.running()] == [long]
    assert {result.outcome for result in bench.results} == {"completed"}
    assert {result.task_id for result in bench.results} == {grant.task_id for grant in short}
    bench.executor.close()


def test_what_would_wait_behind_long_tasks_goes_back(bench: Bench) -> None:
    bench.pace.observe("odd.deaf", 1000, 0.001)
    long = bench.add("odd.deaf", seconds=600)
    waiting = [bench.add("odd.deaf", seconds=0.0) for _ in range(20)]

    bench.until(lambda: len(bench.results) == 20)

    assert [r.grant for r in bench.executor.running()] == [long]
    assert bench.executor.closed_strands() == 1
    assert {result.outcome for result in bench.results} == {"released"}
    assert {result.task_id for result in bench.results} == {grant.task_id for grant in waiting}


def test_results_do_not_wait_for_the_task_behind_them(bench: Bench) -> None:
    bench.pace.observe("odd.deaf", 1000, 0.001)
    first = bench.add("odd.deaf", seconds=0.0)
    second = bench.add("odd.deaf", seconds=600)

    bench.result_of(first)

    bench.until_running(second)
    assert len(bench.results) == 1


def test_a_resumed_task_continues_its_sequence(bench: Bench) -> None:
    state = msgspec.Raw(b'{"position": 7, "state": null}')
    grant = Grant(99, 3, "lease", 100.0, "odd.step", msgspec.Raw(b'{"steps": 10, "seconds": 0.06}'))
    grant.checkpoint = GrantedCheckpoint(41, state, 0.7, 5.0, 0)

    bench.hand.add([grant])
    bench.result_of(grant)

    assert [checkpoint.seq for checkpoint in bench.checkpoints] == [42, 43, 44]
    assert bench.checkpoints[0].elapsed_seconds > 5.0
    assert bench.checkpoints[-1].progress == 1.0


@pytest.mark.parametrize(
    ("kind", "payload", "expected"),
    [
        ("odd.retry", {}, {"retryable": True, "retry_after_seconds": 12.5}),
        ("odd.fail", {}, {"retryable": False, "max_retries": 7}),
        ("odd.fail", {"massage": 1}, {"retryable": False, "max_retries": 7}),
        ("nobody.knows", {}, {"retryable": True}),
    ],
)
def test_each_failure_says_whether_to_retry(
    bench: Bench, kind: str, payload: dict[str, Any], expected: dict[str, Any]
) -> None:
    result = bench.result_of(bench.add(kind, **payload))

    assert result.outcome == "failed"
    assert {name: getattr(result, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("payload", "kind", "message"),
    [
        ({"size": 2**20}, "TooLarge", "the result has 1048"),
        ({"unknown": True}, "NotSendable", "the result cannot be sent as JSON: result is of type object"),
        ({"number": "nan"}, "NotSendable", "the result cannot be sent as JSON: result.number is nan"),
    ],
)
def test_a_result_that_cannot_be_sent_fails_its_task_for_good(
    bench: Bench, payload: dict[str, Any], kind: str, message: str
) -> None:
    result = bench.result_of(bench.add("odd.return", **payload))

    error = error_of(result)
    assert (result.outcome, result.retryable, error["type"]) == ("failed", False, kind)
    assert error["message"].startswith(message)
    assert "traceback" not in error


def test_a_checkpoint_that_cannot_be_sent_fails_its_task_for_good_and_names_the_line(bench: Bench) -> None:
    result = bench.result_of(bench.add("odd.save"))

    error = error_of(result)
    assert (result.outcome, result.retryable, error["type"]) == ("failed", False, "NotSendable")
    assert error["message"].startswith("the checkpoint's state cannot be sent as JSON: state.number is inf")
    assert "in save\n    ctx.checkpoint(" in error["traceback"]


def test_progress_and_message_can_be_seen(bench: Bench) -> None:
    grant = bench.add("odd.show")

    bench.until(lambda: bench.until_running(grant).message)

    assert bench.until_running(grant)[1:] == (0.25, "a quarter")


def test_a_child_that_is_being_replaced_counts_as_if_it_were_there(bench: Bench) -> None:
    (pid,) = bench.pids()
    os.kill(pid, signal.SIGKILL)

    bench.until(lambda: not any(child.is_ready for child in bench.executor._children))
    usable = bench.executor.usable_strands()
    result = bench.result_of(bench.add("noop"))

    assert usable == 1
    assert result.outcome == "completed"


def test_a_large_payload_and_a_large_result_pass(bench: Bench) -> None:
    payload = {"message": "x" * 1_000_000}

    failed = bench.result_of(bench.add("odd.fail", **payload))
    returned = bench.result_of(bench.add("odd.return", size=1_000_000))

    assert len(error_of(failed)["message"]) == 16_000
    assert len(msgspec.json.decode(returned.result)["text"]) == 1_000_000
