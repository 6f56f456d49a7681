"""Commands as tasks: programs of any language, where the worker allows them."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from analysis.cluster import Cluster, cluster
from shared.protocol import Grant, GrantedCheckpoint
from tests.support.stores import Store
from tests.system.bench import Bench, error_of, lives
from tests.system.support import ended, outcomes, saved, submit
from worker.programs import UnknownProgram, allowed

SHELL = "/bin/sh"
SHOW = "import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environ), os.getcwd(), sys.stdin.read()]))"

# Counts in its checkpoint folder; told to stop it ends with 85, at once.
COUNTER = """
trap 'exit 85' TERM
n=$(cat "$BATON_CHECKPOINT_DIR/n" 2>/dev/null || echo 0)
while [ "$n" -lt "$1" ]; do
    sleep 0.02
    n=$((n + 1))
    echo "$n" > "$BATON_CHECKPOINT_DIR/n.tmp" && mv "$BATON_CHECKPOINT_DIR/n.tmp" "$BATON_CHECKPOINT_DIR/n"
done
echo "counted to $n in attempt $BATON_ATTEMPT"
"""
# Leaves a process behind, tells its number, and lets nobody stop it.
STUBBORN = """
trap '' TERM
(trap '' TERM; sleep 600) &
echo "$! $$" > "$1.tmp" && mv "$1.tmp" "$1"
while true; do sleep 1; done
"""


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench(programs={"python": sys.executable, SHELL: SHELL})
    made.start()
    yield made
    made.executor.close()


@pytest.fixture
def baton(store: Store, tmp_path: Path) -> Iterator[Cluster]:
    options = {"COMMAND_PROGRAMS": SHELL, "CHECKPOINT_INTERVAL_SECONDS": "0.1"}
    with cluster(tmp_path, DATABASE_URL=store.url, **options) as made:
        yield made
    store.check()


def shell(bench: Bench, script: str, *arguments: str, **options: Any) -> Grant:
    return bench.add("command", argv=[SHELL, "-c", script, "sh", *arguments], **options)


def shown(bench: Bench, *arguments: str, **options: Any) -> tuple[list[str], dict[str, str], str, str]:
    """What a program sees: arguments, environment, folder, standard input."""
    result = bench.result_of(bench.add("command", argv=["python", "-c", SHOW, *arguments], **options))
    seen: tuple[list[str], dict[str, str], str, str] = tuple(
        json.loads(msgspec.json.decode(result.result)["output_tail"])
    )
    return seen


def until_told(path: Path, bench: Bench | None = None, baton: Cluster | None = None) -> list[int]:
    """The process numbers that STUBBORN has written down."""
    if bench is not None:
        bench.until(path.exists)
    if baton is not None:
        baton.wait(path.exists, "the program to run")
    return [int(number) for number in path.read_text().split()]


def test_a_program_that_ends_well_completes_its_task_with_the_end_of_its_output(bench: Bench) -> None:
    grant = shell(bench, "echo out; echo err >&2; printf half")

    result = bench.result_of(grant)

    assert result.outcome == "completed"
    assert msgspec.json.decode(result.result) == {"exit_code": 0, "output_tail": "out\nhalf"}
    lines = bench.lines_of(grant)
    assert [text for level, text in lines if level == "info"] == ["out", "half"]
    assert [text for level, text in lines if level == "warning"] == ["err"]


@pytest.mark.parametrize(
    "argument",
    ["; echo gotcha", "$(echo gotcha)", "`echo gotcha`", "two\nlines", "-rf", "--", "a b", "'", "*", ""],
)
def test_arguments_arrive_as_they_are(bench: Bench, argument: str) -> None:
    arguments, *_ = shown(bench, argument)

    assert arguments == [argument]


def test_a_program_sees_nothing_but_what_it_was_given(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "of the worker")

    _, environment, folder, stdin = shown(bench, env={"COLOUR": "blue"})

    environment.pop("LC_CTYPE", None)  # Python's own doing
    directory = environment.pop("BATON_CHECKPOINT_DIR")
    assert environment == {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "COLOUR": "blue",
        "BATON_TASK_ID": "1",
        "BATON_ATTEMPT": "1",
    }
    assert Path(folder).parent == Path(directory).parent
    assert stdin == ""
    assert not Path(folder).exists()  # gone with the task


def test_a_program_runs_in_the_folder_it_was_given(bench: Bench, tmp_path: Path) -> None:
    _, _, folder, _ = shown(bench, cwd=str(tmp_path))

    assert folder == str(tmp_path)


@pytest.mark.parametrize(
    ("script", "kind", "retryable", "message"),
    [
        ("exit 75", "CommandFailed", True, "/bin/sh ended with exit code 75"),
        ("echo no luck >&2; exit 1", "CommandFailed", True, "/bin/sh ended with exit code 1: no luck"),
        ("exit 65", "CommandGaveUp", False, "/bin/sh ended with exit code 65"),
        ("exit 78", "CommandGaveUp", False, "/bin/sh ended with exit code 78"),
        ("kill -s SEGV $$", "CommandKilled", True, "/bin/sh was killed by signal 11 (SIGSEGV)"),
    ],
)
def test_the_exit_code_says_whether_to_retry(
    bench: Bench, script: str, kind: str, retryable: bool, message: str
) -> None:
    result = bench.result_of(shell(bench, script))

    error = error_of(result)
    assert (result.outcome, error["type"], result.retryable) == ("failed", kind, retryable)
    assert error["message"] == message


def test_exit_code_85_releases_the_task_with_its_checkpoint(bench: Bench) -> None:
    result = bench.result_of(
        shell(bench, 'mkdir "$BATON_CHECKPOINT_DIR/a"; echo hi > "$BATON_CHECKPOINT_DIR/a/b"; exit 85')
    )

    assert result.outcome == "released"
    assert bench.state_of(result) == {"files": {"a/b": "aGkK"}}


def test_the_next_attempt_finds_the_files(bench: Bench) -> None:
    state = msgspec.Raw(b'{"files": {"a/b": "aGkK"}}')
    payload = {"argv": [SHELL, "-c", 'cat "$BATON_CHECKPOINT_DIR/a/b"; echo "attempt $BATON_ATTEMPT"']}
    grant = Grant(9, 2, "lease", 100.0, "command", msgspec.Raw(msgspec.json.encode(payload)))
    grant.checkpoint = GrantedCheckpoint(4, state, None, 1.0, 0)

    result = bench.result_of(bench.hold(grant))

    assert msgspec.json.decode(result.result)["output_tail"] == "hi\nattempt 2\n"


def test_a_checkpoint_that_is_too_large_is_named_in_the_log(bench: Bench) -> None:
    script = 'cd "$BATON_CHECKPOINT_DIR"; head -c 900000 /dev/zero > big.tmp; mv big.tmp big; sleep 0.7; exit 85'
    grant = shell(bench, script)

    result = bench.result_of(grant)

    ((level, text),) = bench.lines_of(grant)
    assert level == "warning"
    assert text == "not saved: the checkpoint's files take 1200019 bytes as base64, 1048576 are allowed"
    assert (result.outcome, result.retryable, error_of(result)["type"]) == ("failed", False, "CommandGaveUp")


def test_a_program_that_is_not_listed_is_refused_with_those_that_are(bench: Bench) -> None:
    result = bench.result_of(bench.add("command", argv=["/bin/ls", "/"]))

    error = error_of(result)
    assert (result.outcome, result.retryable, error["type"]) == ("failed", False, "CommandRefused")
    assert error["message"] == f"program '/bin/ls' is not allowed here; this worker allows: python, {SHELL}"


@pytest.mark.parametrize(
    "payload",
    [{"argv": []}, {"argv": "ls"}, {}, {"argv": [SHELL, "a\0b"]}, {"argv": [SHELL], "env": {"A=B": "c"}}],
)
def test_a_payload_that_no_program_can_be_run_from_fails_for_good(bench: Bench, payload: dict[str, Any]) -> None:
    result = bench.result_of(bench.add("command", **payload))

    assert (result.outcome, result.retryable) == ("failed", False)


def test_a_program_is_told_to_stop_and_then_killed_with_all_it_started(bench: Bench, tmp_path: Path) -> None:
    grant = shell(bench, STUBBORN, str(tmp_path / "pids"), timeout_seconds=0.5)
    (pid,) = bench.pids()

    result = bench.result_of(grant)

    assert (result.outcome, error_of(result)["type"]) == ("failed", "TimeLimit")
    bench.until(lambda: not any(map(lives, until_told(tmp_path / "pids"))), 2.0)
    assert bench.pids() == [pid]  # the child that ran it lives


def test_a_cancelled_program_is_killed_with_all_it_started(bench: Bench, tmp_path: Path) -> None:
    grant = shell(bench, STUBBORN, str(tmp_path / "pids"))
    processes = until_told(tmp_path / "pids", bench=bench)

    bench.hand.drop([(grant.task_id, 1)])

    bench.until(lambda: not any(map(lives, processes)), 5.0)


def test_nothing_of_a_program_outlives_the_process_of_its_task(bench: Bench, tmp_path: Path) -> None:
    grant = shell(bench, STUBBORN, str(tmp_path / "pids"))
    processes = until_told(tmp_path / "pids", bench=bench)

    os.kill(bench.pids()[0], signal.SIGKILL)

    assert bench.result_of(grant).outcome == "crashed"
    bench.until(lambda: not any(map(lives, processes)), 2.0)


def test_what_a_program_leaves_behind_ends_with_it(bench: Bench, tmp_path: Path) -> None:
    result = bench.result_of(shell(bench, 'sleep 600 & echo $! > "$1"', str(tmp_path / "pid")))

    helper = int((tmp_path / "pid").read_text())
    assert result.outcome == "completed"
    bench.until(lambda: not lives(helper), 2.0)


def test_a_silent_program_is_taken_for_hung(bench: Bench) -> None:
    payload = msgspec.json.encode({"argv": [SHELL, "-c", "echo hello; sleep 600"]})
    grant = Grant(9, 1, "lease", 100.0, "command", msgspec.Raw(payload), stall_seconds=0.5)

    result = bench.result_of(bench.hold(grant))

    assert (result.outcome, error_of(result)["type"]) == ("failed", "Stalled")


def test_much_output_arrives_with_its_end(bench: Bench) -> None:
    grant = bench.add("command", argv=["python", "-c", "for n in range(100_000): print(n)"])

    bench.result_of(grant)

    assert bench.lines_of(grant)[-1] == ("info", "99999")


def test_without_programs_there_are_no_commands() -> None:
    bench = Bench()

    bench.start()

    assert "command" not in bench.executor.types
    bench.executor.close()


def test_programs_are_found_when_the_worker_starts() -> None:
    assert allowed(" sh, /bin/ls ,") == {**allowed("sh"), "/bin/ls": "/bin/ls"}
    assert allowed("sh")["sh"] in allowed("sh")
    assert allowed("") == {}


@pytest.mark.parametrize("listed", ["no-such-program", "/bin/no-such-program", "bin/sh", "/etc/passwd"])
def test_a_listed_program_that_cannot_be_run_is_named(listed: str) -> None:
    with pytest.raises(UnknownProgram, match=listed):
        allowed(f"sh,{listed}")


def test_a_stopped_worker_passes_the_stop_on_and_the_next_one_goes_on(baton: Cluster) -> None:
    worker = baton.start_worker("worker-1")
    (task_id,) = submit(baton, "command", argv=[SHELL, "-c", COUNTER, "sh", "150"])
    saved(baton, task_id)

    worker.terminate()
    worker.wait(10)
    released = baton.client.task(task_id)
    baton.start_worker("worker-2")
    task = ended(baton, task_id)

    assert (released["status"], released["failures"], released["releases"]) == ("pending", 0, 1)
    assert task["result"] == {"exit_code": 0, "output_tail": "counted to 150 in attempt 2\n"}
    assert outcomes(baton, task_id) == ["released", "completed"]


def test_nothing_of_a_program_outlives_its_killed_worker(baton: Cluster, tmp_path: Path) -> None:
    worker = baton.start_worker("worker-1")
    (stubborn,) = submit(baton, "command", argv=[SHELL, "-c", STUBBORN, "sh", str(tmp_path / "pids")])
    processes = until_told(tmp_path / "pids", baton=baton)

    worker.kill()
    worker.wait()

    baton.wait(lambda: not any(map(lives, processes)), "all of it to end", 2.0)
    baton.client.cancel(stubborn)


def test_a_killed_worker_costs_a_program_no_more_than_since_its_last_checkpoint(baton: Cluster) -> None:
    worker = baton.start_worker("worker-1")
    (task_id,) = submit(baton, "command", argv=[SHELL, "-c", COUNTER, "sh", "150"])
    saved(baton, task_id)

    worker.kill()
    worker.wait()
    baton.start_worker("worker-2")
    task = ended(baton, task_id)

    assert task["result"]["output_tail"] == "counted to 150 in attempt 2\n"
    assert baton.client.attempts(task_id)[1]["resumed_seq"] is not None
