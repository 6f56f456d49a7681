"""Procrastinate with PostgreSQL: two workers, each with four tasks at a time in its event loop."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from analysis.peers.peer import Peer, Submit, act, nap, stamp, url

PEER = Peer(
    module="procrastinate_postgresql",
    name="Procrastinate + PostgreSQL",
    package="procrastinate",
    server="postgresql",
    durability="yes: PostgreSQL, fsync at every commit",
    keeps_result="status only",
    settings="2 workers, concurrency 4, PostgreSQL's own defaults",
)


def queue() -> tuple[Any, dict[str, Any]]:
    """The application, and its tasks by name."""
    from procrastinate import App, PsycopgConnector  # of the peers' venv

    async def noop() -> None:
        stamp()

    app = App(connector=PsycopgConnector(conninfo=url()))
    return app, {"stamp": app.task(noop, name="stamp"), "nap": app.task(nap, name="nap")}


@contextlib.contextmanager
def submitting() -> Iterator[Submit]:
    """One by one, into a fresh schema if there is none."""
    app, tasks = queue()
    with app.open():
        if not app.check_connection():  # True once its tables are there
            app.schema_manager.apply_schema()
        yield lambda name: tasks[name].defer()


def enqueue(count: int) -> None:
    """In bulk; then the statistics that a database in use would have."""
    import psycopg

    app, tasks = queue()
    with app.open():
        tasks["stamp"].batch_defer(*({} for _ in range(count)))
    with psycopg.connect(url(), autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")  # else the planner takes a full table for an empty one


def work() -> None:
    """What `procrastinate worker --concurrency 4` does."""
    app, _ = queue()
    app.run_worker(concurrency=4)


if __name__ == "__main__":
    act(submitting, work, enqueue)
