"""System tests run real processes, on free ports with a data folder of their own, and look at the
database's invariants when all have stopped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from analysis.cluster import Cluster, cluster
from tests.support.stores import Store


@pytest.fixture
def baton(store: Store, tmp_path: Path) -> Iterator[Cluster]:
    """A running dispatcher; workers are the test's own, and know `paced_chain`."""
    with cluster(tmp_path, DATABASE_URL=store.url, TASK_MODULES="analysis.paced_task") as running:
        yield running
    store.check()
