"""./baton workers start, check and stop with real processes; the launcher; add_task.py beside it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared import exits, pidfile
from shared.settings import ROOT
from tests.support.scene import Ran, Scene, said, scene

STOP_SECONDS = 30.0


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path) as made:
        yield made
        pidfile.stop(pidfile.records(tmp_path / "data", "worker"), STOP_SECONDS)


def started(ran: Ran) -> dict[str, int]:
    """The pids of the workers that a command has started, by name."""
    assert ran.code == exits.OK, ran
    return {worker["name"]: worker["pid"] for worker in ran.json["workers"]}


def lives(pid: int) -> bool:
    return pidfile.alive(pid, pidfile.start_ticks(pid))


def test_workers_outlive_the_command_that_starts_them_and_stop_politely(stage: Scene) -> None:
    pids = started(stage.process("workers", "start", "2", "--prefix", "lab", "--json"))
    more = started(stage.process("workers", "start", "1", "--prefix", "lab", "--slots", "2", "--json"))
    checked = stage.run("workers", "check", "--json")
    one = stage.run("workers", "stop", "lab-1", "--yes")
    rest = stage.run("workers", "stop", "--prefix", "lab", "--yes")

    assert (list(pids), list(more)) == (["lab-1", "lab-2"], ["lab-3"])
    assert checked.code == exits.OK
    assert {worker["name"]: worker["pid"] for worker in checked.json["workers"]} == {**pids, **more}
    assert one.out == f"worker lab-1 ({pids['lab-1']}) stopped\n"
    assert rest.out.count("stopped") == 2
    states = {worker["name"]: worker["state"] for worker in stage.client.workers()}
    assert states == {"lab-1": "stopped", "lab-2": "stopped", "lab-3": "stopped"}
    assert not any(lives(pid) for pid in [*pids.values(), *more.values()])


def test_what_they_say_is_in_their_logs(stage: Scene) -> None:
    ran = stage.process("workers", "start", "1", "--prefix", "lab", "--json")

    log = Path(ran.json["workers"][0]["log"])

    assert log == stage.baton.folder / "data" / "logs" / "lab-1.log"
    assert log.stat().st_size > 0


def test_a_worker_that_died_is_found_out_and_its_record_tidied_up(stage: Scene) -> None:
    pid = started(stage.process("workers", "start", "1", "--json"))["worker-1"]
    os.kill(pid, signal.SIGKILL)
    stage.baton.wait(lambda: not lives(pid), "the worker to be gone")

    checked = stage.run("workers", "check")
    stopped = stage.run("workers", "stop", "worker-1")  # as `check` says
    again = stage.run("workers", "check")

    assert checked.code == exits.FAILED
    _, line, way_out = checked.out.splitlines()
    assert line.split() == ["worker-1", str(pid), "no"]
    assert way_out == "forget who is gone: ./baton workers stop worker-1"
    assert (stopped.code, stopped.out) == (exits.OK, "worker worker-1 did not run any more\n")
    assert (again.code, again.out) == (exits.OK, "no worker is recorded here\n")


def test_a_worker_that_died_is_no_news_where_its_name_lives_again(stage: Scene) -> None:
    died = started(stage.process("workers", "start", "1", "--json"))["worker-1"]
    os.kill(died, signal.SIGKILL)
    stage.baton.wait(lambda: not lives(died), "the worker to be gone")
    lives_again = started(stage.process("workers", "start", "1", "--json"))["worker-1"]

    checked = stage.run("workers", "check")

    assert checked.code == exits.OK
    assert [line.split() for line in checked.out.splitlines()[1:]] == [["worker-1", str(lives_again), "yes"]]
    assert checked.err == ""


def test_a_worker_that_cannot_run_says_why(stage: Scene, tmp_path: Path) -> None:
    stage.environment["TASK_MODULES"] = str(tmp_path / "nowhere.py")

    ran = stage.process("workers", "start", "1")

    assert ran.code == exits.FAILED
    assert "worker-1 ended with 2" in ran.out and "nowhere.py" in ran.out


def test_a_worker_that_takes_its_time_is_named(stage: Scene) -> None:
    pid = started(stage.process("workers", "start", "1", "--json"))["worker-1"]
    os.kill(pid, signal.SIGSTOP)

    ran = stage.run("workers", "stop", "worker-1", "--yes", "--timeout", "0.2s")
    os.kill(pid, signal.SIGCONT)

    assert ran.code == exits.TIMED_OUT
    assert f"worker-1 ({pid})" in ran.err
    stage.baton.wait(lambda: not lives(pid), "the worker to end as it was asked to while it was frozen")


def test_stopping_asks_and_names_what_is_not_there(stage: Scene) -> None:
    started(stage.process("workers", "start", "1", "--json"))

    assert stage.run("workers", "stop", "--all").code == exits.USAGE
    assert stage.run("workers", "stop", "lab-7", "--yes").code == exits.NOT_FOUND
    assert stage.run("workers", "check").code == exits.OK


def test_the_dead_are_told_from_the_living_of_the_same_name(tmp_path: Path) -> None:
    with scene(tmp_path, patience=2.0) as stage:
        for name in ("lab-1", "lab-2"):
            worker = stage.baton.start_worker(name)
            worker.kill()
            worker.wait(STOP_SECONDS)
        stage.baton.wait(lambda: states(stage) == [("lab-1", "dead"), ("lab-2", "dead")], "both to be dead")
        stage.baton.start_worker("lab-2")

        listed = said(stage.run("workers", "list"))
        shown = said(stage.run("top"))
        by_name = stage.run("workers", "remove", "lab-2", "--yes")
        left = states(stage)
        asked = stage.run("workers", "remove", "--dead")
        rest = stage.run("workers", "remove", "--dead", "--yes")
        none = said(stage.run("workers", "remove", "--dead", "--yes"))

        assert "dead" not in listed
        assert (re.search(r"lab-1 +dead", shown) is None, shown.count("lab-2")) == (False, 1)
        assert (by_name.out, left) == ("worker lab-2 is forgotten\n", [("lab-1", "dead"), ("lab-2", "alive")])
        assert (asked.code, "forget lab-1, and" in asked.err) == (exits.USAGE, True)
        assert (rest.out, none) == ("worker lab-1 is forgotten\n", "no worker is dead\n")
        assert states(stage) == [("lab-2", "alive")]
        assert stage.run("workers", "remove", "lab-2", "--dead", "--yes").code == exits.USAGE


def states(stage: Scene) -> list[tuple[str, str]]:
    return sorted((worker["name"], worker["state"]) for worker in stage.client.workers())


def test_a_crew_is_stopped_through_its_parent(stage: Scene) -> None:
    crew = stage.baton.start_worker("gang-1", "--count", "2", "--url", stage.baton.url, wait=False)
    stage.baton.wait(lambda: len(stage.client.workers()) == 2, "two workers to register")

    cleaned = run(stage, ROOT, sys.executable, "-m", "shared.cleanup").stdout

    assert crew.wait(STOP_SECONDS) == 0
    assert f"crew {crew.pid} (gang-1) stopped" in cleaned


# --- beside it


def run(stage: Scene, folder: Path, *command: str) -> Any:
    environment = {**os.environ, **stage.environment, "COLUMNS": "140"}
    options: dict[str, Any] = {"capture_output": True, "text": True, "check": False, "timeout": 90}
    return subprocess.run(command, cwd=folder, env=environment, **options)


def test_the_launcher_works_through_a_link_from_any_folder(stage: Scene, tmp_path: Path) -> None:
    (tmp_path / "baton").symlink_to(ROOT / "baton")
    (tmp_path / "shared").mkdir()  # a folder of the same name must not get in the way
    (tmp_path / "shared" / "__init__.py").write_text("raise SystemExit(99)")
    (tmp_path / "flow.toml").write_text('[[tasks]]\nkey = "a"\ntype = "linked"\n')

    ran = run(stage, tmp_path, "./baton", "flows", "submit", "flow.toml", "--json")

    assert (ran.returncode, '"flow_id":1' in ran.stdout) == (exits.OK, True), ran.stderr


def test_a_hint_can_be_pasted_where_it_is_read(
    stage: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "baton").symlink_to(ROOT / "baton")
    monkeypatch.setenv("PATH", f"{tmp_path / 'links'}:{os.environ['PATH']}")
    failing = ("1", "--type", "x", "--deadline", "2020-01-01T00:00:00Z", "--wait")

    hints = [run(stage, tmp_path, name, "workers", "list").stdout for name in ("baton", "links/baton")]
    wrong = run(stage, ROOT, "./baton", "tasks", "lits").stderr
    helped = run(stage, ROOT, "./baton", "top", "--help").stdout
    elsewhere = run(stage, tmp_path, sys.executable, str(ROOT / "add_task.py"), *failing).stderr

    start = "workers start 2 --prefix lab\n"
    assert [told.partition("start some: ")[2] for told in hints] == [f"baton {start}", f"links/baton {start}"]
    assert "(see ./baton tasks --help)" in wrong
    assert "Usage: ./baton top" in helped and "  ./baton top --once\n" in helped
    assert f"more of it: {ROOT}/baton tasks show 1" in elsewhere


def test_add_task_waits_and_exits_as_before(stage: Scene) -> None:
    started(stage.process("workers", "start", "1", "--json"))
    add_task = (sys.executable, str(ROOT / "add_task.py"))

    good = run(stage, ROOT, *add_task, "2", "1000", "--wait")
    bad = run(stage, ROOT, *add_task, "1", "--type", "sleep", "--payload", '{"second": 1}', "--wait", "--json")
    late = run(stage, ROOT, *add_task, "1", "--type", "nobody", "--wait", "--timeout", "0.1")
    away = run(stage, ROOT, *add_task, "1", "10", "--url", "http://127.0.0.1:9")

    assert good.returncode == exits.OK
    assert good.stdout.count("count 168, largest 997") == 2
    assert (bad.returncode, '"BadPayload"' in bad.stdout) == (exits.FAILED, True)
    assert (late.returncode, "timed out" in late.stderr) == (exits.TIMED_OUT, True)
    assert (away.returncode, away.stderr.count("\n")) == (exits.UNREACHABLE, 1)


def test_add_task_says_that_a_unique_task_lives_already(stage: Scene) -> None:
    add_task = (sys.executable, str(ROOT / "add_task.py"), "1", "--type", "nobody", "--unique-key", "nightly")

    first, again = (run(stage, ROOT, *add_task) for _ in range(2))
    as_json = run(stage, ROOT, *add_task, "--json")

    assert (first.stdout, again.stdout) == (
        "submitted: task 1\n",
        "lives already, nothing submitted: task 1\n",
    )
    assert as_json.stdout == '{"task_ids":[1]}\n'


def test_a_name_that_is_no_file_name_starts_nothing(stage: Scene) -> None:
    refused = stage.run("workers", "start", "1", "--prefix", "../../evil")

    assert refused.code == exits.USAGE
    assert "'../../evil': a worker's name is 1 to 80 letters" in refused.err
    assert stage.run("workers", "check").out.strip() == "no worker is recorded here"
