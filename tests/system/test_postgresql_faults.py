"""Several dispatchers on one PostgreSQL while everything is killed: nothing is lost, and it goes on."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from analysis.cluster import Cluster
from shared import errors
from shared.client import DispatcherClient
from shared.protocol import Submission
from tests.support.postgres_server import PostgresServer, postgres_server
from tests.support.stores import check_server
from tests.support.waiting import wait_until
from tests.system.support import digest, ended, running, submit

KILLS, RESTARTS, TERMINATED = 30, 5, 100
WORKERS = 8
ROUNDS = 60_000  # some thirty milliseconds of hashing
SEEDS = [f"seed {number}" for number in range(10)]
BATCH = 10
HARM_SECONDS = 60.0  # it takes half of that
QUIET_SECONDS = 30.0  # all workers poll again within this after the last harm


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    with postgres_server() as made:
        yield made
        check_server(made.url)


class Pool:
    """Dispatchers on one server; one that ends is started again, as an init system would."""

    def __init__(self, folder: Path, url: str, count: int, **settings: str) -> None:
        self.members = [Cluster(folder / str(number), DATABASE_URL=url, **settings) for number in range(count)]
        self.urls = ",".join(member.url for member in self.members)
        self.client = DispatcherClient(self.urls.split(","), patience_seconds=30)
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._keeper = threading.Thread(target=self._keep, daemon=True)

    def start(self) -> None:
        for member in self.members:
            member.start_dispatcher()
        self._keeper.start()

    def start_workers(self, count: int) -> None:
        for number in range(count):
            self.members[0].start_worker(f"worker-{number}", "--url", self.urls, wait=False)

    def kill(self, number: int) -> None:
        with self._lock:
            dispatcher = self.members[number].dispatcher
            assert dispatcher is not None
            dispatcher.kill()

    def stop(self) -> None:
        self._stopping.set()
        if self._keeper.is_alive():
            self._keeper.join()
        for member in reversed(self.members):  # workers are with the first
            member.stop()
        self.client.close()

    def logs(self) -> str:
        names = ["dispatcher", *self.members[0].workers]
        return "\n".join(m.log(n) for m in self.members for n in names if (m.folder / f"{n}.log").exists())

    def _keep(self) -> None:
        while not self._stopping.wait(0.1):
            with self._lock:
                for member in self.members:
                    if member.dispatcher is not None and member.dispatcher.poll() is not None:
                        member.launch_dispatcher()


@contextlib.contextmanager
def pool(folder: Path, url: str, count: int, **settings: str) -> Iterator[Pool]:
    made = Pool(folder, url, count, **settings)
    try:
        made.start()
        yield made
    finally:
        made.stop()


class Submitter:
    """A client that submits all the time and remembers what it was told."""

    def __init__(self, urls: str) -> None:
        self.acknowledged: dict[int, str] = {}  # the seed of each task
        self.unknown = 0  # batches whose answer never came
        self.refusals: list[errors.BatonError] = []
        self._client = DispatcherClient(urls.split(","))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def finish(self) -> None:
        self._stop.set()
        self._thread.join()
        self._client.close()

    def _run(self) -> None:
        for seed in itertools.cycle(SEEDS):
            if self._stop.wait(0.15):
                return
            payload = msgspec.Raw(msgspec.json.encode({"rounds": ROUNDS, "seed": seed}))
            try:
                answer = self._client.submit_many([Submission("hash_chain", payload=payload)] * BATCH)
                self.acknowledged |= dict.fromkeys(answer["task_ids"], seed)
            except errors.BatonError as error:
                self.refusals.append(error)
                if isinstance(error, errors.Unconfirmed) or error.details.get("sent"):
                    self.unknown += 1


def terminate_some(url: str, count: int) -> int:
    """Ends so many of the server's processes that serve dispatchers; returns how many there were."""
    try:
        with psycopg.connect(url, autocommit=True, connect_timeout=3) as connection:
            return connection.execute(
                "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity "
                "WHERE application_name = 'baton' ORDER BY random() LIMIT %s) chosen",
                (count,),
            ).rowcount
    except psycopg.OperationalError:
        return 0  # it is away just now


