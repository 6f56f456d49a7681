"""examples/shell_worker.sh against a real dispatcher: a worker needs no more than sh and curl."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from analysis.cluster import Cluster, cluster
from shared.protocol import Submission
from shared.settings import ROOT

SCRIPT = ROOT / "examples" / "shell_worker.sh"


@pytest.fixture
def baton(tmp_path: Path) -> Iterator[Cluster]:
    with cluster(tmp_path / "baton") as running:
        yield running


@pytest.fixture
def shell_worker(baton: Cluster, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (tmp_path / "shell.log").open("wb") as log:
        command = ["/bin/sh", str(SCRIPT), baton.url, "shell-1"]
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        yield process
        process.terminate()
        process.wait(20)


def submit(baton: Cluster, path: Path) -> int:
    payload = msgspec.Raw(msgspec.json.encode({"path": str(path)}))
    task_id: int = baton.client.submit(Submission("line_count", payload=payload))["task_id"]
    return task_id


def ended(baton: Cluster, task_id: int) -> dict[str, Any]:
    def view() -> dict[str, Any] | None:
        task = baton.client.task(task_id, wait_seconds=1.0)
        return task if task["finished_at"] else None

    task: dict[str, Any] = baton.wait(view, f"task {task_id} to end")
    return task


@contextlib.contextmanager
def slow_file(path: Path) -> Iterator[int]:
    """A file whose end comes when this block ends; its handle is for writing."""
    os.mkfifo(path)
    handle = os.open(path, os.O_RDWR)  # both, so that opening it waits for nobody
    try:
        yield handle
    finally:
        os.close(handle)


def test_a_worker_in_shell_completes_and_fails_tasks(
    baton: Cluster, shell_worker: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    (tmp_path / "poem.txt").write_text("one\ntwo\nthree\n")

    counted = ended(baton, submit(baton, tmp_path / "poem.txt"))
    absent = ended(baton, submit(baton, tmp_path / "absent.txt"))

    assert (counted["status"], counted["result"]) == ("completed", {"lines": 3})
    assert (absent["status"], absent["error"]["type"]) == ("failed", "Unreadable")


def test_its_heartbeats_keep_a_task_that_is_longer_than_the_time_out(
    baton: Cluster, shell_worker: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    with slow_file(tmp_path / "slow.txt") as writer:
        task_id = submit(baton, tmp_path / "slow.txt")
        heard = baton.wait(lambda: _heartbeat(baton, task_id), "the task to be claimed")
        late = heard + timedelta(seconds=2.5)
        baton.wait(lambda: (_heartbeat(baton, task_id) or heard) > late, "heartbeats for 2.5 s")
        os.write(writer, b"a line\n")
    task = ended(baton, task_id)

    assert (task["status"], task["attempt"], task["result"]) == ("completed", 1, {"lines": 1})


def test_a_polite_stop_hands_the_task_back(
    baton: Cluster, shell_worker: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    with slow_file(tmp_path / "slow.txt"):
        task_id = submit(baton, tmp_path / "slow.txt")
        heard = baton.wait(lambda: _heartbeat(baton, task_id), "the task to be claimed")
        baton.wait(lambda: (_heartbeat(baton, task_id) or heard) > heard, "it to know what it holds")
        shell_worker.terminate()
        shell_worker.wait(20)
    task = baton.client.task(task_id)

    assert (task["status"], task["releases"], task["crashes"]) == ("pending", 1, 0)
    assert [worker["state"] for worker in baton.client.workers()] == ["stopped"]


def _heartbeat(baton: Cluster, task_id: int) -> datetime | None:
    """When its worker was last heard, if the task is held."""
    task = baton.client.task(task_id)
    if task["status"] != "in-progress":
        return None
    workers = {worker["worker_id"]: worker for worker in baton.client.workers()}
    return datetime.fromisoformat(workers[task["worker_id"]]["last_heartbeat_at"])


def test_with_once_it_ends_after_a_task(baton: Cluster, tmp_path: Path) -> None:
    (tmp_path / "poem.txt").write_text("one\n")
    task_id = submit(baton, tmp_path / "poem.txt")

    finished = subprocess.run(["/bin/sh", str(SCRIPT), baton.url, "shell-1", "--once"], timeout=20)

    assert finished.returncode == 0
    assert baton.client.task(task_id)["result"] == {"lines": 1}
    assert [worker["state"] for worker in baton.client.workers()] == ["stopped"]
