"""What a peer's file offers: a description, and two acts that run in the peers' venv, not in ours.

`python -m analysis.peers.<module> enqueue 10000` queues no-ops, `... work` is a consumer until SIGTERM.
Only the standard library here: the peers' venv has nothing of Baton's.
"""

from __future__ import annotations

import os
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal, NamedTuple

STAMP: Final = struct.Struct("=d")  # Unix seconds; both ends of a drain are read from these


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


def url() -> str:
    """Where the peer's server is, or its folder."""
    return os.environ["PEER_URL"]


def act(enqueue: Callable[[int], None], work: Callable[[], None]) -> None:
    """Do what the command line asks of a peer's file."""
    if sys.argv[1] == "enqueue":
        enqueue(int(sys.argv[2]))
    else:
        work()
