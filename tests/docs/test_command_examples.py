"""docs/commands.md: its examples run, and end as it says."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from analysis.cluster import cluster
from shared.settings import ROOT
from tests.support.invariants import check_invariants
from tests.system.bench import Bench, error_of
from tests.system.support import ended, outcomes, saved, submit

TEXT = (ROOT / "docs" / "commands.md").read_text()
RUNS = re.findall(r"<!-- run: (.*?) -->\n```json\n(.*?)```\n\n```json\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture
def bench() -> Iterator[Bench]:
    found = {name: str(shutil.which(name)) for name in ("sh", "printf")}
    made = Bench(programs=found)
    made.start()
    yield made
    made.executor.close()


@pytest.mark.parametrize(("ends", "payload", "shown"), RUNS)
def test_every_example_ends_as_it_says(bench: Bench, ends: str, payload: str, shown: str) -> None:
    outcome, _, kind = ends.partition(" ")

    result = bench.result_of(bench.add("command", **msgspec.json.decode(payload)))

    error = error_of(result) or {"type": ""}
    told = error["message"] if kind else msgspec.json.decode(result.result)
    assert (result.outcome, error["type"]) == (outcome, kind)
    assert told == msgspec.json.decode(shown)


def test_there_are_examples() -> None:
    assert len(RUNS) == 3


def test_the_program_is_shown_as_it_is() -> None:
    name, shown = re.findall(r"<!-- example: (\S+) -->\n```sh\n(.*?)```", TEXT, re.DOTALL)[0]

    assert shown in (ROOT / name).read_text()


def test_the_program_goes_on_where_it_was(tmp_path: Path) -> None:
    program = str(ROOT / "examples" / "counter.sh")
    with cluster(tmp_path, COMMAND_PROGRAMS=program, CHECKPOINT_INTERVAL_SECONDS="0.1") as baton:
        worker = baton.start_worker("worker-1")
        (task_id,) = submit(baton, "command", argv=[program, "150"])
        saved(baton, task_id)
        worker.terminate()
        worker.wait(10)
        baton.start_worker("worker-2")

        task = ended(baton, task_id)

        assert task["result"] == {"exit_code": 0, "output_tail": "counted to 150 in attempt 2\n"}
        assert outcomes(baton, task_id) == ["released", "completed"]
    check_invariants(baton.database)
