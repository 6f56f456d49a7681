"""What measurements share: a row of the table, a cluster that is gone afterwards, times."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from analysis.cluster import Cluster, cluster
from shared.client import DispatcherClient
from shared.protocol import PAGE_MAX


class Limit(NamedTuple):
    """What the same machine did in the same minutes with less to do, or a peer's program, in the same unit."""

    name: str
    value: float


class Figure(NamedTuple):
    """One row: what was measured, the value in its unit, the aim, and what it is compared with in this run."""

    name: str
    value: float
    unit: str
    aim: str
    limit: Limit | None = None

    @property
    def shown(self) -> str:
        """The value with as many digits as it deserves."""
        return _digits(self.value)

    @property
    def limit_shown(self) -> str:
        """The limit and what it is; empty if there is none."""
        return f"{_digits(self.limit.value)} ({self.limit.name})" if self.limit else ""

    @property
    def ratio(self) -> str:
        """Ours as a multiple of the limit; empty if there is none."""
        return f"{self.value / self.limit.value:.2f}" if self.limit and self.limit.value else ""


def _digits(value: float) -> str:
    digits = 0 if abs(value) >= 1000 or value == int(value) else 3 if abs(value) < 10 else 1
    return f"{value:,.{digits}f}"


@contextlib.contextmanager
def fresh_cluster(**settings: str) -> Iterator[Cluster]:
    """A dispatcher in a temporary folder, removed at the end."""
    with tempfile.TemporaryDirectory(prefix="baton-bench-") as folder, cluster(Path(folder), **settings) as baton:
        yield baton


def unix(moment: str) -> float:
    """An ISO time of an answer as Unix seconds."""
    return datetime.fromisoformat(moment).timestamp()


def span(client: DispatcherClient, tasks: int) -> tuple[float, float]:
    """First start and last end of a drained queue, Unix seconds: the first task's and one of the last's."""
    last_pages = range(tasks + 1, max(1, tasks - 4 * PAGE_MAX), -PAGE_MAX)
    ends = [
        task["finished_at"] for page in last_pages for task in client.tasks(after=page, limit=PAGE_MAX)["tasks"]
    ]
    return unix(client.task(1)["started_at"]), unix(max(ends))
