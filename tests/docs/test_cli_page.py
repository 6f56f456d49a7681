"""docs/cli.md: it has every verb, and every example on it runs as it stands."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared import exits, pidfile
from shared.cli.reference import verbs
from shared.settings import ROOT
from tests.support.scene import Ran, Scene, scene

TEXT = (ROOT / "docs" / "cli.md").read_text()
EXAMPLES = [line[2:] for line in TEXT.splitlines() if line.startswith("$ baton")]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """What the examples speak of: tasks 1 to 4, two flows, a schedule, two workers."""
    with scene(tmp_path_factory.mktemp("cli")) as made:
        made.exchange("worker-1")
        made.exchange("worker-9", state="stopped")
        for _ in range(2):
            made.submit("prime")
            grant = made.claim("prime")
            made.log(grant, "found four")
            made.save(grant, 1, {"last_checked": 7}, [2, 3, 5, 7])
            made.complete(grant, {"count": 4})
        assert made.failed("report", tags=["old"]) == 3
        assert made.submit("letter") == 4
        made.submit("letter", tags=["wrong"])
        made.client.submit_flow({"name": "report", "tasks": [{"key": "a", "type": "letter"}]})
        made.client.submit_flow({"name": "sums", "tasks": [{"key": "a", "type": "sum"}]})
        made.complete(made.claim("sum"))
        made.client.add_schedule({"name": "nightly", "cron": "0 2 * * *", "task": {"type": "letter"}})
        yield made
        pidfile.stop(pidfile.records(made.baton.folder / "data", "worker"), 30)


def dead_letter(stage: Scene) -> None:
    """Task 3 has failed, whatever the example before has done with it."""
    found = stage.client.tasks(type="report")["tasks"]
    if found and found[0]["status"] == "pending":
        stage.fail(stage.claim("report"))


def run(stage: Scene, example: str) -> Ran:
    words = shlex.split(example)
    assert words[0] == "baton"
    if words[1:3] == ["workers", "start"]:
        return stage.process(*words[1:])  # what it starts would be our children otherwise
    if "<" in words:
        return stage.run(*words[1 : words.index("<")], stdin=(ROOT / words[-1]).read_text())
    return stage.run(*words[1:])


def test_every_example_runs(stage: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    went_wrong = []
    for example in EXAMPLES:
        dead_letter(stage)
        ran = run(stage, example)
        if ran.code != exits.OK or not ran.out:
            went_wrong.append((example, ran))
    assert went_wrong == []


def test_every_verb_has_its_heading_and_an_example() -> None:
    for path, command in verbs():
        assert f"# {path}\n" in TEXT
        assert command.examples and all(example.startswith(path) for example in command.examples)


def test_the_verbs_are_those_that_were_agreed() -> None:
    agreed = {
        "tasks": "list show wait cancel revive logs output export explain",
        "flows": "submit list show wait cancel revive",
        "schedules": "add change list show pause resume run remove",
        "workers": "list pause resume drain remove start check stop",
        "queues": "list pause resume",
        "types": "pause resume",
        "limits": "list set remove",
        "dead": "list revive drop",
    }
    wanted = {f"baton {noun} {word}" for noun, words in agreed.items() for word in words.split()}
    assert {path for path, _ in verbs()} == wanted | {"baton stats", "baton top", "baton completion"}


def test_every_exit_code_is_explained() -> None:
    assert [code for code in exits.MEANINGS if f"\n| {code} | " not in TEXT] == []


def test_a_changed_help_text_makes_the_page_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    from analysis import generate

    monkeypatch.setattr(dict(verbs())["baton tasks list"], "help", "Something else.")

    assert generate.stale() == [Path(ROOT / "docs" / "cli.md")]
