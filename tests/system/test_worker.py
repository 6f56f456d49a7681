"""Worker processes that leave, refuse to start, answer from memory, or come as a crew."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from analysis.cluster import Cluster, cluster
from shared.settings import ROOT
from tests.support.stores import Store
from tests.system.support import ended, outcomes, running, submit

ODD = str(Path(__file__).parent.parent / "support" / "odd_tasks.py")
LIMIT_SECONDS = 20.0


@pytest.fixture
def odd_baton(store: Store, tmp_path: Path) -> Iterator[Cluster]:
    with cluster(tmp_path, TASK_MODULES=ODD, DATABASE_URL=store.url) as made:
        yield made
    store.check()


def test_nothing_of_a_task_outlives_its_killed_worker(odd_baton: Cluster, tmp_path: Path) -> None:
    worker = odd_baton.start_worker("worker-1")
    pid_file = tmp_path / "helper"
    submit(odd_baton, "odd.stubborn", pid_file=str(pid_file))
    odd_baton.wait(lambda: pid_file.exists() and pid_file.read_text(), "the helper to start")
    processes = [int(pid_file.read_text()), *(p.pid for p in psutil.Process(worker.pid).children())]

    worker.kill()
    worker.wait()

    odd_baton.wait(lambda: not any(map(lives, processes)), "all of it to end", 2.0)


def test_a_second_signal_ends_a_worker_at_once(odd_baton: Cluster, tmp_path: Path) -> None:
    worker = odd_baton.start_worker("worker-1")
    pid_file = tmp_path / "helper"
    (task_id,) = submit(odd_baton, "odd.stubborn", pid_file=str(pid_file))
    odd_baton.wait(pid_file.exists, "the task to run")
    worker.terminate()
    odd_baton.wait(lambda: "stops claiming" in odd_baton.log("worker-1"), "the drain to begin")

    worker.terminate()

    assert worker.wait(3) == 0
    assert odd_baton.client.task(task_id)["status"] == "pending"
    assert [a["outcome"] for a in odd_baton.client.attempts(task_id)] == ["released"]


def test_a_pure_task_is_run_once_and_answered_from_memory(odd_baton: Cluster, tmp_path: Path) -> None:
    odd_baton.start_worker("worker-1")
    tally = tmp_path / "tally"
    (first,) = submit(odd_baton, "odd.pure", tally=str(tally))
    odd_baton.wait(lambda: odd_baton.client.task(first)["result"], "the first")

    (second,) = submit(odd_baton, "odd.pure", tally=str(tally))
    odd_baton.wait(lambda: odd_baton.client.task(second)["result"], "the second")

    assert tally.read_bytes() == b"."
    assert odd_baton.client.task(second)["result"] == 1
    assert [a.get("cached") for a in odd_baton.client.attempts(second)] == [True]


def test_what_a_busy_worker_hands_back_does_not_come_back_to_it_at_once(odd_baton: Cluster) -> None:
    odd_baton.start_worker("worker-1")
    submit(odd_baton, "sleep", count=100, seconds=0.001)
    odd_baton.wait(lambda: odd_baton.client.stats()["tasks"]["completed"] == 100, "the short ones to end")

    long, behind = submit(odd_baton, "sleep", count=2, seconds=1)  # of a type that it knows to be short

    ended(odd_baton, behind)
    assert (outcomes(odd_baton, long), outcomes(odd_baton, behind)) == (["completed"], ["released", "completed"])


def test_a_worker_takes_only_the_types_it_was_given(odd_baton: Cluster) -> None:
    odd_baton.start_worker("worker-1", "--types", "noop,odd.pure")
    (left,) = submit(odd_baton, "odd.show")
    (taken,) = submit(odd_baton, "noop")

    odd_baton.wait(lambda: odd_baton.client.task(taken)["finished_at"], "the noop")

    assert odd_baton.client.task(left)["status"] == "pending"


@pytest.mark.parametrize(
    ("options", "settings", "complaint"),
    [
        (["--types", "noop,nope"], {}, "no task module declares nope; known: hash_chain"),
        ([], {"TASK_MODULES": "nowhere.py"}, "task module nowhere.py cannot be imported: FileNotFoundError"),
        (["--slots", "many"], {}, "--slots='many'"),
        (["--threads", "0"], {}, "--threads='0'"),
        (["--queues", "a,B"], {}, "--queues='B'"),
        (
            [],
            {"COMMAND_PROGRAMS": "no-such-program"},
            "COMMAND_PROGRAMS='no-such-program': 'no-such-program': no such",
        ),
    ],
)
def test_a_worker_that_cannot_work_says_why_and_exits_2(
    tmp_path: Path, options: list[str], settings: dict[str, str], complaint: str
) -> None:
    alone = Cluster(tmp_path, **settings)

    worker = alone.start_worker("worker-1", *options, wait=False)

    assert worker.wait(LIMIT_SECONDS) == 2
    assert complaint in alone.log("worker-1")
    alone.stop()


def test_a_crew_works_and_ends_together(odd_baton: Cluster) -> None:
    crew = odd_baton.start_worker("lab", "--count", "3", wait=False)
    odd_baton.wait(lambda: len(odd_baton.client.workers()) == 3, "the crew to register")

    crew.send_signal(signal.SIGINT)

    assert crew.wait(10) == 0
    states = {worker["name"]: worker["state"] for worker in odd_baton.client.workers()}
    assert states == {"lab-1": "stopped", "lab-2": "stopped", "lab-3": "stopped"}


def test_a_worker_leaves_in_time_and_keeps_its_result_when_nobody_takes_it(odd_baton: Cluster) -> None:
    worker = odd_baton.start_worker("worker-1")
    (task_id,) = submit(odd_baton, "odd.step", steps=10_000, seconds=0.01)
    running(odd_baton, task_id)
    assert odd_baton.dispatcher is not None
    odd_baton.dispatcher.kill()
    odd_baton.dispatcher.wait()

    worker.terminate()

    assert worker.wait(5) == 0
    kept = list((odd_baton.folder / "data" / "outbox").rglob("*.jsonl"))
    assert len(kept) == 1
    assert b'"outcome":"released"' in kept[0].read_bytes()


def lives(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("asked", ["-h", "--help"])
def test_a_worker_says_how_it_is_started(asked: str) -> None:
    command = [sys.executable, "-m", "worker", asked]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)

    assert ran.returncode == 0
    assert ran.stdout.startswith("Usage: ./start_worker.sh [OPTIONS] [NAME]")
    assert "Without a NAME it takes the first of worker-1, worker-2" in " ".join(ran.stdout.split())