def harm(dispatchers: Pool, server: PostgresServer) -> tuple[int, int, int]:
    """Everything at once, for as long as it takes; returns how often each."""
    kills = restarts = terminated = 0
    pause = threading.Event()
    until = time.monotonic() + HARM_SECONDS
    while (kills < KILLS or restarts < RESTARTS or terminated < TERMINATED) and time.monotonic() < until:
        if kills < KILLS:
            dispatchers.kill(kills % len(dispatchers.members))
            kills += 1
        terminated += terminate_some(server.url, 5)
        if kills % (KILLS // RESTARTS) == 0 and restarts < RESTARTS:
            server.stop_at_once()
            pause.wait(random.uniform(0, 0.5))
            server.start()
            restarts += 1
        pause.wait(random.uniform(0.5, 0.9))
    return kills, restarts, terminated


def test_nothing_is_lost_and_nothing_is_recorded_twice_whatever_is_killed(
    tmp_path: Path, server: PostgresServer
) -> None:
    with pool(tmp_path, server.url, 3) as dispatchers:
        dispatchers.start_workers(WORKERS)
        submitter = Submitter(dispatchers.urls)
        wait_until(lambda: _alive(dispatchers) == WORKERS, "all workers to come", 60)

        done = harm(dispatchers, server)
        quiet_from = time.monotonic()
        submitter.finish()
        wait_until(lambda: _alive(dispatchers) == WORKERS, "all workers to poll again", QUIET_SECONDS)
        back_after = time.monotonic() - quiet_from
        wait_until(lambda: _open(dispatchers) == 0, "every task to end", 60)
        logs = dispatchers.logs()

    assert done >= (KILLS, RESTARTS, TERMINATED)
    assert back_after < QUIET_SECONDS
    with psycopg.connect(server.url) as connection:
        rows = connection.execute(
            "SELECT t.task_id, t.status, r.result FROM tasks t LEFT JOIN task_results r USING (task_id)"
        ).fetchall()
    assert {task_id for task_id, *_ in rows} >= submitter.acknowledged.keys()
    assert len(rows) <= len(submitter.acknowledged) + BATCH * submitter.unknown
    assert {status for _, status, _ in rows} == {"completed"}
    right = {seed: digest(ROUNDS, seed) for seed in SEEDS}
    answers = {task_id: msgspec.json.decode(result)["digest"] for task_id, _, result in rows}
    assert [i for i, seed in submitter.acknowledged.items() if answers[i] != right[seed]] == []
    assert len(submitter.acknowledged) > 200
    assert {type(error).__name__ for error in submitter.refusals} <= KNOWN
    told = [str(error) for error in submitter.refusals]
    assert [text for text in (*told, *logs.splitlines()) if "deadlock" in text or "serializ" in text] == []
    assert [line for line in logs.splitlines() if '"internal_error"' in line] == []


KNOWN = {"Unreachable", "DatabaseUnavailable", "Busy", "Unconfirmed"}


def _alive(dispatchers: Pool) -> int:
    return sum(
        worker["state"] == "alive" and worker["seconds_since_heartbeat"] < 2
        for worker in dispatchers.client.workers()
    )


def _open(dispatchers: Pool) -> int:
    tasks: dict[str, int] = dispatchers.client.stats()["tasks"]
    return tasks["total"] - tasks["completed"] - tasks["failed"] - tasks["cancelled"]


# --- one that does not answer


def test_a_frozen_dispatcher_costs_no_execution_while_another_is_well(
    tmp_path: Path, server: PostgresServer
) -> None:
    with pool(tmp_path, server.url, 2, HEARTBEAT_TIMEOUT_SECONDS="6") as dispatchers:
        frozen, well = dispatchers.members
        dispatchers.start_workers(4)
        wait_until(lambda: _alive(dispatchers) == 4, "all workers to come", 20)
        tasks = submit(well, "sleep", count=4, seconds=9)
        for task_id in tasks:  # as their workers say: a grant that is still on its way would be lost
            running(well, task_id)

        assert frozen.dispatcher is not None
        os.kill(frozen.dispatcher.pid, signal.SIGSTOP)
        well.start_worker("idle")
        ends = [ended(well, task_id) for task_id in tasks]
        os.kill(frozen.dispatcher.pid, signal.SIGCONT)

    assert [(task["status"], task["attempt"]) for task in ends] == [("completed", 1)] * 4


# --- one that is cut off from its database


def ready(baton: Cluster) -> tuple[int, dict[str, Any]]:
    """What /ready answers, whatever it is."""
    try:
        return 200, DispatcherClient(baton.url).ready()
    except errors.BatonError as error:
        return error.http_status, error.details


@pytest.mark.parametrize("way", ["stopped", "frozen"])
def test_a_dispatcher_cut_off_from_its_database_recovers_without_a_restart(
    tmp_path: Path, server: PostgresServer, way: str
) -> None:
    with pool(tmp_path, server.url, 1) as dispatchers:
        (baton,) = dispatchers.members
        assert baton.dispatcher is not None
        pid = baton.dispatcher.pid
        worker = baton.start_worker("worker-1")
        (task_id,) = submit(baton, "hash_chain", rounds=8_000_000, seed="cut")

        (server.stop_at_once if way == "stopped" else server.freeze)()
        wait_until(lambda: ready(baton)[0] == 503, "/ready to say so", 10)
        wait_until(lambda: "dispatcher_away" in baton.log("worker-1"), "the worker to try on", 20)
        still = ready(baton)[0]
        (server.start if way == "stopped" else server.thaw)()
        wait_until(lambda: ready(baton)[0] == 200, "/ready to recover", 15)
        task = ended(baton, task_id, 60)

        assert still == 503
        assert task["result"]["digest"] == digest(8_000_000, "cut")
        assert task["attempt"] == 1
        assert worker.poll() is None
        assert baton.dispatcher.pid == pid


# --- schedules


def test_each_slot_fires_once_while_those_who_fire_are_killed(tmp_path: Path, server: PostgresServer) -> None:
    with pool(tmp_path, server.url, 2) as dispatchers, psycopg.connect(server.url, autocommit=True) as looking:

        def fired() -> list[float]:
            return [at for (at,) in looking.execute("SELECT slot_at FROM schedule_slots ORDER BY slot_at")]

        every_second = {"name": "s", "every_seconds": 1, "missed": "all", "task": {"type": "tick"}}
        dispatchers.client.add_schedule(every_second)
        for number in range(6):
            before = len(fired())
            dispatchers.kill(number % 2)
            wait_until(lambda seen=before: len(fired()) > seen, "another slot to fire", 20)
        dispatchers.client.pause_schedule("s")
        slots = fired()
        outcomes = looking.execute("SELECT DISTINCT outcome FROM schedule_slots").fetchall()
        tasks = looking.execute(
            "SELECT COUNT(*), COUNT(DISTINCT task_id) FROM tasks WHERE type = 'tick'"
        ).fetchone()

    assert outcomes == [("fired",)]
    assert tasks == (len(slots), len(slots))
    assert [round(later - earlier, 3) for earlier, later in itertools.pairwise(slots)] == [1.0] * (len(slots) - 1)
