"""Whoever takes part in the comparison: a peer, driven by commands in its own venv, or Baton.

All are used alike: tasks are submitted one by one or in bulk, consumers are started, and what runs
leaves its stamps (peer.py).
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

from analysis.cluster import Cluster
from analysis.peers import servers
from analysis.peers.peer import Peer, submit_each
from analysis.peers.venv import PYTHON, NotMeasured, Tell
from shared.protocol import Submission

ENQUEUE_SECONDS: Final = 60.0
SETTLE_SECONDS: Final = 20.0  # from the last function's end to the last result on disk; usually at once


class Contestant(Protocol):
    """A queue with nothing in it and no consumers yet. Whatever fails raises NotMeasured with the reason."""

    tasks: int  # how many it drains
    stamps: Path
    consumers: list[subprocess.Popen[bytes]]

    def submit(self, name: str, count: int, pause: float = 0.0) -> list[float]:
        """Submit one by one; Unix seconds just before each, and after the last."""

    def enqueue(self, count: int) -> None:
        """Queue no-ops, as fast as it can."""

    def consume(self, spare: bool = False) -> None:
        """Start consumers of two processes in all; `spare`: so that one is left when the tree of one dies."""

    def settled(self, runs: int) -> float | None:
        """When the last of so many was over, if that is later than its stamp: wait for it."""

    def last_words(self) -> str:
        """What a consumer that ended said at last."""


class PeerQueue:
    """A peer with a fresh server; `environment` tells its commands where that and the stamps are."""

    tasks = 10_000

    def __init__(self, peer: Peer, folder: Path, server: str, started: contextlib.ExitStack) -> None:
        self.stamps = _made(folder / "stamps")
        self.consumers: list[subprocess.Popen[bytes]] = []
        self._peer = peer
        self._folder = folder
        self._environment = {"PEER_URL": server, "PEER_STAMPS": str(self.stamps)}
        self._started = started
        self._log = folder / "consumers.log"

    def submit(self, name: str, count: int, pause: float = 0.0) -> list[float]:
        """Its `submit`, which leaves the moments in a file."""
        told = self._folder / "moments"
        self._run("submit", name, str(count), str(pause), str(told))
        return array("d", told.read_bytes()).tolist()

    def enqueue(self, count: int) -> None:
        """Its `enqueue`."""
        self._run("enqueue", str(count))

    def consume(self, spare: bool = False) -> None:
        """Its `work`, once or twice."""
        for _ in range(2 if spare else self._peer.consumers):
            process = servers.running([*self._command, "work"], self._log, self._environment)
            self.consumers.append(self._started.enter_context(process))

    def settled(self, runs: int) -> float | None:
        """Peers are given the benefit."""
        return None

    def last_words(self) -> str:
        """Of all consumers."""
        return servers.last_line(self._log)

    @property
    def _command(self) -> list[str]:
        return [str(PYTHON), "-m", f"analysis.peers.{self._peer.module}"]

    def _run(self, *arguments: str) -> None:
        log = self._folder / "submitter.log"
        with servers.running([*self._command, *arguments], log, self._environment) as process:
            try:
                ended = process.wait(ENQUEUE_SECONDS)
            except subprocess.TimeoutExpired:
                raise NotMeasured(f"'{arguments[0]}' was not over within {ENQUEUE_SECONDS:g} s") from None
            if ended != 0:
                raise NotMeasured(f"'{arguments[0]}' failed: {servers.last_line(log)}")


class BatonQueue:
    """Baton: workers of the first dispatcher, clients of the last."""

    tasks = 50_000  # at its speed 10,000 would be over before both workers are there

    def __init__(self, stamps: Path, dispatchers: list[Cluster]) -> None:
        self.stamps = stamps
        self.consumers: list[subprocess.Popen[bytes]] = []
        self._cluster = dispatchers[0]
        self._client = dispatchers[-1].client

    def submit(self, name: str, count: int, pause: float = 0.0) -> list[float]:
        """By the client that add_task.py uses."""
        return submit_each(lambda name: self._client.submit(Submission(f"peer_{name}")), name, count, pause)

    def enqueue(self, count: int) -> None:
        """In bulk."""
        self._client.submit_many([Submission("peer_stamp")] * count)

    def consume(self, spare: bool = False) -> None:
        """Two workers of one slot; either is left when the other dies."""
        self.consumers = [self._cluster.start_worker(name, wait=False) for name in ("worker-1", "worker-2")]

    def settled(self, runs: int) -> float | None:
        """Not the last function's end but the last result on disk."""
        stats = self._client.stats
        self._cluster.wait(lambda: stats()["tasks"]["completed"] == runs, "the last results", SETTLE_SECONDS)
        return time.time()

    def last_words(self) -> str:
        """Of the first worker."""
        return servers.last_line(self._cluster.folder / "worker-1.log")


@contextlib.contextmanager
def peer(described: Peer, folder: Path, tell: Tell) -> Iterator[Contestant]:
    """A peer with a fresh server; all of it is gone afterwards."""
    with contextlib.ExitStack() as started:
        url = started.enter_context(servers.server(described.server, _made(folder / "server"), tell))
        yield PeerQueue(described, folder, url, started)


@contextlib.contextmanager
def baton(folder: Path, urls: tuple[str | None, ...] = (None,)) -> Iterator[Contestant]:
    """Baton with every commit on disk: a dispatcher for each of the databases, None being its own SQLite."""
    stamps = _made(folder / "stamps")
    settings = {"TASK_MODULES": "analysis/peers/stamp_task.py", "PEER_STAMPS": str(stamps), "DURABILITY": "full"}
    dispatchers = [
        Cluster(folder / f"dispatcher-{number}", **settings, **({"DATABASE_URL": url} if url else {}))
        for number, url in enumerate(urls)
    ]
    try:
        for dispatcher in dispatchers:
            dispatcher.start_dispatcher()
        yield BatonQueue(stamps, dispatchers)
    finally:
        for dispatcher in dispatchers:
            dispatcher.stop()


@contextlib.contextmanager
def baton_on_postgresql(folder: Path, tell: Tell) -> Iterator[Contestant]:
    """The same with two dispatchers on a fresh server of PostgreSQL, with the settings that peers have it with."""
    server = servers.server("postgresql", _made(folder / "server"), tell)
    with server as url, baton(folder, (url, url)) as queue:
        yield queue


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
