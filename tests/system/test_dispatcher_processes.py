"""Several dispatcher processes behind one port, on one PostgreSQL."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from analysis.cluster import Cluster, cluster
from dispatcher import processes
from shared.log import Log
from shared.settings import Settings
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
def test_ctrl_c_stops_each_of_them_politely(two: Cluster) -> None:
    assert two.dispatcher is not None
    two.wait(lambda: two.log("dispatcher").count('"dispatcher_started"') == 2, "both to serve")

    os.killpg(two.dispatcher.pid, signal.SIGINT)  # a terminal signals the whole group

    assert two.dispatcher.wait(10) == 0
    assert two.log("dispatcher").count('"dispatcher_stopping"') == 2


@ON_POSTGRESQL
def test_all_stop_when_the_parent_is_killed(two: Cluster) -> None:
    children = _processes(two)
    assert two.dispatcher is not None

    two.dispatcher.kill()

    two.wait(lambda: not any(child.is_running() for child in children), "the children to stop")


@pytest.fixture
def signals() -> Iterator[None]:
    """Puts back what answers a signal."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


LIVES, DIES = ["sleep", "10"], ["true"]


@pytest.mark.parametrize(("commands", "during"), [([LIVES, LIVES], 1), ([LIVES, DIES, LIVES], 3)])
def test_a_signal_while_a_process_is_started_stops_all(
    signals: None, commands: list[list[str]], during: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    popen, started = subprocess.Popen, []

    def start(*arguments: Any, **options: Any) -> Any:
        started.append(popen(commands[len(started)]))
        if len(started) == during:
            signal.raise_signal(signal.SIGTERM)
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(processes, "RESTART_SECONDS", 0)

    settings = Settings(dispatcher_processes=2, dispatcher_port=0, data_dir=str(tmp_path))
    processes.run(settings, Log("dispatcher"))

    alive = [process.returncode for process, command in zip(started, commands, strict=True) if command is LIVES]
    assert alive == [-signal.SIGTERM] * 2
