"""RQ with Redis: two workers that run tasks in their own process, which is six times as fast as a fork each."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from analysis.peers.peer import Peer, Submit, act, nap, stamp, url

PEER = Peer(
    module="rq_redis",
    name="RQ + Redis",
    package="rq",
    server="redis",
    durability="no: in Redis's memory without fsync; a lost worker's task stays started until its time is out",
    keeps_result="for 500 s",
    settings="2 workers without forks, results for 500 s",
)


def queue() -> tuple[Any, Any]:
    """The connection and the queue; a task is a function that the worker can import."""
    from redis import Redis  # type: ignore[import-not-found]  # of the peers' venv
    from rq import Queue  # type: ignore[import-not-found]

    connection = Redis.from_url(url())
    return connection, Queue(connection=connection)


@contextlib.contextmanager
def submitting() -> Iterator[Submit]:
    """One by one."""
    _, tasks = queue()
    functions = {"stamp": stamp, "nap": nap}
    yield lambda name: tasks.enqueue(functions[name])


def enqueue(count: int) -> None:
    """In bulk, a thousand in a pipeline."""
    from rq import Queue  # of the peers' venv

    _, tasks = queue()
    for first in range(0, count, 1000):
        tasks.enqueue_many([Queue.prepare_data(stamp) for _ in range(min(1000, count - first))])


def work() -> None:
    """What `rq worker --worker-class rq.SimpleWorker` does."""
    from rq import SimpleWorker  # of the peers' venv

    connection, tasks = queue()
    SimpleWorker([tasks], connection=connection).work(logging_level="ERROR")


if __name__ == "__main__":
    act(submitting, work, enqueue)
