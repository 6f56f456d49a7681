"""What must be right about a message beyond its types: sizes, depths, ranges, times.

A client's mistake raises, naming the field. A worker's bad item is refused by itself, so that the
rest of its message stands; those checks return the error, or None.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import chain
from typing import NamedTuple

import msgspec

from dispatcher.views import tellable
from shared import errors
from shared.payload import check_payload
from shared.protocol import (
    BODY_BYTES_MAX,
    ERROR_BYTES_MAX,
    MESSAGE_CHARS_MAX,
    NULL,
    AttemptLog,
    Checkpoint,
    CheckpointBody,
    Exchange,
    Holding,
    Result,
    Submission,
)

_EMPTY = b"{}"
YEARS_10 = 10 * 365 * 86400.0
_SECONDS_MAX = 1e10  # of work in one report: over three hundred years is a broken clock


class Times(NamedTuple):
    """When a submission is to run and until when it may start: Unix seconds; None: at once, for ever."""

    run_at: float | None
    deadline_at: float | None


_ANY_TIME = Times(None, None)


def submissions(given: Sequence[Submission], now: float, batch: bool) -> list[Times]:
    """Check each submission; returns its times."""
    times: list[Times] = []
    for index, submission in enumerate(given):
        body = bytes(submission.payload)
        if body != _EMPTY:
            check_payload(submission.payload, f"tasks[{index}].payload" if batch else "payload")
        if submission.delay_seconds is None and submission.run_at is None and submission.deadline is None:
            times.append(_ANY_TIME)
        else:
            where = f"tasks[{index}]." if batch else ""
            times.append(Times(_run_at(submission, now, where), _deadline_at(submission, now, where)))
    return times


def _run_at(submission: Submission, now: float, where: str) -> float | None:
    if submission.run_at is None:
        return None if submission.delay_seconds is None else now + submission.delay_seconds
    if submission.delay_seconds is not None:
        raise errors.Invalid(
            f"{where}run_at and {where}delay_seconds are both set; give one", field=f"{where}run_at"
        )
    seconds = moment(submission.run_at, f"{where}run_at")
    if seconds > now + YEARS_10:
        raise errors.Invalid(f"{where}run_at is more than ten years ahead", field=f"{where}run_at")
    return seconds


def _deadline_at(submission: Submission, now: float, where: str) -> float | None:
    return None if submission.deadline is None else moment(submission.deadline, f"{where}deadline")


def moment(text: str, field: str) -> float:
    """ISO 8601 with a zone as Unix seconds, within what can be told in UTC; raises Invalid."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise errors.Invalid(
            f"{field} is {text!r}; expected ISO 8601 with a zone, for example 2026-01-31T12:00:00Z", field=field
        )
    return tellable(moment.timestamp())


def worker_message(message: Exchange) -> None:
    """Cut what may be cut, and forget progress that makes no sense: neither is worth a refusal."""
    items: Iterable[Holding | Checkpoint | AttemptLog | Result]
    items = chain(message.holding or (), message.checkpoints, message.logs, message.results)
    for item in items:
        if "\0" in item.lease_id:
            item.lease_id = findable(item.lease_id)
    for entry in message.holding or ():
        if entry.message is not None:
            entry.message = text(entry.message, MESSAGE_CHARS_MAX)
        if entry.progress is not None and not 0 <= entry.progress <= 1:
            entry.progress = None


def findable(name: str) -> str:
    """A name to look for: none has a NUL, which PostgreSQL cannot even look for."""
    return name.replace("\0", "\N{REPLACEMENT CHARACTER}")


def text(words: str, limit: int) -> str:
    """What of a worker's words is kept: so many characters, and no NUL, which PostgreSQL cannot hold."""
    return words.replace("\0", "")[:limit]


def checkpoint(report: Checkpoint | CheckpointBody) -> errors.Refused | None:
    """Is this checkpoint fit to be stored?"""
    if report.progress is not None and not 0 <= report.progress <= 1:
        return errors.Invalid(f"progress is {report.progress:g}; expected 0 to 1", field="progress")
    if not 0 <= report.elapsed_seconds <= _SECONDS_MAX:
        return errors.Invalid("elapsed_seconds is out of range", field="elapsed_seconds")
    sizes = [("state", report.state), *((f"output[{i}]", chunk) for i, chunk in enumerate(report.output))]
    return _too_large(sizes, BODY_BYTES_MAX)


def result(report: Result) -> errors.Refused | None:
    """Is this result fit to be stored?"""
    plain = report.outcome == "completed" and report.checkpoint is None and report.result is NULL
    if plain and 0 <= (report.elapsed_seconds or 0.0) <= _SECONDS_MAX:
        return None  # the many small ones
    if not 0 <= (report.elapsed_seconds or 0.0) <= _SECONDS_MAX:
        return errors.Invalid("elapsed_seconds is out of range", field="elapsed_seconds")
    if not 0 <= (report.retry_after_seconds or 0.0) <= YEARS_10:
        return errors.Invalid("retry_after_seconds is out of range", field="retry_after_seconds")
    if report.checkpoint is not None:
        refusal = checkpoint(report.checkpoint)
        if refusal is not None:
            return refusal
    too_large = _too_large([("result", report.result)], BODY_BYTES_MAX)
    return too_large or _too_large([("error", report.error)], ERROR_BYTES_MAX) or _unreadable(report)


def _unreadable(report: Result) -> errors.Invalid | None:
    """An error is also read here, for the log and for people."""
    if report.outcome not in ("failed", "crashed"):
        return None
    try:
        msgspec.json.decode(report.error)
    except (msgspec.DecodeError, RecursionError) as problem:
        return errors.Invalid(f"error cannot be read: {problem}", field="error")
    return None


def _too_large(bodies: Sequence[tuple[str, msgspec.Raw]], limit: int) -> errors.TooLarge | None:
    for field, body in bodies:
        size = memoryview(body).nbytes
        if size > limit:
            return errors.TooLarge(f"{field} has {size} bytes; the limit is {limit}", field=field)
    return None
