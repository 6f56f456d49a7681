"""The whole path with real processes: submit to result, and every way a worker can leave."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from analysis.cluster import Cluster
from tests.system.support import ended, is_right, outcomes, running, saved, submit, submit_chain


def test_a_submitted_task_comes_back_with_its_result(baton: Cluster) -> None:
    baton.start_worker("worker-1")

    (task_id,) = submit(baton, "prime", limit=1_000_000)

    task = ended(baton, task_id)
    assert task["status"] == "completed"
    assert task["result"]["count"] == 78_498
    assert task["result"]["largest"] == 999_983
    assert (task["progress"], task["attempt"], task["worker"]) == (1.0, 1, "worker-1")


def test_a_task_goes_on_from_its_checkpoint_when_its_worker_is_killed(baton: Cluster) -> None:
    workers = {name: baton.start_worker(name) for name in ("worker-1", "worker-2")}
    (task_id,) = submit_chain(baton)
    saved(baton, task_id)
    first = workers.pop(baton.client.task(task_id)["worker"])

    first.kill()

    task = ended(baton, task_id)
    assert is_right(task)
    assert outcomes(baton, task_id) == ["reclaimed", "completed"]
    attempts = baton.client.attempts(task_id)
    assert attempts[1]["resumed_seq"] >= 1
    assert attempts[1]["worker"] in workers
    assert task["elapsed_seconds"] > attempts[1]["elapsed_seconds"]


def test_a_polite_stop_hands_over_and_loses_nothing(baton: Cluster) -> None:
    workers = {name: baton.start_worker(name) for name in ("worker-1", "worker-2")}
    (task_id,) = submit_chain(baton)
    first = workers[running(baton, task_id)["worker"]]

    first.terminate()

    assert first.wait(10) == 0
    task = ended(baton, task_id)
    attempts = baton.client.attempts(task_id)
    assert is_right(task)
    assert outcomes(baton, task_id) == ["released", "completed"]
    assert (task["releases"], task["crashes"], task["failures"]) == (1, 0, 0)
    assert attempts[0]["lost_seconds"] < 0.5


def test_a_killed_child_costs_its_task_one_crash_and_its_worker_nothing(baton: Cluster) -> None:
    worker = baton.start_worker("worker-1")
    (task_id,) = submit_chain(baton)
    saved(baton, task_id)

    child = _child_of(worker.pid)
    os.kill(child, signal.SIGKILL)

    task = ended(baton, task_id)
    crashed = baton.client.attempts(task_id)[0]
    assert is_right(task)
    assert outcomes(baton, task_id) == ["crashed", "completed"]
    assert crashed["error"]["signal"] == signal.SIGKILL
    assert worker.poll() is None


def test_no_child_outlives_its_worker(baton: Cluster) -> None:
    worker = baton.start_worker("worker-1")
    (task_id,) = submit(baton, "sleep", seconds=600)
    running(baton, task_id)
    child = _child_of(worker.pid)

    worker.kill()
    worker.wait()

    baton.wait(lambda: not _lives(child), "the child to end", 2.0)


def test_a_dispatcher_killed_under_load_loses_nothing_acknowledged(baton: Cluster) -> None:
    baton.start_worker("worker-1")
    baton.start_worker("worker-2")
    acknowledged: list[int] = []
    chains = submit_chain(baton, seconds=8, count=2)
    for task_id in chains:
        saved(baton, task_id)  # a grant whose answer dies with the dispatcher would rightly be reclaimed
    for _ in range(3):
        acknowledged += submit(baton, "noop", count=2000)
        assert baton.dispatcher is not None
        baton.dispatcher.kill()
        baton.dispatcher.wait()
        baton.start_dispatcher()

    tasks = [ended(baton, task_id) for task_id in chains]

    assert all(map(is_right, tasks))
    assert [outcomes(baton, task_id) for task_id in chains] == [["completed"]] * 2, baton.log("dispatcher")
    baton.wait(lambda: baton.client.stats()["tasks"]["completed"] == len(acknowledged) + 2, "all to complete")


def test_a_result_found_while_the_dispatcher_was_down_is_delivered(baton: Cluster) -> None:
    baton.start_worker("worker-1")
    task_id = _finished_alone(baton)

    baton.start_dispatcher()

    task = ended(baton, task_id)
    assert task["status"] == "completed"
    assert outcomes(baton, task_id) == ["completed"]
    baton.wait(lambda: not _kept(baton), "the kept result to be delivered")


def test_a_restarted_worker_delivers_what_its_predecessor_finished(baton: Cluster) -> None:
    worker = baton.start_worker("worker-1")
    task_id = _finished_alone(baton)
    worker.kill()
    worker.wait()

    baton.start_dispatcher()
    baton.start_worker("worker-1")

    task = ended(baton, task_id)
    assert task["status"] == "completed"
    assert outcomes(baton, task_id) == ["completed"]


def test_a_frozen_worker_that_wakes_changes_nothing(baton: Cluster) -> None:
    frozen = baton.start_worker("worker-1")
    (task_id,) = submit(baton, "sleep", seconds=3)
    running(baton, task_id)
    frozen.send_signal(signal.SIGSTOP)
    os.kill(_child_of(frozen.pid), signal.SIGSTOP)
    baton.start_worker("worker-2")
    baton.wait(lambda: baton.client.task(task_id)["worker"] == "worker-2", "worker-2 to take over")

    os.kill(_child_of(frozen.pid), signal.SIGCONT)
    frozen.send_signal(signal.SIGCONT)

    task = ended(baton, task_id)
    assert (task["status"], task["worker"]) == ("completed", "worker-2")
    assert outcomes(baton, task_id) == ["reclaimed", "completed"]
    assert frozen.poll() is None


def test_a_worker_cut_off_for_a_moment_keeps_its_task(baton: Cluster) -> None:
    worker = baton.start_worker("worker-1")
    (task_id,) = submit(baton, "sleep", seconds=5)
    running(baton, task_id)
    worker.send_signal(signal.SIGSTOP)  # its child works on
    baton.wait(lambda: baton.client.task(task_id)["status"] == "pending", "the task to be reclaimed")

    worker.send_signal(signal.SIGCONT)

    task = ended(baton, task_id)
    assert (task["status"], task["attempt"], task["crashes"]) == ("completed", 1, 0)
    assert outcomes(baton, task_id) == ["completed"]


def test_a_cancelled_task_stops_within_a_heartbeat_and_can_be_revived(baton: Cluster) -> None:
    baton.start_worker("worker-1")
    (task_id,) = submit(baton, "sleep", seconds=600)
    running(baton, task_id)

    baton.client.cancel(task_id)

    baton.wait(lambda: "cancelled, stopped" in baton.log("worker-1"), "the worker to stop it", 5.0)
    (after,) = submit(baton, "noop")
    assert ended(baton, after)["status"] == "completed"
    assert baton.client.task(task_id)["status"] == "cancelled"


def test_a_task_that_overruns_its_time_limit_fails(baton: Cluster) -> None:
    baton.start_worker("worker-1")
    limited = {"type": "sleep", "payload": {"seconds": 600}, "timeout_seconds": 0.5, "max_retries": 0}

    task_id = _submit_raw(baton, limited)

    task = ended(baton, task_id)
    assert (task["status"], task["failures"]) == ("failed", 1)
    assert task["error"]["type"] == "TimeLimit"
    assert task["elapsed_seconds"] is None or task["elapsed_seconds"] < 5


def test_a_wrong_payload_fails_at_once_and_names_the_argument(baton: Cluster) -> None:
    baton.start_worker("worker-1")

    (task_id,) = submit(baton, "prime", limits=5)

    task = ended(baton, task_id)
    assert (task["status"], task["failures"]) == ("failed", 1)
    assert "limit" in task["error"]["message"]


def test_burst_ends_when_nothing_is_left(baton: Cluster) -> None:
    ids = submit(baton, "noop", count=50)

    worker = baton.start_worker("worker-1", "--burst", wait=False)

    assert worker.wait(20) == 0
    assert {baton.client.task(task_id)["status"] for task_id in ids} == {"completed"}


def test_a_stopping_dispatcher_answers_parked_requests_and_is_gone_in_time(baton: Cluster) -> None:
    baton.start_worker("worker-1")
    baton.start_worker("worker-2")
    assert baton.dispatcher is not None
    began = time.monotonic()

    baton.dispatcher.terminate()

    assert baton.dispatcher.wait(5) == 0
    assert time.monotonic() - began < 5
    baton.start_dispatcher()
    (task_id,) = submit(baton, "noop")
    assert ended(baton, task_id)["status"] == "completed"


def test_a_list_of_primes_arrives_whole_although_its_worker_was_killed(baton: Cluster) -> None:
    first = baton.start_worker("worker-1")
    (task_id,) = submit(baton, "prime", limit=40_000_000, output="list")
    saved(baton, task_id)

    first.kill()
    baton.start_worker("worker-2")

    task = ended(baton, task_id)
    primes = [prime for chunk in baton.client.output(task_id) for prime in chunk]
    assert len(primes) == task["result"]["count"] == 2_433_654
    assert primes == sorted(set(primes))


def _submit_raw(baton: Cluster, submission: dict[str, object]) -> int:
    import requests

    answer = requests.post(f"{baton.url}/tasks", json=submission, timeout=10)
    task_id: int = answer.json()["task_id"]
    return task_id


def _child_of(pid: int) -> int:
    """The task process of a worker with one slot."""
    import psutil

    children = psutil.Process(pid).children()
    (child,) = [c.pid for c in children if "worker.child" in c.cmdline()]
    return child


def _lives(pid: int) -> bool:
    import psutil

    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def _finished_alone(baton: Cluster) -> int:
    """A task that its worker finished while the dispatcher was down."""
    (task_id,) = submit(baton, "sleep", seconds=1.5)
    running(baton, task_id)
    assert baton.dispatcher is not None
    baton.dispatcher.kill()
    baton.dispatcher.wait()
    baton.wait(lambda: _kept(baton), "the result to be kept on disk")
    return task_id


def _kept(baton: Cluster) -> list[Path]:
    """Files of results that wait on disk."""
    outbox = baton.folder / "data" / "outbox"
    return [file for file in outbox.rglob("*") if file.is_file() and file.suffix in (".json", ".jsonl")]
