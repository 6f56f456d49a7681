"""Procrastinate with PostgreSQL: two workers, each with four tasks at a time in its event loop."""

from __future__ import annotations

from typing import Any

from analysis.peers.peer import Peer, act, stamp, url

PEER = Peer(
    module="procrastinate_postgresql",
    name="Procrastinate + PostgreSQL",
    package="procrastinate",
    server="postgresql",
    durability="yes: PostgreSQL, fsync at every commit",
    keeps_result="status only",
    settings="2 workers, concurrency 4, PostgreSQL's own defaults",
)


def queue() -> tuple[Any, Any]:
    """The application and its task."""
    from procrastinate import App, PsycopgConnector  # of the peers' venv

    async def noop() -> None:
        stamp()

    app = App(connector=PsycopgConnector(conninfo=url()))
    return app, app.task(noop, name="stamp")


def enqueue(count: int) -> None:
    """In bulk, into a fresh schema; then the statistics that a database in use would have."""
    import psycopg

    app, noop = queue()
    with app.open():
        app.schema_manager.apply_schema()
        noop.batch_defer(*({} for _ in range(count)))
    with psycopg.connect(url(), autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")  # else the planner takes a full table for an empty one


def work() -> None:
    """What `procrastinate worker --concurrency 4` does."""
    app, _ = queue()
    app.run_worker(concurrency=4)


if __name__ == "__main__":
    act(enqueue, work)
