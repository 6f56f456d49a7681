"""Processes and threads that a task starts: they speak for nobody, hear what is sent to them, and end in time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.system.bench import Bench

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
def test_a_forked_process_that_leaves_the_task_ends_there(
    bench: Bench, how: str, status: int, words: str
) -> None:
    grant = bench.add("start.fork", how=how)

    result = bench.result_of(grant)
    after = bench.result_of(bench.add("noop"))

    assert (result.outcome, after.outcome) == ("completed", "completed")
    assert msgspec.json.decode(result.result) == {"status": status}
    assert words in "".join(text for _, text in bench.lines_of(grant))
    assert not bench.checkpoints
