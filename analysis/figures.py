"""What measurements share: a row of the table, a cluster that is gone afterwards, times."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from analysis.cluster import Cluster, cluster


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
