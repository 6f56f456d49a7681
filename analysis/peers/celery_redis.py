"""Celery with Redis: two workers of the solo pool, which has no parent process between queue and task."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from analysis.peers.peer import Peer, Submit, act, nap, stamp, url

PEER = Peer(
    module="celery_redis",
    name="Celery + Redis",
    package="celery",
    server="redis",
    durability="no: in Redis's memory without fsync; acknowledged before it runs: a lost worker loses it",
    keeps_result="no",
    settings="2 workers, solo pool, prefetch 4, no results, no events",
)


def queue() -> Any:
    """The application, with its tasks."""
    from celery import Celery  # type: ignore[import-not-found]  # of the peers' venv

    app = Celery("peers", broker=url())
    app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True)
    for function in (stamp, nap):
        app.task(function, name=function.__name__)
    return app


@contextlib.contextmanager
def submitting() -> Iterator[Submit]:
    """One by one: Celery has no bulk call."""
    tasks = queue().tasks
    yield lambda name: tasks[name].delay()


def work() -> None:
    """One worker; gossip, mingle and heartbeats between workers are off, as they only cost."""
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "ERROR"]
    queue().worker_main(["worker", "--pool", "solo", "--hostname", f"worker-{os.getpid()}@localhost", *quiet])


if __name__ == "__main__":
    act(submitting, work)
