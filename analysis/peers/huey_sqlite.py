"""Huey on SQLite: one consumer that starts two worker processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from analysis.peers.peer import Peer, act, stamp, url

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


def queue() -> tuple[Any, Any]:
    """The queue and its task."""
    from huey import SqliteHuey  # type: ignore[import-not-found]  # of the peers' venv

    huey = SqliteHuey("peers", filename=str(Path(url()) / "huey.db"), fsync=True, results=False)
    return huey, huey.task(name="stamp")(stamp)


def enqueue(count: int) -> None:
    """One by one: Huey has no bulk call."""
    _, noop = queue()
    for _ in range(count):
        noop()


def work() -> None:
    """What `huey_consumer -k process -w 2 -n` does."""
    huey, _ = queue()
    huey.create_consumer(workers=2, worker_type="process", periodic=False).run()


if __name__ == "__main__":
    act(enqueue, work)
