"""The benchmark on PostgreSQL: one dispatcher, two that share it, large tables, an old transaction.

The server comes from the wheel, with fsync and synchronous_commit on, on this machine's own disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg

from analysis import load
from analysis.bench_scale import claim_times, dispatch_waits, fill, percentile
from analysis.cluster import Cluster
from analysis.figures import Figure, span
from analysis.peers.servers import postgresql as server
from analysis.peers.venv import postgres_folder
from shared.client import DispatcherClient
from shared.protocol import Submission
from shared.settings import ROOT

DRAINED = 20_000
BULK = 200_000
MANY = int(os.environ.get("BENCH_LARGE_POSTGRESQL", "1000000"))  # pending, and as many finished
OLD_SECONDS = float(os.environ.get("BENCH_OLD_SECONDS", "60"))  # that another connection keeps a transaction open
RATE = 200  # tasks a second meanwhile


@contextlib.contextmanager
def clusters(count: int, **settings: str) -> Iterator[tuple[list[Cluster], str]]:
    """So many dispatchers on one empty database, and its URL."""
    with tempfile.TemporaryDirectory(prefix="baton-bench-") as folder, contextlib.ExitStack() as stack:
        place = Path(folder) / "server"
        place.mkdir()
        url = stack.enter_context(server(place, postgres_folder(ROOT / ".venv"), "shared_buffers=256MB"))
        made = [Cluster(Path(folder) / f"d{n}", DATABASE_URL=url, **settings) for n in range(count)]
        try:
            for baton in made:
                baton.start_dispatcher()
            yield made, url
        finally:
            for baton in made:
                baton.stop()


def postgresql() -> Iterator[Figure]:
    """Submit and drain through one dispatcher, then through two; latency across two."""
    with clusters(1) as ((baton,), _):
        began = time.perf_counter()
        baton.client.submit_many([Submission("noop")] * BULK)
        rate = BULK / (time.perf_counter() - began)
        yield Figure(f"PostgreSQL: bulk submit of {BULK:,}", rate, "tasks/s", "≥ 40,000")
    one = _drain(1)
    yield Figure(f"PostgreSQL: drain {DRAINED:,} noops, 2 workers", one, "tasks/s", "≥ 15,000")
    two = _drain(2)
    yield Figure("PostgreSQL: the same through two dispatchers", two, "tasks/s", f"≥ {one:,.0f}")
    waits = _latencies()
    yield Figure("PostgreSQL: dispatch latency across two, p50", percentile(waits, 0.5) * 1e3, "ms", "≤ 4")
    yield Figure("PostgreSQL: dispatch latency across two, p99", percentile(waits, 0.99) * 1e3, "ms", "")


def postgresql_growth() -> Iterator[Figure]:
    """Claims with a million tasks pending and a million finished, and beside an old transaction."""
    with clusters(1) as ((baton,), url):
        fill(baton.client, MANY)
        asyncio.run(load.drain(baton.port, 1000))
        fill(baton.client, MANY)
        times = claim_times(baton.client)
        name = f"PostgreSQL: claim p99, {MANY:,} pending and finished"
        yield Figure(name, percentile(times, 0.99) * 1e3, "ms", "≤ 50")
    with clusters(1) as ((baton,), url), psycopg.connect(url) as old:
        old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT 1")  # from here on it sees, and so keeps, everything as it is
        times = _busy(baton, OLD_SECONDS)
        name = f"PostgreSQL: claim p99 beside a transaction of {OLD_SECONDS:g} s"
        yield Figure(name, percentile(times, 0.99) * 1e3, "ms", "≤ 50")
        tail = times[-len(times) // 10 :]
        yield Figure("PostgreSQL: the same in its last tenth", percentile(tail, 0.99) * 1e3, "ms", "≤ 50")


def _drain(dispatchers: int) -> float:
    """Tasks a second from the first claim to the last commit."""
    with clusters(dispatchers) as (batons, _):
        first = batons[0]
        first.client.submit_many([Submission("noop")] * DRAINED)
        for n, name in enumerate(("worker-1", "worker-2")):
            batons[n % dispatchers].start_worker(name, wait=False)
        first.wait(lambda: first.client.stats()["tasks"]["completed"] == DRAINED, "the queue to drain", 120)
        began, ended = span(first.client, DRAINED)
        return DRAINED / (ended - began)


def _latencies() -> list[float]:
    """Submitted to one dispatcher, run by a worker that waits at the other."""
    with clusters(2, TASK_MODULES="analysis/stamp_task.py") as ((near, far), _):
        far.start_worker("worker-1")
        return dispatch_waits(near.client, far.client, 200)


def _busy(baton: Cluster, seconds: float) -> list[float]:
    """Tasks come and are claimed and completed one by one; returns what each claim took."""
    stop = threading.Event()

    def submit() -> None:
        client = DispatcherClient(baton.url)
        while not stop.wait(0.1):
            client.submit_many([Submission("noop")] * (RATE // 10))
        client.close()

    submitter = threading.Thread(target=submit)
    submitter.start()
    try:
        return asyncio.run(load.serve(baton.port, seconds))
    finally:
        stop.set()
        submitter.join()
