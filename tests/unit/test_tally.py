"""What a worker's log says of long tasks: each fact by itself, so that a machine can read it."""

from __future__ import annotations

import io
from typing import Any

import msgspec
import pytest

from shared.log import Log
from shared.protocol import EMPTY_OBJECT, Grant, GrantedCheckpoint, Result
from worker.pace import Pace
from worker.tally import Tally

STARTED_AT = 0.4


def _grant(checkpoint: GrantedCheckpoint | None = None) -> Grant:
    return Grant(7, 2, "lease", 100.0, "prime", EMPTY_OBJECT, None, checkpoint)


@pytest.fixture
def log() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def tally(log: io.StringIO) -> Tally:
    return Tally(Log("worker-1", log), Pace())


def _record(log: io.StringIO) -> dict[str, Any]:
    record: dict[str, Any] = msgspec.json.decode(log.getvalue())
    return record


def test_a_start_tells_type_and_attempt(tally: Tally, log: io.StringIO) -> None:
    tally.started(_grant())

    record = _record(log)
    assert record["message"] == "task 7 attempt 2 started: prime"
    assert (record["event"], record["type"], record["attempt"]) == ("task_started", "prime", 2)


def test_a_resumption_tells_from_where(tally: Tally, log: io.StringIO) -> None:
    tally.started(_grant(GrantedCheckpoint(3, EMPTY_OBJECT, STARTED_AT, 12.0, 0)))

    record = _record(log)
    assert record["message"] == "task 7 attempt 2 started: prime, resumed at 40%"
    assert (record["event"], record["progress"]) == ("task_resumed", STARTED_AT)


def test_an_end_tells_its_outcome(tally: Tally, log: io.StringIO) -> None:
    result = Result(task_id=7, attempt=2, lease_id="lease", outcome="completed", elapsed_seconds=61.5)

    tally.ended([(_grant(), result)])

    record = _record(log)
    assert record["message"] == "task 7 attempt 2 completed after 61.50 s"
    assert (record["event"], record["outcome"], record["seconds"]) == ("task_ended", "completed", 61.5)


def test_a_failure_tells_its_reason(tally: Tally, log: io.StringIO) -> None:
    error = msgspec.Raw(b'{"type": "ValueError", "message": "no luck"}')
    result = Result(task_id=7, attempt=2, lease_id="lease", outcome="failed", error=error, elapsed_seconds=61.5)

    tally.ended([(_grant(), result)])

    record = _record(log)
    assert record["message"] == "task 7 attempt 2 failed after 61.50 s: ValueError: no luck"
    assert (record["event"], record["reason"]) == ("task_went_wrong", "ValueError: no luck")


def test_short_tasks_are_only_counted(tally: Tally, log: io.StringIO) -> None:
    short = Result(task_id=7, attempt=2, lease_id="lease", outcome="completed", elapsed_seconds=0.01)

    tally.ended([(_grant(), short)] * 3)
    assert log.getvalue() == ""
    tally.report(now=100.0)

    assert _record(log)["message"] == "3 short task(s) ended: 3 completed"


def test_a_short_failure_tells_its_reason_but_not_a_hundred_times(tally: Tally, log: io.StringIO) -> None:
    error = msgspec.Raw(b'{"type": "ValueError", "message": "no luck"}')
    short = Result(task_id=7, attempt=2, lease_id="lease", outcome="failed", error=error, elapsed_seconds=0.01)

    for _ in range(100):
        tally.ended([(_grant(), short)])
        tally.report(now=100.2)
    tally.report(now=101.3)
    tally.ended([(_grant(), short)])

    records = [msgspec.json.decode(line) for line in log.getvalue().splitlines()]
    lines = [record["message"] for record in records if record["event"] == "task_went_wrong"]
    summed_up = sum(record["count"] for record in records if record["event"] == "tasks_ended")
    assert set(lines) == {"task 7 attempt 2 failed after 0.01 s: ValueError: no luck"}
    assert len(lines) < 15
    assert len(lines) + summed_up == 101
