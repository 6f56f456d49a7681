"""How an attempt ended that did not return: from an exception, or a process's death, to a Result."""

from __future__ import annotations

import inspect
import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Raw

from shared.protocol import ERROR_BYTES_MAX, Grant, Result
from tasks import TaskType
from tasks.arguments import BadPayload
from tasks.board import StopReason
from tasks.body import NotSendable
from tasks.context import Again, Fail, Interrupted, Retry
from worker.channel import Declared

# How much of a long text is kept; a shorter cut follows if JSON's escapes still make it too large.
_TEXT_CHARS: Final = (16_000, 4_000, 1_000)
_STARTED_AT: Final = time.time()  # of this process, Unix seconds; a child imports its task modules after this
OVERRUN: Final = (StopReason.TIMEOUT, StopReason.STALL)
FORCED: Final = (*OVERRUN, StopReason.DROP)
_GARBLED: Final = (
    "what its process sent to the worker cannot be read; save from one thread of the task only, "
    "and write to no file descriptor that the task has not opened"
)
_encode: Final = msgspec.json.Encoder().encode


def error_body(kind: str, message: str, traceback: str = "", **facts: Any) -> Raw:
    """An error as it travels: at most 64 KiB, of the message its beginning, of the traceback its end."""
    for chars in _TEXT_CHARS:
        body = {"type": kind, "message": _clean(message[:chars]), **facts}
        if traceback:
            body["traceback"] = _clean(traceback[-chars:])
        encoded = _encode(body)
        if len(encoded) <= ERROR_BYTES_MAX:
            return Raw(encoded)
    return Raw(_encode({"type": kind[:100], "message": "the error is too large to be reported"}))


def failure_of(
    error: BaseException, reason: StopReason, grant: Grant, kind: TaskType | None, result: Result
) -> None:
    """Put into `result` what `error`, raised by a task that was asked to stop for `reason`, means."""
    stopped = isinstance(error, Interrupted)
    if isinstance(error, Again) or (stopped and reason in (StopReason.DRAIN, StopReason.DROP)):
        result.outcome = "released"
        return
    result.outcome = "failed"
    result.max_retries = kind.max_retries if kind else None
    if stopped and reason in OVERRUN:
        result.error = overrun(reason, grant, kind.timeout_seconds if kind else None)
    elif isinstance(error, BadPayload):
        result.retryable = False
        result.error = error_body("BadPayload", str(error), **_note(error, kind))
    else:
        result.retryable = not isinstance(error, Fail | NotSendable)
        result.retry_after_seconds = error.after_seconds if isinstance(error, Retry) else None
        result.error = error_body(type(error).__name__, _message(error), _traceback(error), **_note(error, kind))


def overrun(reason: StopReason, grant: Grant, declared_seconds: float | None) -> Raw:
    """The error of a task that took too long, in all or without a sign of life."""
    if reason is StopReason.STALL:
        silent = f"neither progress nor a checkpoint nor a line for {grant.stall_seconds:g} s"
        return error_body("Stalled", f"the task hung: {silent}")
    limit = grant.timeout_seconds or declared_seconds or 0.0
    return error_body("TimeLimit", f"the task overran its time limit of {limit:g} s")


def deadline_missed(grant: Grant) -> Result:
    """The result of a task that could not be started in time, and was not."""
    return Result(
        task_id=grant.task_id,
        attempt=grant.attempt,
        lease_id=grant.lease_id,
        outcome="failed",
        retryable=False,
        error=error_body("DeadlineMissed", "the task could not be started before its deadline"),
    )


def result_of_death(grant: Grant, reason: StopReason, error: Raw, declared: Declared) -> Result:
    """The result of a task whose process died with `error`, after it was asked to stop for `reason`."""
    result = Result(task_id=grant.task_id, attempt=grant.attempt, lease_id=grant.lease_id, outcome="crashed")
    if reason in OVERRUN:
        result.outcome = "failed"
        result.max_retries = declared.max_retries
        result.error = overrun(reason, grant, declared.timeout_seconds)
    elif reason is StopReason.NONE:
        result.error = error
    else:
        result.outcome = "released"
    return result


def death(
    wait_status: int,
    peak_rss_bytes: int,
    last_log_lines: Iterable[str],
    tasks: int = 1,
    is_garbled: bool = False,
) -> Raw:
    """The error of a task whose process died, from what the system says about the death.

    `tasks`: how many ran in it; which of them was to blame nobody knows. `is_garbled`: its worker killed it.
    """
    facts: dict[str, Any] = {"peak_rss_bytes": peak_rss_bytes, "last_log_lines": list(last_log_lines)}
    if tasks > 1:
        facts["tasks_in_process"] = tasks
    if is_garbled:
        return error_body("Garbled", _GARBLED, **facts)
    if os.WIFSIGNALED(wait_status):
        number = os.WTERMSIG(wait_status)
        return error_body("Killed", _signal_text(number), signal=number, **facts)
    status = os.waitstatus_to_exitcode(wait_status)
    return error_body("Exited", f"the process ended itself with status {status}", status=status, **facts)


def _signal_text(number: int) -> str:
    if number == signal.SIGKILL:
        return f"signal {number} (out of memory?)"
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:  # an exception of the task's own, whose __str__ fails
        return f"(its message cannot be made: {type(broken).__name__})"


def _traceback(error: BaseException) -> str:
    """Where the task's own code was; empty if the error comes from outside of it."""
    from traceback import format_exception  # loaded here: most children never need it

    own = error.__traceback__
    for _ in range(2):  # leave out the two frames of child.py
        own = own and own.tb_next
    if own is None:
        return ""
    try:
        return "".join(format_exception(type(error), error, own))
    except Exception as broken:
        return f"(the traceback cannot be made: {type(broken).__name__})"


def _note(error: BaseException, kind: TaskType | None) -> dict[str, str]:
    """That the task's code was edited since its import: the traceback then shows lines that never ran."""
    names = [Path(path).name for path in dict.fromkeys(_code_files(error, kind)) if _is_newer(path)]
    if not names:
        return {}
    changed = "has changed since the worker imported it" if len(names) == 1 else "have changed since their import"
    return {"note": f"{', '.join(names)} {changed}; restart the worker to run the new code"}


def _code_files(error: BaseException, kind: TaskType | None) -> Iterator[str]:
    code = getattr(inspect.unwrap(kind.function), "__code__", None) if kind else None
    if code is not None:
        yield code.co_filename
    trace = error.__traceback__
    while trace is not None:
        yield trace.tb_frame.f_code.co_filename
        trace = trace.tb_next


def _is_newer(path: str) -> bool:
    with suppress(OSError):  # of code without a file the name is no path
        return os.stat(path).st_mtime > _STARTED_AT
    return False


def _clean(text: str) -> str:
    """`text` without lone surrogates, which UTF-8 cannot carry."""
    return text.encode(errors="replace").decode()
