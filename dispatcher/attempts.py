"""How one attempt ends: its place in the history, and the account of work useful, saved and lost.

Work is counted in seconds. When an attempt does not complete, what its checkpoints hold is saved,
the rest of its time is lost; a completed task's seconds, resumed ones included, are useful.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from dispatcher import checks, kin
from dispatcher.engine import Overtaken
from dispatcher.transaction import Transaction, encoded, grouped
from shared import backoff
from shared.backoff import Backoff
from shared.lifecycle import ENDED, Outcome, TaskStatus
from shared.protocol import KEY_CHARS_MAX, NULL, CheckpointBody, Refusal, Result

_encode = msgspec.json.Encoder().encode
CANCELLED: Final = _encode({"type": "Cancelled", "message": "cancelled on request"})
_INTERRUPTIONS: Final = (Outcome.RELEASED, Outcome.CRASHED, Outcome.RECLAIMED)
_EVENT = {Outcome.FAILED: "fail", Outcome.CRASHED: "crash", Outcome.RECLAIMED: "reclaim"}


class Held(NamedTuple):
    """A task under its present grant, as the statement `held` answers it."""

    task_id: int
    attempt: int
    lease_id: str
    lane: str
    worker_key: int
    started_at: float
    failures: int
    crashes: int
    releases: int
    alone: int
    running: int
    max_retries: int | None
    crash_limit: int | None
    backoff: str | None
    resumed_seq: int | None
    resumed_seconds: float | None
    checkpoint_seq: int | None
    saved_seconds: float | None
    limit_key: str | None

    @property
    def backoff_policy(self) -> Backoff:
        """The task's own pauses, or the default ones."""
        return backoff.DEFAULT if self.backoff is None else msgspec.json.decode(self.backoff, type=Backoff)

    @property
    def saved_here(self) -> float:
        """Seconds of this attempt that its checkpoints hold."""
        return max(0.0, (self.saved_seconds or 0.0) - (self.resumed_seconds or 0.0))


def find(tx: Transaction, task_id: int, attempt: int, lease_id: str) -> Held | None:
    """The task under exactly this grant, or None: the grant is lost."""
    row = tx.held(task_id=task_id, attempt=attempt, lease_id=lease_id)
    return None if row is None else Held(*row)


def held(tx: Transaction, task_id: int, attempt: int, lease_id: str) -> Held:
    """As `find`, for a grant that this very transaction has just seen; Overtaken if it has ended since."""
    found = find(tx, task_id, attempt, lease_id)
    if found is None:
        raise Overtaken
    return found


def end(
    tx: Transaction,
    held: Held,
    outcome: Outcome,
    status: TaskStatus,
    report: Result | None = None,
    error: bytes | None = None,
    *,
    failures: int | None = None,
    crashes: int | None = None,
    releases: int | None = None,
    run_at: float | None = None,
    alone: bool = False,
    worker: str = "",
    unheard_seconds: float = 0.0,
) -> None:
    """End an attempt that did not complete; the task goes on as `status`. Counters None: unchanged.

    Raises Overtaken if the grant has ended since `held` was read.
    """
    relatives = tx.end_attempt(
        task_id=held.task_id,
        attempt=held.attempt,
        lease_id=held.lease_id,
        status=status,
        run_at=run_at,
        finished_at=tx.now if status in ENDED else None,
        failures=held.failures if failures is None else failures,
        crashes=held.crashes if crashes is None else crashes,
        releases=held.releases if releases is None else releases,
        alone=int(alone),
        kept_deadline=int(outcome in _INTERRUPTIONS and has_begun(held, report)),
    )
    if relatives is None:
        raise Overtaken
    flow_id, kinship = relatives  # as they are now: a child may have come since
    counted = outcome is Outcome.RECLAIMED and crashes is not None
    _record(tx, held, outcome, error, _elapsed(tx, held, report, unheard_seconds), counted)
    if status in ENDED:
        tx.record_error(task_id=[held.task_id], attempt=held.attempt, error=error, error_type=_type_of(error))
    if run_at is not None:
        tx.due(run_at)
    tx.moved(held.lane, TaskStatus.IN_PROGRESS, status, [held.task_id], held.limit_key)
    if outcome in _EVENT:
        facts = {"task_id": held.task_id, "attempt": held.attempt, "next": str(status), "worker": worker}
        tx.log(_EVENT[outcome], **facts, reason=_message(error))
    if status in ENDED and (kinship is not None or flow_id is not None):
        kin.ended(tx, [(held.task_id, flow_id, kinship)], status)


