"""The peers' tasks as tasks of Baton: one appends the time to this process's file, the other then sleeps.

Loaded by workers (TASK_MODULES). It says again what peer.py says, since a task file imports nothing but
tasks; a test holds the two together.
"""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path
from typing import Final

from tasks import task
from tasks.context import TaskContext

STAMP: Final = struct.Struct("=d")
NAP_SECONDS: Final = 2.0

_files: dict[int, int] = {}


@task("peer_stamp")
def peer_stamp(ctx: TaskContext) -> None:
    """Eight bytes: Unix seconds."""
    pid = os.getpid()
    if pid not in _files:
        path = Path(os.environ["PEER_STAMPS"]) / str(pid)
        _files[pid] = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(_files[pid], STAMP.pack(time.time()))


@task("peer_nap")
def peer_nap(ctx: TaskContext) -> None:
    """It tells its start."""
    peer_stamp(ctx)
    time.sleep(NAP_SECONDS)
