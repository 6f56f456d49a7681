"""Huey on SQLite: one consumer that starts two worker processes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from analysis.peers.peer import Peer, Submit, act, nap, stamp, url

PEER = Peer(
    module="huey_sqlite",
    name="Huey on SQLite",
    package="huey",
    server="file",
    durability="in part: fsync at enqueue and dequeue, but deleted before it runs: a lost worker loses it",
    keeps_result="no",
    settings="1 consumer, 2 processes, WAL, fsync, no results, no schedule",
    consumers=1,
)


def queue() -> tuple[Any, dict[str, Any]]:
    """The queue, and its tasks by name."""
    from huey import SqliteHuey  # type: ignore[import-not-found]  # of the peers' venv

    huey = SqliteHuey("peers", filename=str(Path(url()) / "huey.db"), fsync=True, results=False)
    return huey, {f.__name__: huey.task(name=f.__name__)(f) for f in (stamp, nap)}


@contextlib.contextmanager
def submitting() -> Iterator[Submit]:
    """One by one: Huey has no bulk call."""
    _, tasks = queue()
    yield lambda name: tasks[name]()


def work() -> None:
    """What `huey_consumer -k process -w 2 -n` does."""
    huey, _ = queue()
    huey.create_consumer(workers=2, worker_type="process", periodic=False).run()


if __name__ == "__main__":
    act(submitting, work)
