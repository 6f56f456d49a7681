"""Celery with Redis: two workers of the solo pool, which has no parent process between queue and task."""

from __future__ import annotations

import os
from typing import Any

from analysis.peers.peer import Peer, act, stamp, url

PEER = Peer(
    module="celery_redis",
    name="Celery + Redis",
    package="celery",
    server="redis",
    durability="no: in Redis's memory without fsync; acknowledged before it runs: a lost worker loses it",
    keeps_result="no",
    settings="2 workers, solo pool, prefetch 4, no results, no events",
)


def queue() -> tuple[Any, Any]:
    """The application and its task."""
    from celery import Celery  # type: ignore[import-not-found]  # of the peers' venv

    app = Celery("peers", broker=url())
    app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True)
    return app, app.task(stamp, name="stamp")


def enqueue(count: int) -> None:
    """One by one: Celery has no bulk call."""
    _, noop = queue()
    for _ in range(count):
        noop.delay()


def work() -> None:
    """One worker; gossip, mingle and heartbeats between workers are off, as they only cost."""
    app, _ = queue()
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "ERROR"]
    app.worker_main(["worker", "--pool", "solo", "--hostname", f"worker-{os.getpid()}@localhost", *quiet])


if __name__ == "__main__":
    act(enqueue, work)
