"""Dramatiq with Redis: one command that starts two processes of eight threads."""

from __future__ import annotations

import os
import sys
from typing import Any

from analysis.peers.peer import Peer, act, stamp, url

PEER = Peer(
    module="dramatiq_redis",
    name="Dramatiq + Redis",
    package="dramatiq",
    server="redis",
    durability="no: in Redis's memory without fsync; acknowledged after it ran",
    keeps_result="no",
    settings="2 processes of 8 threads, prefetch 200, no results",
    consumers=1,
)


def set_up() -> Any:
    """The broker as the default one, and the actor; `dramatiq` calls it in every process."""
    import dramatiq  # type: ignore[import-not-found]  # of the peers' venv
    from dramatiq.brokers.redis import RedisBroker  # type: ignore[import-not-found]

    dramatiq.set_broker(RedisBroker(url=url()))
    return dramatiq.actor(stamp, actor_name="stamp")


def enqueue(count: int) -> None:
    """One by one: Dramatiq has no bulk call."""
    noop = set_up()
    for _ in range(count):
        noop.send()


def work() -> None:
    """The command line of Dramatiq."""
    environment = {**os.environ, "dramatiq_queue_prefetch": "200"}  # with its 16 it sleeps, the window full
    command = ("analysis.peers.dramatiq_redis:set_up", "--processes", "2", "--threads", "8")
    os.execve(sys.executable, [sys.executable, "-m", "dramatiq", *command], environment)


if __name__ == "__main__":
    act(enqueue, work)