def _record(
    tx: Transaction, held: Held, outcome: Outcome, error: bytes | None, elapsed: float, counted: bool
) -> None:
    """The attempt's row in the history, and the account of its time; `counted`: as a crash of the task."""
    lost = max(0.0, elapsed - held.saved_here)
    tx.work["saved"] += held.saved_here
    tx.work["lost"] += lost
    tx.record_attempt(
        task_id=held.task_id,
        attempt=held.attempt,
        lease_id=held.lease_id,
        worker_key=held.worker_key,
        outcome=outcome,
        started_at=held.started_at,
        now=tx.now,
        elapsed_seconds=elapsed,
        resumed_seq=held.resumed_seq,
        lost_seconds=lost,
        alone=held.alone,
        counted=int(counted),
        error=error,
    )


def cancel(
    tx: Transaction, task_id: int, status: str, lane: str, attempt: int, lease_id: str, limit_key: str | None
) -> kin.Relative | None:
    """End a task on request; returns what it is to those that must still be told, or None: it ran, they were.

    Raises Overtaken if it is not `status` any more.
    """
    if status == TaskStatus.IN_PROGRESS:
        end(tx, held(tx, task_id, attempt, lease_id), Outcome.CANCELLED, TaskStatus.CANCELLED, error=CANCELLED)
        return None
    waited: kin.Relative | None = tx.cancel(task_id=task_id, status=status, now=tx.now)
    if waited is None:
        raise Overtaken
    tx.moved(lane, TaskStatus(status), TaskStatus.CANCELLED, [task_id], limit_key)
    tx.record_error(task_id=[task_id], attempt=attempt, error=CANCELLED, error_type="Cancelled")
    return waited


def has_begun(held: Held, report: Result | None) -> bool:
    """Whether the function was called, as far as anybody knows: a grant may have waited in its worker."""
    return bool(held.running or (held.alone if report is None else report.elapsed_seconds))


def _elapsed(tx: Transaction, held: Held, report: Result | None, unheard_seconds: float) -> float:
    """What the worker measured, or the time up to the last word from it and a guess at what followed."""
    if report is not None:
        return report.elapsed_seconds or 0.0
    if not has_begun(held, report):
        return 0.0
    heard_at: float = tx.last_heard(worker_key=held.worker_key) or held.started_at
    return max(0.0, min(heard_at + unheard_seconds, tx.now) - held.started_at)


def _type_of(error: bytes | None) -> str | None:
    """What dead letters are found by: the error's type, if it is a name."""
    body = msgspec.json.decode(error or b"null")
    name = body.get("type") if isinstance(body, dict) else None
    return name if isinstance(name, str) and 0 < len(name) <= KEY_CHARS_MAX and "\0" not in name else None


def _message(error: bytes | None) -> str:
    body = msgspec.json.decode(error or b"null")
    return str(body.get("message", body)) if isinstance(body, dict) else str(body)


Row = tuple[int, float, int, str | None]  # task_id, seconds, cached, result


class Alike(NamedTuple):
    """Tasks of one attempt and lease: they end as one. `text`: the rows as statements take them."""

    attempt: int
    lease_id: str
    rows: list[Row]
    text: str


