"""deploy/backup.sh: a copy taken while the dispatcher serves is whole, and can take its place."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count, takewhile
from pathlib import Path
from threading import Event

import pytest

from analysis.cluster import Cluster, cluster
from shared.client import DispatcherClient
from shared.protocol import Submission
from shared.settings import ROOT
from tests.support.invariants import check_invariants
from tests.system.support import ended, outcomes, running, submit

SCRIPT = ROOT / "deploy" / "backup.sh"


@pytest.fixture
def baton(tmp_path: Path) -> Iterator[Cluster]:
    with cluster(tmp_path / "baton") as made:
        yield made


def backup(data: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DATA_DIR": str(data)}
    return subprocess.run([SCRIPT, str(folder)], env=environment, capture_output=True, text=True, timeout=60)


def submit_until(enough: Event, baton: Cluster) -> int:
    """Submit tasks until told that it is enough; returns how many they were."""
    batch = [Submission("noop")] * 10
    looks = takewhile(lambda _: not enough.is_set(), count())
    with contextlib.closing(DispatcherClient(baton.url)) as client:  # a client is of one thread
        return sum(len(client.submit_many(batch)["task_ids"]) for _ in looks)


def test_a_backup_under_load_has_all_that_was_acknowledged_before_it(baton: Cluster, tmp_path: Path) -> None:
    enough = Event()
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(submit_until, enough, baton)
        before = baton.wait(lambda: baton.client.stats()["tasks"]["total"], "the first tasks")
        done = backup(baton.folder / "data", tmp_path / "copies")
        enough.set()
        after = load.result()

    (copy,) = (tmp_path / "copies").iterdir()
    assert done.stdout == f"{copy}\n"
    assert copy.stat().st_mode & 0o777 == 0o600
    served = tmp_path / "other" / "data" / "baton.db"
    served.parent.mkdir(parents=True)
    copy.rename(served)
    with cluster(tmp_path / "other") as other:
        assert before <= other.client.stats()["tasks"]["total"] <= after
    check_invariants(served)


def test_a_worker_keeps_its_task_over_a_restored_backup(baton: Cluster, tmp_path: Path) -> None:
    baton.start_worker("worker-1")
    (task,) = submit(baton, "hash_chain", rounds=8_000_000, seed="a")
    running(baton, task)
    copy = Path(backup(baton.folder / "data", tmp_path / "copies").stdout.strip())
    submit(baton, "noop")

    assert baton.dispatcher is not None
    baton.dispatcher.terminate()
    baton.dispatcher.wait(20)
    for file in baton.database.parent.glob("baton.db*"):
        file.unlink()
    copy.rename(baton.database)
    baton.start_dispatcher()

    assert ended(baton, task)["status"] == "completed"
    assert outcomes(baton, task) == ["completed"]
    assert baton.client.stats()["tasks"]["total"] == 1


def test_backups_may_be_made_at_the_same_time_and_into_folders_of_any_name(tmp_path: Path) -> None:
    odd = tmp_path / "it's 100% #1?"
    with cluster(odd), ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda _: backup(odd / "data", odd / "copies"), range(3)))

    assert [(made.returncode, made.stderr) for made in done] == [(0, "")] * 3
    assert {Path(made.stdout.strip()) for made in done} == set((odd / "copies").iterdir())


def test_where_no_copy_can_be_made_one_line_says_why(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "baton.db").write_bytes(b"no database" * 1000)

    done = backup(data, tmp_path / "copies")

    assert (done.returncode, done.stderr) == (1, "no copy was made: file is not a database\n")
    assert list((tmp_path / "copies").iterdir()) == []


def test_without_a_database_there_is_no_backup(tmp_path: Path) -> None:
    done = backup(tmp_path / "nothing", tmp_path / "copies")

    assert done.returncode == 2
    assert "no SQLite file that exists" in done.stderr
    assert list((tmp_path / "copies").iterdir()) == []
