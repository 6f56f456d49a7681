"""Processes and threads that a task starts: they speak for nobody, hear what is sent to them, and end in time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.system.bench import Bench, error_of, lives

STARTING = str(Path(__file__).parent.parent / "support/starting_tasks.py")


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench(modules=(STARTING,))
    made.executor.start()
    yield made
    made.executor.close()


@pytest.mark.parametrize(
    ("how", "status", "words"),
    [
        ("return", 0, ""),
        ("exit", 3, ""),
        ("raise", 1, "ValueError: in the forked process"),
        ("save", 1, "RuntimeError: a process that the task has forked cannot save"),
    ],
)
def test_a_forked_process_that_leaves_the_task_ends_there(bench: Bench, how: str, status: int, words: str) -> None:
    grant = bench.add("start.fork", how=how)

    result = bench.result_of(grant)
    after = bench.result_of(bench.add("noop"))

    assert (result.outcome, after.outcome) == ("completed", "completed")
    assert msgspec.json.decode(result.result) == {"status": status}
    assert words in "".join(text for _, text in bench.lines_of(grant))
    assert not bench.checkpoints


def test_a_task_finds_the_worker_s_folder_an_empty_stdin_and_a_context_of_its_own(bench: Bench) -> None:
    result = bench.result_of(bench.add("start.look_around"))

    found = msgspec.json.decode(result.result)
    assert (found["stdin"], found["folder"]) == ("", str(Path.cwd()))
    assert "cannot pickle" in found["context"]


def test_what_nobody_can_read_ends_its_child_and_not_the_worker(bench: Bench) -> None:
    garbled = bench.result_of(bench.add("start.babble", body="no result"))
    after = bench.result_of(bench.add("noop"))

    assert (garbled.outcome, error_of(garbled)["type"]) == ("crashed", "Garbled")
    assert after.outcome == "completed"


def test_a_thread_that_saves_after_its_task_is_over_harms_nobody(bench: Bench, tmp_path: Path) -> None:
    done = tmp_path / "done"

    left = bench.result_of(bench.add("start.late_thread", done=str(done)))
    bench.until(done.exists)
    after = bench.result_of(bench.add("noop"))

    assert (left.outcome, after.outcome) == ("completed", "completed")
    assert not bench.checkpoints


@pytest.mark.parametrize(
    ("what", "by", "status"),
    [
        ("program", "SIGINT", -2),
        ("program", "SIGTERM", -15),
        ("ready process", "SIGINT", 1),
        ("ready process", "SIGTERM", -15),
        ("process", "SIGTERM", -15),
    ],
)
def test_what_a_task_starts_hears_its_signals(bench: Bench, what: str, by: str, status: int) -> None:
    result = bench.result_of(bench.add("start.end", what=what, by=by))

    assert (result.outcome, msgspec.json.decode(result.result)) == ("completed", status)


@pytest.mark.parametrize("how", ["child", "grandchild"])
@pytest.mark.parametrize("why", ["limit", "cancel"])
def test_nothing_that_a_task_has_started_outlives_its_stop(
    bench: Bench, how: str, why: str, tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    limit = 1.0 if why == "limit" else None
    grant = bench.add("start.leave", timeout_seconds=limit, how=how, pid_file=str(pid_file))
    bench.until(lambda: pid_file.exists() and pid_file.read_text().endswith("\n"))

    bench.hand.drop([(grant.task_id, grant.attempt)] if why == "cancel" else [])

    pid = int(pid_file.read_text())
    bench.until(lambda: not lives(pid))
    assert bench.result_of(bench.add("noop")).outcome == "completed"
    assert [error_of(r)["type"] for r in bench.results if r.outcome == "failed"] == ["TimeLimit"] * (
        why == "limit"
    )
    assert "child_died" not in bench.log.getvalue()


def test_a_child_that_fails_beside_its_tasks_ends_at_once(bench: Bench) -> None:
    (pid,) = bench.pids()

    left = bench.result_of(bench.add("start.alarm"))
    bench.until(lambda: "child_died" in bench.log.getvalue())

    assert left.outcome == "completed"
    assert not lives(pid)
    assert bench.result_of(bench.add("noop")).outcome == "completed"