class Reports:
    """A message's results, checked and sorted before the transaction."""

    def __init__(self, results: Sequence[Result]) -> None:
        self.refused: list[Refusal] = []
        self.checkpoints: list[tuple[Result, CheckpointBody]] = []
        self.completed: list[Result] = []  # each grant once …
        self.repeated: list[Result] = []  # … and what came again of it
        self.others: list[Result] = []
        self.logged: list[Result] = []  # those that bring log lines
        seen: set[tuple[int, int]] = set()
        for report in results:
            refusal = checks.result(report)
            if refusal is not None:
                self.refused.append(Refusal(report.task_id, report.attempt, refusal.body()["error"]))
                continue
            if report.checkpoint is not None:
                self.checkpoints.append((report, report.checkpoint))
            if report.log:
                self.logged.append(report)
            if report.outcome != "completed":
                self.others.append(report)
            elif (report.task_id, report.attempt) in seen:
                self.repeated.append(report)
            else:
                seen.add((report.task_id, report.attempt))
                self.completed.append(report)
        alike: defaultdict[tuple[int, str], list[Row]] = defaultdict(list)
        for report in self.completed:
            alike[report.attempt, report.lease_id].append(_row(report))
        self.alike = [Alike(*grant, rows, encoded(rows)) for grant, rows in alike.items()]


def complete(tx: Transaction, reports: Reports) -> set[tuple[int, int]]:
    """End tasks with their results; returns the (task_id, attempt) whose grant no longer held."""
    ended: list[tuple[Any, ...]] = []
    over: set[tuple[int, int]] = set()
    for attempt, lease_id, rows, text in reports.alike:
        these = tx.complete(rows=text, attempt=attempt, lease_id=lease_id, now=tx.now).fetchall()
        if len(these) < len(rows):
            held = {row[0] for row in these}
            over.update((row[0], attempt) for row in rows if row[0] not in held)
            rows = [row for row in rows if row[0] in held]
            text = encoded(rows)
        if rows:
            tx.record_results(rows=text, attempt=attempt, lease_id=lease_id)
        ended += these
        tx.work["useful"] += sum(row[1] for row in rows)
    if ended:
        _tell(tx, ended)
    return over


def _tell(tx: Transaction, ended: Sequence[tuple[Any, ...]]) -> None:
    """What follows from the completion of tasks, as the statement `complete` answers them."""
    for lane, those in grouped([row[1] for row in ended], [row[0] for row in ended]).items():
        tx.moved(lane, TaskStatus.IN_PROGRESS, TaskStatus.COMPLETED, those)
    tx.work["useful"] += sum(row[2] for row in ended if row[2] is not None)
    remembered = [row[0] for row in ended if row[3] is not None]
    if remembered:
        tx.drop_checkpoint(task_id=remembered)
    keyed = [(row[0], row[1], row[4]) for row in ended if row[4] is not None]
    if keyed:
        tx.keep_places(TaskStatus.COMPLETED, keyed)
    relatives = [(row[0], row[5], row[6]) for row in ended if row[5] is not None or row[6] is not None]
    if relatives:
        kin.ended(tx, relatives, TaskStatus.COMPLETED)


def _row(report: Result) -> Row:
    """The result travels as text: JSON has no NUL and no stray surrogate, so it comes back byte for byte."""
    result = None
    if report.result is not NULL and (body := bytes(report.result)) != b"null":
        result = body.decode()
    return report.task_id, report.elapsed_seconds or 0.0, int(report.cached), result


def is_repeat(tx: Transaction, report: Result) -> bool:
    """Is this the report that ended the attempt, come again? Then it gets the answer of the first."""
    row = tx.attempt_end(task_id=report.task_id, attempt=report.attempt)
    if row is None:
        return False
    lease_id, outcome, error, result = row
    if (lease_id, outcome) != (report.lease_id, report.outcome):
        return False
    if outcome == Outcome.COMPLETED:
        return bool((result or b"null") == bytes(report.result))
    return bool(outcome == Outcome.RELEASED or error == bytes(report.error))
