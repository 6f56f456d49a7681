"""./add_task.py against a real dispatcher: what its options make of a task."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from shared import exits
from shared.settings import ROOT
from tests.support.scene import Ran, Scene, scene


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(tmp_path_factory.mktemp("add_task")) as made:
        yield made


def add_task(stage: Scene, *words: str) -> Ran:
    command = [sys.executable, str(ROOT / "add_task.py"), *words]
    environment = {**os.environ, **stage.environment}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
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
