"""./add_task.py against a real dispatcher: what its options make of a task."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared import exits
from shared.settings import ROOT
from tests.support.scene import Ran, Scene, scene


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(tmp_path_factory.mktemp("add_task")) as made:
        yield made


def add_task(stage: Scene, *words: str, stdin: str = "") -> Ran:
    command = [sys.executable, str(ROOT / "add_task.py"), *words]
    environment = {**os.environ, **stage.environment}
    piped: dict[str, Any] = {"input": stdin, "capture_output": True, "text": True}
    ran = subprocess.run(command, env=environment, check=False, timeout=60, **piped)
    return Ran(ran.returncode, ran.stdout, ran.stderr)


def test_options_say_all_that_there_is_to_say_of_a_task(stage: Scene) -> None:
    parents = [stage.submit("parent"), stage.submit("parent")]
    plain = add_task(stage, "1", "--type", "told", "--json").json["task_ids"][0]
    limits = ("--time-limit", "2h", "--deadline", "2099-01-15T08:00:00Z", "--limit-key", "mail", "--retries", "0")
    waits = ("--depends-on", str(parents[0]), "--depends-on", str(parents[1]))

    told = add_task(stage, "1", "--type", "told", *limits, *waits, "--tag", "a", "--tag", "b", "--json")
    (task_id,) = told.json["task_ids"]

    task = stage.client.task(task_id)
    assert {name: task[name] for name in task if task[name] != stage.client.task(plain).get(name)} == {
        "task_id": task_id,
        "status": "blocked",
        "created_at": task["created_at"],
        "timeout_seconds": 7200.0,
        "deadline": "2099-01-15T08:00:00.000Z",
        "limit_key": "mail",
        "max_retries": 0,
        "tags": ["a", "b"],
        "depends_on": parents,
    }


@pytest.mark.parametrize(("delay", "status"), [("5m", "scheduled"), ("90", "scheduled"), ("0", "pending")])
def test_a_delay_is_written_as_everywhere(stage: Scene, delay: str, status: str) -> None:
    (task_id,) = add_task(stage, "1", "--type", "late", "--delay", delay, "--json").json["task_ids"]

    assert stage.client.task(task_id)["status"] == status


def test_a_profile_is_named(stage: Scene) -> None:
    ran = add_task(stage, "1", "--type", "x", "--profile", "nightly")

    assert (ran.code, ran.out) == (exits.REFUSED, "")
    assert "there is no profile 'nightly'" in ran.err


def test_each_row_of_a_table_is_a_task(stage: Scene, tmp_path: Path) -> None:
    table = tmp_path / "params.csv"
    table.write_text('rate,name\n0.5,7\n,"""7"""\n')
    shared = ("--payload", '{"rate": 1, "seed": 4}', "--tag", "sweep", "--priority", "3", "--retries", "0")

    ids = add_task(stage, "--type", "fit", "--from", str(table), *shared, "--json").json["task_ids"]

    tasks = [stage.client.task(task_id) for task_id in ids]
    assert [task["payload"] for task in tasks] == [
        {"rate": 0.5, "seed": 4, "name": 7},
        {"rate": 1, "seed": 4, "name": "7"},
    ]
    assert {(task["type"], *task["tags"], task["priority"], task["max_retries"]) for task in tasks} == {
        ("fit", "sweep", 3, 0)
    }


def test_lines_of_json_come_in_on_standard_input_and_are_waited_for(stage: Scene) -> None:
    lines = '{"row": 1}\n{"row": 2}\n'
    words = ("--type", "piped", "--from", "-", "--wait", "--timeout", "0.1s", "--json")

    ran = add_task(stage, *words, stdin=lines)

    assert ran.code == exits.TIMED_OUT
    assert [task["payload"] for task in ran.json["tasks"]] == [{"row": 1}, {"row": 2}]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--type", "never", "--from", "{}"), "params.csv line 3: 2 cell(s), and the header names 1"),
        (("--from", "{}"), "--from goes with --type"),
        (("5", "--type", "never", "--from", "{}"), "give COUNT or --from, not both"),
        (("2", "--type", "never", "--unique-key", "k"), "with --unique-key give one task"),
    ],
)
def test_a_file_that_is_wrong_stores_nothing(
    stage: Scene, tmp_path: Path, words: tuple[str, ...], told: str
) -> None:
    table = tmp_path / "params.csv"
    table.write_text("row\n1\n2,3\n")

    ran = add_task(stage, *(word.format(table) for word in words))

    assert (ran.code, ran.out) == (exits.USAGE, "")
    assert told in ran.err
    assert stage.client.tasks(type="never")["tasks"] == []


def test_a_hundred_thousand_rows_are_submitted(stage: Scene, tmp_path: Path) -> None:
    table = tmp_path / "params.csv"
    table.write_text("row,name\n" + "".join(f"{row},n{row}\n" for row in range(100_000)))

    ran = add_task(stage, "--type", "many", "--queue", "large", "--from", str(table))

    queues = {queue["queue"]: queue for queue in stage.client.queues()["queues"]}
    assert (ran.code, queues["large"]["pending"]) == (exits.OK, 100_000)
    assert stage.client.tasks(type="many", limit=1)["tasks"][0]["payload"] == {"row": 99_999, "name": "n99999"}


@pytest.mark.parametrize("when", ["tomorrow", "2099-01-15T08:00:00", "2099-01-15"])
def test_a_deadline_that_is_no_moment_is_told_of_the_option(stage: Scene, when: str) -> None:
    ran = add_task(stage, "1", "--type", "never", "--deadline", when)

    assert (ran.code, stage.client.tasks(type="never")["tasks"]) == (exits.USAGE, [])
    assert f"'--deadline': {when!r} is no time with a zone; write for example 2027-01-15T08:00:00Z" in ran.err
