"""Tasks that hang, or come too late."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from shared.protocol import Grant
from tests.system.bench import Bench, error_of, lives


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    made.start()
    yield made
    made.executor.close()


def grant(kind: str, payload: bytes = b"{}", **fields: float) -> Grant:
    made = Grant(50, 1, "lease", 100.0, kind, msgspec.Raw(payload))
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def test_a_task_that_shows_nothing_for_too_long_is_stopped_as_hung(bench: Bench) -> None:
    (pid,) = bench.pids()

    result = bench.result_of(bench.hold(grant("odd.deaf", b'{"seconds": 600}', stall_seconds=0.2)))

    assert (result.outcome, result.retryable, error_of(result)["type"]) == ("failed", True, "Stalled")
    assert error_of(result)["message"] == ("the task hung: neither progress nor a checkpoint nor a line for 0.2 s")
    assert bench.pids() == [pid]


@pytest.mark.parametrize(("limit", "kind"), [("stall_seconds", "Stalled"), ("timeout_seconds", "TimeLimit")])
def test_a_task_that_returns_because_it_ran_out_of_time_has_not_completed(
    bench: Bench, limit: str, kind: str
) -> None:
    result = bench.result_of(bench.hold(grant("odd.notice", **{limit: 0.2})))

    assert (result.outcome, error_of(result)["type"]) == ("failed", kind)


@pytest.mark.parametrize("limit", ["stall_seconds", "timeout_seconds"])
def test_no_limit_counts_the_time_in_which_nobody_listens(
    bench: Bench, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too much waits for a dispatcher that is away: the task is held up by us."""
    monkeypatch.setattr("worker.outgoing.Outgoing.is_flooded", True)
    made = bench.hold(grant("odd.step", b'{"steps": 4, "seconds": 0.05}', **{limit: 0.6}))
    bench.until_running(made)
    (child,) = bench.executor._children

    bench.until(lambda: child.main.unheard_seconds > 1.0)
    monkeypatch.setattr("worker.outgoing.Outgoing.is_flooded", False)

    assert bench.result_of(made).outcome == "completed"


@pytest.mark.parametrize("how", ["progress", "checkpoint", "line"])
def test_any_sign_of_life_keeps_a_task_from_being_taken_for_hung(bench: Bench, how: str) -> None:
    payload = msgspec.json.encode({"how": how, "seconds": 1.5})

    result = bench.result_of(bench.hold(grant("odd.live", payload, stall_seconds=0.5)))

    assert result.outcome == "completed"


def test_a_hung_task_that_nothing_stops_is_killed_with_all_it_started(bench: Bench, tmp_path: Path) -> None:
    pid_file = tmp_path / "helper"
    payload = msgspec.json.encode({"pid_file": str(pid_file)})

    result = bench.result_of(bench.hold(grant("odd.stubborn", payload, stall_seconds=0.5)))

    helper = int(pid_file.read_text())
    assert (result.outcome, error_of(result)["type"]) == ("failed", "Stalled")
    bench.until(lambda: not lives(helper), 2.0)


def test_a_task_whose_deadline_has_passed_is_reported_and_not_run(bench: Bench, tmp_path: Path) -> None:
    tally = tmp_path / "tally"
    payload = msgspec.json.encode({"tally": str(tally)})

    result = bench.result_of(bench.hold(grant("odd.pure", payload, start_within_seconds=0.0)))

    assert (result.outcome, result.retryable, error_of(result)["type"]) == ("failed", False, "DeadlineMissed")
    assert not tally.exists()


def test_a_task_that_waits_behind_another_is_not_started_after_its_deadline(bench: Bench) -> None:
    bench.pace.observe("odd.deaf", 1000, 0.001)
    before = bench.add("odd.deaf", seconds=0.2)
    late = bench.hold(grant("odd.deaf", b'{"seconds": 0.0}', start_within_seconds=0.1))

    results = [bench.result_of(held) for held in (before, late)]

    assert [result.outcome for result in results] == ["completed", "failed"]


def test_a_task_within_its_deadline_runs(bench: Bench) -> None:
    result = bench.result_of(bench.hold(grant("noop", start_within_seconds=60.0)))

    assert result.outcome == "completed"
    assert bench.hand.start_by() == {}


def test_a_task_sees_how_its_parents_ended(bench: Bench) -> None:
    child = grant("odd.parents")
    child.parents = {"count": msgspec.Raw(b'{"status": "completed", "result": 7, "error": null}')}

    result = bench.result_of(bench.hold(child))

    assert msgspec.json.decode(result.result) == {"count": {"status": "completed", "result": 7, "error": None}}
