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


class Figure(NamedTuple):
    """One row: what was measured, the value in its unit, and the aim it is held against."""

    name: str
    value: float
    unit: str
    aim: str

    @property
    def shown(self) -> str:
        """The value with as many digits as it deserves."""
        digits = (
            0 if abs(self.value) >= 1000 or self.value == int(self.value) else 3 if abs(self.value) < 10 else 1
        )
        return f"{self.value:,.{digits}f}"


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
