"""Rows of the database as clients see them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from msgspec import UnsetType

from shared.flows import ErrorView
from shared.lifecycle import TaskStatus
from shared.operating import HistoryView
from shared.protocol import (
    CRASH_LIMIT_DEFAULT,
    EMPTY_OBJECT,
    MAX_RETRIES_DEFAULT,
    NULL,
    AttemptView,
    TaskView,
    WorkerView,
)
from shared.wording import error_in_words

EARLIEST: Final = -62135596800.0  # 0001-01-01T00:00:00Z: a datetime begins there
LATEST: Final = 253402300799.0  # 9999-12-31T23:59:59Z: it ends there
ERROR_BYTES_READ: Final = 8 * 1024  # of each task of a flow: 10,000 that failed are 80 MB at most
MESSAGE_CHARS: Final = 200  # a line or two on a terminal


def tellable(seconds: float) -> float:
    """The time, or the edge of the calendar beyond which it lies."""
    return min(max(seconds, EARLIEST), LATEST)


def iso(seconds: float | None) -> str | None:
    """A time as answers show it."""
    if seconds is None:
        return None
    moment = datetime.fromtimestamp(tellable(seconds), UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def raw(body: bytes | None) -> msgspec.Raw:
    """A body as it came; none: the JSON null."""
    return NULL if body is None else msgspec.Raw(body)


def task_view(row: tuple[Any, ...], now: float) -> TaskView:
    """A row of `task_views`."""
    (
        task_id, type, payload, status, priority, tags, attempt, failures, crashes, releases, max_retries,
        crash_limit, timeout_seconds, worker, worker_id, progress, message, result, error, created_at, run_at,
        started_at, finished_at, elapsed_seconds, resumed_seconds, queue, deadline_at, stall_seconds, unique_key,
        limit_key, flow_id, key, _,
    ) = row  # fmt: skip
    if status == TaskStatus.IN_PROGRESS:
        elapsed_seconds = round((resumed_seconds or 0.0) + max(0.0, now - started_at), 3)
    return TaskView(
        task_id=task_id,
        type=type,
        payload=EMPTY_OBJECT if payload is None else msgspec.Raw(payload),
        status=status,
        queue=queue,
        priority=priority,
        tags=[] if tags is None else msgspec.json.decode(tags),
        attempt=attempt,
        failures=failures,
        crashes=crashes,
        releases=releases,
        max_retries=MAX_RETRIES_DEFAULT if max_retries is None else max_retries,
        crash_limit=CRASH_LIMIT_DEFAULT if crash_limit is None else crash_limit,
        timeout_seconds=timeout_seconds,
        stall_seconds=stall_seconds,
        unique_key=unique_key,
        limit_key=limit_key,
        worker=worker,
        worker_id=worker_id,
        progress=progress,
        message=message,
        result=raw(result),
        error=raw(error),
        created_at=iso(created_at) or "",
        run_at=iso(run_at),
        deadline=iso(deadline_at),
        started_at=iso(started_at),
        finished_at=iso(finished_at),
        elapsed_seconds=elapsed_seconds,
        flow_id=msgspec.UNSET if flow_id is None else flow_id,
        key=msgspec.UNSET if flow_id is None else key,
    )


def short_error(error: bytes | None, error_type: str | None) -> ErrorView | UnsetType:
    """An error beside many others: what it is, and how its message begins. One that was not read has its type."""
    if error is None:
        return msgspec.UNSET if error_type is None else ErrorView(error_type, "a long error: see the task")
    body = msgspec.json.decode(error)
    message = error_in_words(body)
    short = message if len(message) <= MESSAGE_CHARS else f"{message[: MESSAGE_CHARS - 1]}…"
    kind = body.get("type") if isinstance(body, dict) else None
    return ErrorView(kind if isinstance(kind, str) else None, short)


def attempt_view(row: Sequence[Any]) -> AttemptView:
    """A row of `attempt_views`."""
    number, worker, worker_id, outcome, started_at, finished_at, elapsed, resumed, lost, error, cached = row
    return AttemptView(
        attempt=number,
        worker=worker,
        worker_id=worker_id,
        outcome=outcome,
        started_at=iso(started_at) or "",
        finished_at=iso(finished_at),
        elapsed_seconds=elapsed,
        resumed_seq=resumed,
        lost_seconds=lost,
        error=raw(error),
        cached=bool(cached),
    )


def worker_view(row: tuple[Any, ...], lease_now: float) -> WorkerView:
    """A row of `worker_views`."""
    worker_id, name, host, pid, state, slots, types, queues, threads, running, heard_at, heard = row
    return WorkerView(
        worker_id=worker_id,
        name=name,
        host=host,
        pid=pid,
        state=state,
        slots=slots,
        types=None if types is None else msgspec.json.decode(types),
        queues=None if queues is None else msgspec.json.decode(queues),
        threads=threads,
        running=running,
        last_heartbeat_at=iso(heard_at) or "",
        seconds_since_heartbeat=round(max(0.0, lease_now - heard), 3),
    )


def history_view(row: tuple[Any, ...]) -> HistoryView:
    """A row of `history_completed` or `history_others`."""
    task_id, type, queue, *attempt = row
    return HistoryView(task_id=task_id, type=type, queue=queue, **msgspec.structs.asdict(attempt_view(attempt)))
