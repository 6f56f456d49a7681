"""Dramatiq with Redis: one command that starts two processes of eight threads."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

from analysis.peers.peer import Peer, Submit, act, nap, stamp, url

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


def set_up() -> dict[str, Any]:
    """The broker as the default one, and the actors by name; `dramatiq` calls it in every process."""
    import dramatiq  # type: ignore[import-not-found]  # of the peers' venv
    from dramatiq.brokers.redis import RedisBroker  # type: ignore[import-not-found]

    dramatiq.set_broker(RedisBroker(url=url()))
    return {f.__name__: dramatiq.actor(f, actor_name=f.__name__) for f in (stamp, nap)}


@contextlib.contextmanager
def submitting() -> Iterator[Submit]:
    """One by one: Dramatiq has no bulk call."""
    actors = set_up()
    yield lambda name: actors[name].send()


def work() -> None:
    """The command line of Dramatiq."""
    environment = {**os.environ, "dramatiq_queue_prefetch": "200"}  # with its 16 it sleeps, the window full
    command = ("analysis.peers.dramatiq_redis:set_up", "--processes", "2", "--threads", "8")
    os.execve(sys.executable, [sys.executable, "-m", "dramatiq", *command], environment)


if __name__ == "__main__":
    act(submitting, work)
