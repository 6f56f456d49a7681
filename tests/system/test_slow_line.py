"""A worker at the end of a slow line: what it has to bring takes longer than its heartbeats may."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from analysis.cluster import Cluster, cluster
from analysis.cut_proxy import lines
from tests.support.stores import Store
from tests.system.support import ended, outcomes, submit

TASKS = """
import time
from tasks import task

@task("wide")
def wide(ctx):
    return "x" * 1_000_000

@task("eat")
def eat(ctx, body):
    return len(body)

@task("heavy")
def heavy(ctx, size):
    for step in ctx.resume(range(6), {"body": "x" * size}):
        time.sleep(0.5)
"""
RATE = 400_000  # bytes a second: two and a half for a result or a checkpoint
RESULTS = 6  # together they take longer than an answer may

# What a line does, no database knows of.
pytestmark = pytest.mark.parametrize("store", ["sqlite"], indirect=True)


@pytest.fixture
def rates() -> tuple[float, float]:
    """Bytes a second to the dispatcher, and back; a test overrides this by parametrizing it."""
    return RATE, math.inf


@pytest.fixture
def far(store: Store, tmp_path: Path, rates: tuple[float, float]) -> Iterator[Cluster]:
    """A dispatcher, and a worker beyond a slow line that is silent after two seconds."""
    tasks = tmp_path / "wide.py"
    tasks.write_text(TASKS)
    settings = {"HEARTBEAT_TIMEOUT_SECONDS": "2", "TASK_MODULES": str(tasks)}
    with (
        cluster(tmp_path, DATABASE_URL=store.url, **settings) as baton,
        lines(["slow"], baton.port, *rates) as slow,
    ):
        baton.start_worker("worker-1", "--slots", str(RESULTS), "--url", slow["slow"].url)
        yield baton
    store.check()


def test_large_results_arrive_and_the_worker_is_never_silent(far: Cluster) -> None:
    tasks = submit(far, "wide", count=RESULTS)

    ends = [ended(far, task_id) for task_id in tasks]

    assert [len(task["result"]) for task in ends] == [1_000_000] * RESULTS
    assert [outcomes(far, task_id) for task_id in tasks] == [["completed"]] * RESULTS
    assert not [line for line in far.log("dispatcher").splitlines() if '"worker_silent"' in line]
    assert "dispatcher_away" not in far.log("worker-1")


@pytest.mark.parametrize(("rates", "size"), [((RATE, math.inf), 900_000), ((RATE / 4, math.inf), 250_000)])
def test_large_checkpoints_do_not_make_heartbeats_late(far: Cluster, size: int) -> None:
    (task_id,) = submit(far, "heavy", size=size)

    task = ended(far, task_id)

    assert (task["status"], outcomes(far, task_id)) == ("completed", ["completed"])
    assert not [line for line in far.log("dispatcher").splitlines() if '"worker_silent"' in line]


@pytest.mark.parametrize("rates", [(math.inf, RATE / 2)])
def test_what_comes_in_slowly_is_not_taken_for_lost(far: Cluster) -> None:
    tasks = submit(far, "eat", count=3, body="x" * 800_000)  # four seconds each

    ends = [ended(far, task_id) for task_id in tasks]

    assert [task["result"] for task in ends] == [800_000] * 3
    assert [outcomes(far, task_id) for task_id in tasks] == [["completed"]] * 3
