"""Several dispatcher processes behind one port, on one PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from analysis.cluster import Cluster, cluster
from tests.support.stores import Store
from tests.system.support import submit

ON_POSTGRESQL = pytest.mark.parametrize("store", ["postgresql"], indirect=True)


@pytest.fixture
def two(store: Store, tmp_path: Path) -> Iterator[Cluster]:
    with cluster(tmp_path, DATABASE_URL=store.url, DISPATCHER_PROCESSES="2") as made:
        yield made
    store.check()


def _processes(baton: Cluster) -> list[psutil.Process]:
    assert baton.dispatcher is not None
    return psutil.Process(baton.dispatcher.pid).children()


@ON_POSTGRESQL
def test_both_serve_and_one_of_them_leads(two: Cluster) -> None:
    two.start_worker("worker-1")
    ids = submit(two, "noop", 50)

    two.wait(lambda: two.client.stats()["tasks"]["completed"] == 50, "all to be completed")

    started = [line for line in two.log("dispatcher").splitlines() if "dispatcher_started" in line]
    leads = [line for line in two.log("dispatcher").splitlines() if "monitor_leads" in line]
    assert (len(ids), len(started), len(leads)) == (50, 2, 1)


@ON_POSTGRESQL
def test_one_that_is_killed_is_replaced_and_another_leads(two: Cluster) -> None:
    before = _processes(two)
    before[0].kill()

    two.wait(lambda: [p.pid for p in _processes(two)] != [p.pid for p in before], "another process")
    two.start_worker("worker-1")
    submit(two, "noop", 20)

    two.wait(lambda: two.client.stats()["tasks"]["completed"] == 20, "all to be completed")
    assert "another one starts" in two.log("dispatcher")


@ON_POSTGRESQL
def test_a_signal_to_the_parent_stops_all(two: Cluster) -> None:
    children = _processes(two)
    assert two.dispatcher is not None

    two.dispatcher.terminate()

    assert two.dispatcher.wait(10) == 0
    assert [child.pid for child in children if child.is_running()] == []


@ON_POSTGRESQL
def test_all_stop_when_the_parent_is_killed(two: Cluster) -> None:
    children = _processes(two)
    assert two.dispatcher is not None

    two.dispatcher.kill()

    two.wait(lambda: not any(child.is_running() for child in children), "the children to stop")
