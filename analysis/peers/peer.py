"""What a peer's file offers: a description, and three acts that run in the peers' venv, not in ours.

`python -m analysis.peers.<module> enqueue 10000` queues no-ops as fast as the peer can, `... submit NAME
COUNT PAUSE FILE` submits one by one and keeps the moments, `... work` is a consumer until SIGTERM.
Only the standard library here: the peers' venv has nothing of Baton's.
"""

from __future__ import annotations

import os
import struct
import sys
import time
from array import array
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, Literal, NamedTuple

STAMP: Final = struct.Struct("=d")  # Unix seconds; both ends of a drain are read from these
NAP_SECONDS: Final = 2.0  # a consumer is killed in the middle of one

Submit = Callable[[str], object]  # one task, by the name of its function: "stamp" or "nap"


class Peer(NamedTuple):
    """One peer, as it is started and as the table names it."""

    module: str
    name: str
    package: str
    server: Literal["redis", "postgresql", "file"]
    durability: str  # a sentence that begins with yes or no
    keeps_result: str
    settings: str
    consumers: int = 2  # commands to start; 1 where one command starts two processes of its own


_files: dict[int, int] = {}


def stamp() -> None:
    """The no-op: append the time to this process's file. stamp_task.py is the same for Baton."""
    pid = os.getpid()  # not once per import: consumers fork
    if pid not in _files:
        path = Path(os.environ["PEER_STAMPS"]) / str(pid)
        _files[pid] = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(_files[pid], STAMP.pack(time.time()))


def nap() -> None:
    """The task in whose middle a consumer is killed: it tells its start."""
    stamp()
    time.sleep(NAP_SECONDS)


def url() -> str:
    """Where the peer's server is, or its folder."""
    return os.environ["PEER_URL"]


def submit_each(submit: Submit, name: str, count: int, pause: float) -> list[float]:
    """Submit one by one; Unix seconds just before each, and after the last."""
    moments = []
    for _ in range(count):
        moments.append(time.time())
        submit(name)
        if pause:
            time.sleep(pause)
    return [*moments, time.time()]


def act(
    submitting: Callable[[], AbstractContextManager[Submit]],
    work: Callable[[], None],
    enqueue: Callable[[int], None] | None = None,
) -> None:
    """Do what the command line asks of a peer's file; without an `enqueue` there is no bulk call."""
    verb, *arguments = sys.argv[1:]
    if verb == "work":
        work()
    elif verb == "enqueue" and enqueue is not None:
        enqueue(int(arguments[0]))
    elif verb == "enqueue":
        with submitting() as submit:
            submit_each(submit, "stamp", int(arguments[0]), pause=0.0)
    else:
        name, count, pause, path = arguments
        with submitting() as submit:
            moments = submit_each(submit, name, int(count), float(pause))
        Path(path).write_bytes(array("d", moments).tobytes())
