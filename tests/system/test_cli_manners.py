"""What holds for every verb of ./baton: it asks, it says what is wrong, it ends with the right code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared import exits
from shared.cli.reference import verbs
from shared.settings import ROOT
from tests.support.scene import Scene, said, scene


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One dispatcher; each test has task types, names and queues of its own."""
    with scene(tmp_path_factory.mktemp("cli")) as made:
        yield made


def test_what_destroys_asks_first(stage: Scene) -> None:
    task_id = stage.submit("asked")
    words = ("tasks", "cancel", str(task_id))

    piped = stage.run(*words)
    with stage.terminal(*words) as screen:
        screen.expect(f"Cancel task {task_id}? [y/N]")
        screen.type("n\n")
        assert screen.ended() == exits.INTERRUPTED
    assert stage.client.task(task_id)["status"] == "pending"
    with stage.terminal(*words) as screen:
        screen.expect("[y/N]")
        screen.type("y\n")
        assert screen.ended() == exits.OK

    assert (piped.code, piped.err.count("\n")) == (exits.USAGE, 1)
    assert "--yes" in piped.err
    assert stage.client.task(task_id)["status"] == "cancelled"


@pytest.mark.parametrize(
    "words", [("tasks", "list", "--tag"), ("workers", "remove", "--yes"), ("dead", "revive", "--tag")]
)
def test_an_argument_that_is_no_text_is_named(stage: Scene, words: tuple[str, ...]) -> None:
    ran = stage.run(*words, "\udcff")

    assert (ran.code, ran.err) == (exits.USAGE, "'\\udcff' is not UTF-8, and cannot be sent\n")


FLOW = "examples/flow.toml"


def minimal(path: str) -> list[str]:
    """A call of a verb that is right as it stands."""
    words: dict[str, list[str]] = {
        "tasks export": [],
        "flows submit": [FLOW],
        "schedules add": ["x", "--every", "1h", "--type", "x"],
        "schedules change": ["x", "--every", "1h"],
        "workers start": ["1"],
        "limits set": ["type", "x", "--running", "1"],
        "limits remove": ["type", "x"],
        "dead revive": ["1"],
        "dead drop": ["1"],
    }
    noun, _, name = path.removeprefix("baton ").partition(" ")
    takes_nothing = name in ("list", "") or path.endswith("workers check")
    return [noun, *([name] if name else []), *words.get(f"{noun} {name}", [] if takes_nothing else ["1"])]


ASKING = [
    (path, [option.name for option in command.params])
    for path, command in verbs()
    if path not in ("baton completion", "baton workers check", "baton workers stop")  # these ask no dispatcher
]


@pytest.mark.parametrize(("path", "options"), ASKING, ids=[path for path, _ in ASKING])
def test_every_verb_says_when_the_dispatcher_does_not_answer(stage: Scene, path: str, options: list[str]) -> None:
    yes = ["--yes"] if "yes" in options else []
    ran = stage.run(*minimal(path), *yes, "--url", "http://127.0.0.1:9")

    assert (ran.code, ran.out, ran.err.count("\n")) == (exits.UNREACHABLE, "", 1)
    assert "http://127.0.0.1:9 does not answer" in ran.err


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], "Usage"),
        (["tasks"], "Usage"),
        (["nonsense"], "nonsense"),
        (["tasks", "submit", "--type", "x"], "use ./add_task.py COUNT --type T --payload JSON"),
        (["tasks", "list", "--status", "odd"], "baton tasks list --help"),
        (["tasks", "show", "abc"], "'abc' is no task id; ids are whole numbers from 1"),
        (["tasks", "show", "0"], "'0' is no task id; ids are whole numbers from 1"),
        (["tasks", "list", "--limit", "all"], "'all' is no whole number from 1 to 500"),
        (["tasks", "wait"], "ID"),
        (["tasks", "wait", "-"], "no ids"),
        (["tasks", "wait", "1", "--tag", "x"], "give an ID, or several, or a filter such as --tag; not both"),
        (["tasks", "wait", "1", "--timeout", "soon"], "5m"),
        (["tasks", "revive", "1", "--payload", "{"], "--payload is not JSON"),
        (["tasks", "list", "--url", "localhost:5000"], "--url='localhost:5000': expected http://host:port"),
        (["flows", "submit", "/nonexistent"], "/nonexistent cannot be read"),
        (["schedules", "add", "--every", "1h", "--type", "x"], "NAME"),
        (["schedules", "add", "x", "--every", "1h"], "--type, or a flow with --flow"),
        (["schedules", "add", "x", "--type", "x"], "--cron or --every"),
        (["schedules", "add", "x", "--type", "x", "--every", "1h", "--cron", "* * * * *"], "--every, not both"),
        (["schedules", "add", "x", "--every", "1h", "--type", "x", "--flow", FLOW], "--flow, not both"),
        (
            ["schedules", "add", "x", "--every", "1h", "--flow", FLOW, "--payload", "{}"],
            "--payload goes with --type",
        ),
        (["schedules", "add", "x", "--every", "1h", "--queue", "q"], "--queue goes with --type"),
        (["schedules", "add", "x", "--every", "0.5", "--type", "x"], "'0.5' is out of range: 1s to 3650d"),
        (["schedules", "add", "x", "--every", "1h", "--timezone", "UTC", "--type", "x"], "goes with --cron"),
        (["schedules", "change", "x"], "say what to change"),
        (["schedules", "change", "x", "--payload", "{}"], "--payload goes with --type"),
        (["workers", "stop", "--yes"], "--all"),
        (["workers", "start", "0"], "0"),
        (["workers", "start", "1", "--slots", "many"], "--slots='many': expected 1 to 9999, or auto"),
        (["workers", "start", "1", "--threads", "many"], "--threads='many'"),
        (["limits", "set", "colour", "x", "--running", "1"], "colour"),
    ],
)
def test_wrong_use_exits_with_2_and_says_what(stage: Scene, words: list[str], named: str) -> None:
    ran = stage.run(*words)

    assert (ran.code, ran.out) == (exits.USAGE, "")
    assert named in ran.err
    assert named == "Usage" or ran.err.count("\n") == 1


