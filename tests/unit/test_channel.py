"""Frames between a worker and its child, names of a crew, and how failures are told."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from shared.protocol import ERROR_BYTES_MAX, Grant, Result
from tasks.board import StopReason
from tasks.context import Fail, Interrupted, Retry
from tests.support.messages import completed
from worker.channel import RESULT, WORK, Channel, Gone
from worker.crew import names
from worker.failure import death, error_body, failure_of

Ends = tuple[Channel, Channel]


@pytest.fixture
def ends() -> Iterator[Ends]:
    read_work, send_work = os.pipe()
    read_results, send_results = os.pipe()
    for end in (read_results, send_work):
        os.set_blocking(end, False)
    worker, child = Channel(read_results, send_work), Channel(read_work, send_results)
    yield worker, child
    for end in (worker, child):
        with contextlib.suppress(OSError):
            end.close()


def _leave(end: Channel) -> None:
    end.close()
    end.reads = end.writes = -1


def test_frames_arrive_whole_and_in_order(ends: Ends) -> None:
    worker, child = ends

    child.send(RESULT, b"one")
    child.send(RESULT, b"")

    assert worker.receive() == [(RESULT, b"one"), (RESULT, b"")]
    assert worker.receive() is None


def test_a_frame_larger_than_the_pipe_goes_in_parts(ends: Ends) -> None:
    worker, child = ends
    body = bytes(range(256)) * 8000

    worker.post(WORK, body)
    frames: list[tuple[bytes, bytes]] = []
    full_at_first = worker.is_full
    while not frames:
        frames = child.receive() or []
        worker.flush()

    assert full_at_first
    assert frames == [(WORK, body)]
    assert not worker.is_full


def test_the_end_is_told_after_the_last_frame(ends: Ends) -> None:
    worker, child = ends
    child.send(RESULT, b"last")
    os.write(child.writes, b"half a head")
    _leave(child)

    assert worker.receive() == [(RESULT, b"last")]
    with pytest.raises(Gone):
        worker.receive()


def test_what_has_not_gone_is_forgotten_when_the_channel_closes(ends: Ends) -> None:
    worker, _ = ends
    worker.post(WORK, bytes(10**6))
    full_before = worker.is_full

    _leave(worker)
    worker.flush()  # its descriptors may be somebody else's by now

    assert full_before
    assert not worker.is_full


def test_posting_to_one_who_is_gone_is_no_error(ends: Ends) -> None:
    worker, child = ends
    _leave(child)

    worker.post(WORK, b"x")

    assert not worker.is_full
    with pytest.raises(Gone):
        worker.receive()


@pytest.mark.parametrize(
    ("first", "count", "expected"),
    [
        ("worker-1", 3, ["worker-1", "worker-2", "worker-3"]),
        ("worker-09", 2, ["worker-09", "worker-10"]),
        ("lab", 2, ["lab-1", "lab-2"]),
        ("7", 2, ["7", "8"]),
    ],
)
def test_a_crew_is_named_after_its_first(first: str, count: int, expected: list[str]) -> None:
    assert names(first, count) == expected


def ending(error: BaseException, reason: StopReason = StopReason.NONE) -> tuple[Result, dict[str, Any]]:
    grant = Grant(1, 1, "lease", 100.0, "trial", timeout_seconds=2.5)
    result = completed(grant, None)
    failure_of(error, reason, grant, None, result)
    return result, msgspec.json.decode(result.error) or {}


def raise_deep(error: Exception, frames: int = 2) -> None:
    """As a task does, below the frames of the child that runs it."""
    if frames:
        raise_deep(error, frames - 1)
    raise error


def test_an_exception_is_a_failure_that_may_be_retried() -> None:
    with pytest.raises(ValueError, match="luck") as raised:
        raise_deep(ValueError("no such luck"))

    result, error = ending(raised.value)

    assert (result.outcome, result.retryable) == ("failed", True)
    assert (error["type"], error["message"]) == ("ValueError", "no such luck")
    assert "ValueError: no such luck" in error["traceback"]


def test_a_task_can_refuse_or_time_its_retry() -> None:
    refused, _ = ending(Fail("never"))
    timed, _ = ending(Retry(7, "later"))

    assert (refused.retryable, refused.outcome) == (False, "failed")
    assert (timed.retryable, timed.retry_after_seconds) == (True, 7)


@pytest.mark.parametrize(
    ("reason", "outcome", "kind"),
    [
        (StopReason.DRAIN, "released", None),
        (StopReason.TIMEOUT, "failed", "TimeLimit"),
        (StopReason.NONE, "failed", "Interrupted"),
    ],
)
def test_what_an_interruption_means_depends_on_who_asked(
    reason: StopReason, outcome: str, kind: str | None
) -> None:
    result, error = ending(Interrupted(), reason)

    assert (result.outcome, error.get("type")) == (outcome, kind)


def test_a_failure_during_a_drain_is_still_a_failure() -> None:
    result, _ = ending(ValueError("just then"), StopReason.DRAIN)

    assert result.outcome == "failed"


def test_a_huge_error_is_cut_to_what_may_travel() -> None:
    body = error_body("ValueError", "\x01" * 10**6, "\x02" * 10**6 + "the end")

    error = msgspec.json.decode(body)
    assert len(bytes(body)) <= ERROR_BYTES_MAX
    assert error["message"].startswith("\x01")
    assert error["traceback"].endswith("the end")


def test_an_error_that_utf8_cannot_carry_is_reported_all_the_same() -> None:
    _, error = ending(ValueError("\ud800"))

    assert error["message"] == "?"


def test_an_exception_that_cannot_be_shown_is_reported_all_the_same() -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    result, error = ending(Broken())

    assert result.outcome == "failed"
    assert error["type"] == "Broken"


def test_a_death_by_signal_names_it() -> None:
    error = msgspec.json.decode(death(signal.SIGSEGV, 1024, ["last words"]))

    assert (error["type"], error["signal"], error["peak_rss_bytes"]) == ("Killed", 11, 1024)
    assert error["message"] == "signal 11 (SIGSEGV)"
    assert error["last_log_lines"] == ["last words"]


def test_an_exit_by_its_own_hand_names_the_status() -> None:
    error = msgspec.json.decode(death(3 << 8, 0, []))

    assert (error["type"], error["status"]) == ("Exited", 3)
