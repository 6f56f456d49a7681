"""How fast a queue empties: tasks per second from the first to the last of many queued no-ops.

The no-op is the same everywhere: it appends the time to a file. All tasks are queued before any consumer
starts, so start-up is no part of the figure. Of Baton the end is not the last function's but the last
result on disk, which is later; the peers are given the benefit.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from analysis.figures import fresh_cluster
from analysis.peers import servers
from analysis.peers.peer import STAMP, Peer
from analysis.peers.venv import PYTHON, NotMeasured, Tell
from shared.protocol import Submission

PEER_TASKS: Final = 10_000
BATON_TASKS: Final = 50_000  # at its speed 10,000 would be over before both workers are there
ENQUEUE_SECONDS: Final = 60.0
DRAIN_SECONDS: Final = 90.0  # a peer that needs longer is named, not waited for


class Drain(NamedTuple):
    """Tasks run, and Unix seconds of the first and the last end."""

    runs: int
    first: float
    last: float

    @property
    def rate(self) -> float:
        """Tasks per second."""
        return self.runs / (self.last - self.first)


def baton(folder: Path, url: str | None = None) -> Drain:
    """Baton with two workers, every commit on disk; on the database at `url`, else on SQLite."""
    stamps = _made(folder / "stamps")
    settings = {"TASK_MODULES": "analysis/peers/stamp_task.py", "PEER_STAMPS": str(stamps), "DURABILITY": "full"}
    if url is not None:
        settings["DATABASE_URL"] = url
    with fresh_cluster(**settings) as cluster:
        cluster.client.submit_many([Submission("peer_stamp")] * BATON_TASKS)
        for name in ("worker-1", "worker-2"):
            cluster.start_worker(name, wait=False)
        cluster.wait(lambda: count(stamps) >= BATON_TASKS, "the queue to drain", DRAIN_SECONDS)
        cluster.wait(lambda: cluster.client.stats()["tasks"]["completed"] == BATON_TASKS, "the last results")
        return read(stamps)._replace(last=time.time())


def baton_on_postgresql(folder: Path, tell: Tell) -> Drain:
    """The same on a fresh server of PostgreSQL, with the settings that peers have it with."""
    with servers.server("postgresql", _made(folder / "server"), tell) as url:
        return baton(folder, url)


def of_peer(peer: Peer, folder: Path, tell: Tell) -> Drain:
    """A peer with a fresh server and its consumers; NotMeasured says why there is no figure."""
    stamps, own = _made(folder / "stamps"), _made(folder / "server")
    module = [str(PYTHON), "-m", f"analysis.peers.{peer.module}"]
    log = folder / "consumers.log"
    with contextlib.ExitStack() as started:
        url = started.enter_context(servers.server(peer.server, own, tell))
        environment = {"PEER_URL": url, "PEER_STAMPS": str(stamps)}
        _enqueue([*module, "enqueue", str(PEER_TASKS)], folder / "enqueue.log", environment)
        consumers = [
            started.enter_context(servers.running([*module, "work"], log, environment))
            for _ in range(peer.consumers)
        ]
        _await_all(stamps, consumers, log)
        return read(stamps)


def count(stamps: Path) -> int:
    """How many no-ops have run so far."""
    return sum(path.stat().st_size for path in stamps.iterdir()) // STAMP.size


def read(stamps: Path) -> Drain:
    """What the files of a drain say."""
    moments = array("d")
    for path in stamps.iterdir():
        moments.frombytes(path.read_bytes())
    return Drain(len(moments), min(moments), max(moments))


def _enqueue(command: list[str], log: Path, environment: dict[str, str]) -> None:
    with servers.running(command, log, environment) as process:
        try:
            ended = process.wait(ENQUEUE_SECONDS)
        except subprocess.TimeoutExpired:
            raise NotMeasured(f"{PEER_TASKS:,} tasks were not queued within {ENQUEUE_SECONDS:g} s") from None
        if ended != 0:
            raise NotMeasured(f"queueing failed: {servers.last_line(log)}")


def _await_all(stamps: Path, consumers: Iterable[subprocess.Popen[bytes]], log: Path) -> None:
    deadline = time.monotonic() + DRAIN_SECONDS
    while (ran := count(stamps)) < PEER_TASKS:
        if any(consumer.poll() is not None for consumer in consumers):
            raise NotMeasured(f"a consumer ended: {servers.last_line(log)}")
        if time.monotonic() > deadline:
            raise NotMeasured(f"only {ran:,} of {PEER_TASKS:,} tasks ran within {DRAIN_SECONDS:g} s")
        time.sleep(0.05)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
