"""What a message costs the dispatcher here: measured on a real one, over HTTP, with every commit on disk.

Many connections send at once, so that commits are shared as under load. Costs are the dispatcher's own
processor time: what other programs take meanwhile does not count.
"""

from __future__ import annotations

import os
import resource
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, Final

import msgspec
from msgspec import Struct

from analysis import machine
from analysis.cluster import Cluster, cluster
from shared.protocol import Checkpoint, Exchange, ExchangeAnswer, Grant, Holding, Result, Submission, WorkerInfo

CONNECTIONS: Final = 64
CONNECTIONS_TRIED: Final = 4000
_MEASURED_SECONDS: Final = 1.0  # of the dispatcher's processor, for each kind of message
_ANSWER_SECONDS: Final = 3.0  # /health takes a millisecond
_SYNCS: Final = 40
_HEAD: Final = (
    b"POST /exchange HTTP/1.1\r\nHost: baton\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(ExchangeAnswer).decode


class Costs(Struct):
    """Seconds of the dispatcher's processor for each kind of message, and for a commit to reach the disk."""

    heartbeat_seconds: float  # names one running task
    checkpoint_seconds: float  # the same with a checkpoint
    work_seconds: float  # a result in, the next task out
    commit_seconds: float
    source: str = "measured"
    connections: int | None = None  # open ones that were answered; None: not tried
    connections_end: bool = False  # was there one that was not?


def calibrate() -> Costs:
    """Measure each kind of message on a dispatcher of our own."""
    with tempfile.TemporaryDirectory(prefix="baton-calibration-") as folder:
        path = Path(folder)
        commit = _sync_seconds(path)
        with cluster(path) as baton:
            with_workers = _Callers(baton)
            try:
                beat = with_workers.measure(with_workers.heartbeat)
                save = with_workers.measure(with_workers.checkpoint)
                work = with_workers.measure(with_workers.work)
            finally:
                with_workers.close()
            answered, ended = _count_connections(baton.port)
    return Costs(beat, save, work, commit, connections=answered, connections_end=ended)


def _count_connections(port: int) -> tuple[int, bool]:
    """How many connections can be open and answered at once, and whether the next one was not.

    Tried up to a few thousand, or what this process may open itself.
    """
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 100
    opened: list[socket.socket] = []
    try:
        for _ in range(min(CONNECTIONS_TRIED, allowed)):
            connection = socket.create_connection(("127.0.0.1", port), timeout=_ANSWER_SECONDS)
            opened.append(connection)
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: baton\r\n\r\n")
            if not connection.recv(4096):
                return len(opened) - 1, True
        return len(opened), False
    except OSError:
        return len(opened) - 1, True
    finally:
        for connection in opened:
            connection.close()


class _Callers:
    """Workers in name only: each has a connection, a grant, and says what it is told to say."""

    def __init__(self, baton: Cluster) -> None:
        self._baton = baton
        self._sockets = [socket.create_connection(("127.0.0.1", baton.port)) for _ in range(CONNECTIONS)]
        self._workers = [WorkerInfo(f"w{i}", f"w{i}", types=["noop"]) for i in range(CONNECTIONS)]
        self._seq = 0
        baton.client.submit_many([Submission("noop")] * CONNECTIONS * 2)
        claims = self._call([Exchange(worker, want=1) for worker in self._workers])
        self._grants: list[Grant] = [answer.tasks[0] for answer in claims]

    def measure(self, message: Callable[[WorkerInfo, Grant], Exchange]) -> float:
        """Processor seconds of the dispatcher for one message of a kind."""
        assert self._baton.dispatcher is not None
        pids = machine.tree(self._baton.dispatcher.pid)
        used = sent = 0.0
        while used < _MEASURED_SECONDS:
            if message == self.work:  # what will be claimed; not part of the cost
                self._baton.client.submit_many([Submission("noop")] * CONNECTIONS * 10)
            before = machine.cpu_seconds(pids)
            for _ in range(10):
                self._seq += 1
                messages = [message(*pair) for pair in zip(self._workers, self._grants, strict=True)]
                answers = self._call(messages)
                self._grants = [a.tasks[0] if a.tasks else g for a, g in zip(answers, self._grants, strict=True)]
                sent += CONNECTIONS
            used += machine.cpu_seconds(pids) - before
        return used / sent

    def heartbeat(self, worker: WorkerInfo, grant: Grant) -> Exchange:
        """What a worker says every second."""
        progress = self._seq % 1000 / 1000
        holding = Holding(grant.lease_id, grant.task_id, grant.attempt, None, True, progress)
        return Exchange(worker, [holding])

    def checkpoint(self, worker: WorkerInfo, grant: Grant) -> Exchange:
        """The same, with a small checkpoint."""
        message = self.heartbeat(worker, grant)
        fence: dict[str, Any] = {"task_id": grant.task_id, "attempt": grant.attempt, "lease_id": grant.lease_id}
        message.checkpoints = [Checkpoint(**fence, seq=self._seq, state=msgspec.Raw(b'{"done":123456789}'))]
        return message

    def work(self, worker: WorkerInfo, grant: Grant) -> Exchange:
        """A result in, the next task out."""
        fence: dict[str, Any] = {"task_id": grant.task_id, "attempt": grant.attempt, "lease_id": grant.lease_id}
        return Exchange(worker, results=[Result(**fence, outcome="completed", elapsed_seconds=1.0)], want=1)

    def close(self) -> None:
        """Hang up."""
        for connection in self._sockets:
            connection.close()

    def _call(self, messages: list[Exchange]) -> list[ExchangeAnswer]:
        """Send all, then read all: so many requests are under way at once."""
        for connection, message in zip(self._sockets, messages, strict=True):
            body = _encode(message)
            connection.sendall(_HEAD % len(body) + body)
        return [_decode(_body(connection)) for connection in self._sockets]


def _body(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    length = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:"))
    while len(body) < length:
        body += connection.recv(65536)
    if b" 200 " not in lines[0]:
        raise RuntimeError(f"the dispatcher answered {body.decode(errors='replace')[:200]}")
    return body


def _sync_seconds(folder: Path) -> float:
    """How long a small write takes to reach the disk, typically."""
    took = []
    with (folder / "sync").open("wb") as file:
        for _ in range(_SYNCS):
            file.write(bytes(4096))
            file.flush()
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - began)
    return median(took)
