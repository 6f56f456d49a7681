"""The parts of the experiments that need no process: answers, the proxy, what was lost, figures."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from analysis import (
    ledger_alone,
    results,
)
from analysis.batch import Attempt, Save, TaskRun
from analysis.cut_proxy import lines
from analysis.figures import Figure, Limit
from analysis.recovery import _losses
from analysis.workload import PACED_ROUNDS, Workload, count_primes, digests
from tests.system.support import digest

MACHINE: dict[str, Any] = {"processor": "a test", "cores": 2, "usable_cores": 2}


# --- answers


# The On-Line Encyclopedia of Integer Sequences, A006880, and small cases around squares.
@pytest.mark.parametrize(
    ("limit", "count"),
    [(0, 0), (1, 0), (2, 1), (3, 2), (4, 2), (24, 9), (25, 9), (100, 25), (1_000_003, 78_499), (10**8, 5_761_455)],
)
def test_primes_are_counted_right(limit: int, count: int) -> None:
    assert count_primes(limit) == count


def test_chains_of_several_lengths_are_hashed_in_one_go() -> None:
    assert digests([5, 0, 3]) == {n: digest(n, "baton") for n in (0, 3, 5)}


def test_a_right_answer_is_found_right_and_a_wrong_one_wrong() -> None:
    workload = Workload("hash_chain", 100, 1)
    (payload,) = workload.payloads
    view = {"task_id": 7, "status": "completed", "result": {"digest": digest(100, "baton")}}

    assert workload.wrong(payload, view) is None
    assert "task 7 answered" in str(workload.wrong(payload, view | {"result": {"digest": "00"}}))
    assert "task 7 is failed: boom" in str(
        workload.wrong(payload, {"task_id": 7, "status": "failed", "error": {"message": "boom"}})
    )


def test_the_sizes_of_a_workload_spread_evenly_and_never_change() -> None:
    workload = Workload("paced", 2.0, 5, spread=0.4)

    assert sorted(workload.weights) == pytest.approx([1.2, 1.6, 2.0, 2.4, 2.8])
    assert sum(p["rounds"] for p in workload.payloads) == 10 * PACED_ROUNDS
    assert workload.payloads == Workload("paced", 2.0, 5, spread=0.4).payloads


@pytest.mark.parametrize("text", ["", "1,x", "-1", "0"])
def test_a_bad_list_of_numbers_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match="whole numbers of 1 or more"):
        results.numbers(text, 1)


def test_a_list_of_numbers_names_each_once() -> None:
    assert results.numbers("1, 2,2,8", 1) == [1, 2, 8]


# --- the proxy


def test_a_line_passes_on_until_it_is_cut_and_then_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, lines(["a"], server.getsockname()[1]) as made:
        near = socket.create_connection(("127.0.0.1", made["a"].port))
        far, _ = server.accept()
        near.sendall(b"ping")
        assert far.recv(10) == b"ping"
        far.sendall(b"pong")
        assert near.recv(10) == b"pong"

        made["a"].cut()
        far.sendall(b"unheard")
        near.settimeout(0.1)

        with pytest.raises(TimeoutError):
            near.recv(10)
        near.close()
        far.close()


# --- what was lost


def test_work_is_redone_from_the_checkpoint_that_the_next_attempt_began_with() -> None:
    lost = Attempt(1, "worker-1", "reclaimed", 1.0, 6.5, None, None, 0.1)
    after = Attempt(2, "worker-2", "completed", 7.0, 9.0, None, 2, None)
    task = TaskRun(9, [lost, after], [Save(1, 1, 2.1, 1.0), Save(1, 2, 3.1, 2.0)])

    (loss,) = _losses(task, ["worker-1"], harmed_at=3.75)

    assert loss.detected_seconds == pytest.approx(2.75)
    assert loss.resumed_seconds == pytest.approx(3.25)
    assert loss.redone_seconds == pytest.approx(0.75)  # computed from 1.0 to 3.75, of which 2.0 s were saved


def test_a_task_released_politely_lost_what_its_worker_says() -> None:
    released = Attempt(1, "worker-1", "released", 1.0, 2.0, 1.0, None, 0.01)
    task = TaskRun(9, [released, Attempt(2, "worker-2", "completed", 2.1, 3.0, None, 1, None)])

    (loss,) = _losses(task, ["worker-1"], harmed_at=1.95)

    assert loss.redone_seconds == pytest.approx(0.01)


def test_attempts_of_workers_that_stayed_are_no_losses() -> None:
    task = TaskRun(9, [Attempt(1, "worker-2", "completed", 1.0, 2.0, 1.0, None, None)])

    assert list(_losses(task, ["worker-1"], harmed_at=1.5)) == []


# --- figures


def test_a_figure_is_shown_as_a_multiple_of_its_limit() -> None:
    figure = Figure("drain", 45_000.0, "tasks/s", "≥ 60,000", Limit("the ledger alone", 90_000.0))

    assert (figure.shown, figure.limit_shown, figure.ratio) == ("45,000", "90,000 (the ledger alone)", "0.50")
    assert figure._replace(limit=None).ratio == figure._replace(limit=None).limit_shown == ""


def test_the_ledger_alone_submits_and_drains() -> None:
    rates = ledger_alone.measure(batches=1)

    assert min(rates.submitted, rates.drained) > 0