def test_what_each_verb_has_may_stand_in_front_of_it(stage: Scene) -> None:
    task_id = str(stage.submit("fronted"))

    counts = stage.run("--json", "stats").json
    listed = stage.run("--url", stage.baton.url, "tasks", "--json", "list", "--type", "fronted").json
    elsewhere = stage.run("--url=http://127.0.0.1:9", "--json", "tasks", "list")
    cancelled = stage.run("-y", "tasks", "cancel", task_id)

    assert counts["tasks"]["pending"] >= 1
    assert [task["task_id"] for task in listed["tasks"]] == [int(task_id)]
    assert elsewhere.code == exits.UNREACHABLE
    assert cancelled.out == f"task {task_id} is cancelled\n"
    assert stage.run("--yes", "stats").code == exits.USAGE  # it does not ask
    assert stage.run("--json").code == exits.USAGE


@pytest.mark.parametrize("words", [["tasks", "list", "--limit", "500"], ["tasks", "export"]])
def test_who_reads_may_stop_reading(stage: Scene, words: list[str]) -> None:
    with stage.start(*words) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        told = process.stderr.read()
        process.stdout = None
    assert (process.returncode, told) == (exits.OK, "")


FULL = "standard output cannot be written: No space left on device\n"


@pytest.mark.parametrize(
    "words", [["tasks", "list"], ["tasks", "list", "--json"], ["tasks", "export"], ["completion", "bash"]]
)
def test_what_cannot_be_written_is_told_in_a_line(stage: Scene, words: list[str]) -> None:
    with open("/dev/full", "w") as full, stage.start(*words, stdout=full) as process:
        assert process.stderr is not None
        told = process.stderr.read()

    assert (process.returncode, told) == (exits.UNWRITTEN, FULL)


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_add_task_tells_its_ids_at_least_where_it_can(stage: Scene, form: list[str]) -> None:
    add_task = [sys.executable, str(ROOT / "add_task.py"), "1", "--type", "untold", *form]
    options: dict[str, Any] = {"env": {**os.environ, **stage.environment}, "stderr": subprocess.PIPE, "text": True}

    with open("/dev/full", "w") as full:
        lost = subprocess.run(add_task, stdout=full, check=False, timeout=60, **options)
    with subprocess.Popen(add_task, stdout=subprocess.PIPE, **options) as unread:
        assert unread.stdout is not None and unread.stderr is not None
        unread.stdout.close()
        told = unread.stderr.read()

    second, first = (task["task_id"] for task in stage.client.tasks(type="untold", limit=2)["tasks"])
    warning, *words = lost.stderr.splitlines(keepends=True)
    assert warning.startswith("warning: no worker")
    assert (lost.returncode, words) == (exits.UNWRITTEN, [f"submitted: task {first}\n", FULL])
    assert (unread.returncode, told.splitlines()[-1]) == (exits.OK, f"submitted: task {second}")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_completion(stage: Scene, shell: str) -> None:
    assert "_BATON_COMPLETE" in said(stage.run("completion", shell))


# What bash does when somebody presses Tab.
TAB = """
try() {
    COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
    _baton_completion ./baton
    echo "${COMPREPLY[*]}"
}
source "$1"
cd "$2"
try ./baton sch; try ./baton schedules re; try ./baton tasks list --st
"""


def test_bash_completes_nouns_verbs_and_options(stage: Scene, tmp_path: Path) -> None:
    script = tmp_path / "completion.bash"
    script.write_text(said(stage.run("completion", "bash")))

    command = ["bash", "-c", TAB, "bash", str(script), str(ROOT)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

    assert shown.splitlines() == ["schedules", "resume remove", "--status"]
