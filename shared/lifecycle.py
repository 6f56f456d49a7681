"""The life of a task: its statuses, the verbs that move it, and who may use them.

This table is the only definition. The schema's CHECKs repeat it, one test tries every status
with every verb against the ledger, and docs/lifecycle.md is generated from it
(`python -m shared.lifecycle`). Read dispatcher/ledger.py next: one method per verb.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple


class TaskStatus(StrEnum):
    """Where a task stands. LIVE statuses can still change, ENDED ones only by revive."""

    BLOCKED = "blocked"  # waits for its parents; unblocked when the last of them ends
    SCHEDULED = "scheduled"  # waits for run_at: a delay, or the pause before a retry
    PENDING = "pending"  # may be claimed now
    IN_PROGRESS = "in-progress"  # a worker holds its lease
    COMPLETED = "completed"  # ended with a result
    FAILED = "failed"  # ended without one: a dead letter, kept with its checkpoint
    CANCELLED = "cancelled"  # ended because somebody asked


ENDED: Final = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED})
LIVE: Final = frozenset(TaskStatus) - ENDED


class Outcome(StrEnum):
    """How one attempt ended; an attempt that still runs has none."""

    COMPLETED = "completed"  # the task returned
    FAILED = "failed"  # the task raised, or overran its time
    CRASHED = "crashed"  # the process that ran it died
    RELEASED = "released"  # a polite stop; spends nothing
    RECLAIMED = "reclaimed"  # its worker went silent, or no longer held it
    CANCELLED = "cancelled"  # somebody cancelled the task


class WorkerState(StrEnum):
    """What the dispatcher thinks of a worker; GONE ones are shown for a day."""

    ALIVE = "alive"
    PAUSED = "paused"
    DRAINING = "draining"  # finishes what it holds, claims nothing more
    DEAD = "dead"  # silent for longer than HEARTBEAT_TIMEOUT_SECONDS
    STOPPED = "stopped"  # said goodbye


GONE: Final = frozenset({WorkerState.DEAD, WorkerState.STOPPED})


class Transition(NamedTuple):
    """One arrow (or bundle of arrows) of the life cycle. Source None: the task does not exist yet."""

    verb: str
    sources: frozenset[TaskStatus | None]
    targets: frozenset[TaskStatus]
    actor: str
    guard: str


_FENCE: Final = "task, attempt and lease_id are the current grant"
_S = TaskStatus


def _arrow(
    verb: str, sources: set[TaskStatus | None], targets: set[TaskStatus], actor: str, guard: str
) -> Transition:
    return Transition(verb, frozenset(sources), frozenset(targets), actor, guard)


TRANSITIONS: Final[tuple[Transition, ...]] = (
    _arrow(
        "submit",
        {None},
        {_S.BLOCKED, _S.PENDING, _S.SCHEDULED},
        "client",
        "blocked if a parent has not ended, else scheduled if run_at is ahead",
    ),
    _arrow(
        "unblock",
        {_S.BLOCKED},
        {_S.PENDING, _S.SCHEDULED},
        "dispatcher",
        "the last parent has ended; scheduled if run_at is ahead",
    ),
    _arrow("promote", {_S.SCHEDULED}, {_S.PENDING}, "dispatcher", "run_at has come"),
    _arrow("claim", {_S.PENDING}, {_S.IN_PROGRESS}, "worker", "best eligible: priority, then task_id"),
    _arrow("renew", {_S.IN_PROGRESS}, {_S.IN_PROGRESS}, "worker", _FENCE),
    _arrow("checkpoint", {_S.IN_PROGRESS}, {_S.IN_PROGRESS}, "worker", f"{_FENCE}; seq is greater"),
    _arrow("complete", {_S.IN_PROGRESS}, {_S.COMPLETED}, "worker", _FENCE),
    _arrow(
        "fail",
        {_S.IN_PROGRESS},
        {_S.SCHEDULED, _S.FAILED},
        "worker",
        f"{_FENCE}; failed when failures exceed max_retries or it must not be retried",
    ),
    _arrow(
        "crash",
        {_S.IN_PROGRESS},
        {_S.PENDING, _S.SCHEDULED, _S.FAILED},
        "worker",
        f"{_FENCE}; pending the first time, then after the backoff, failed at crash_limit",
    ),
    _arrow("release", {_S.IN_PROGRESS}, {_S.PENDING}, "worker", _FENCE),
    _arrow(
        "reclaim",
        {_S.IN_PROGRESS},
        {_S.PENDING, _S.SCHEDULED, _S.FAILED},
        "monitor",
        "worker silent, lease over, or grant missing from two lists; counts a crash if it was running",
    ),
    _arrow(
        "readopt",
        {_S.PENDING, _S.SCHEDULED},
        {_S.IN_PROGRESS},
        "worker",
        "its heartbeat names the grant that was reclaimed, and nobody has claimed the task since",
    ),
    _arrow("expire", {_S.SCHEDULED, _S.PENDING}, {_S.FAILED}, "dispatcher", "its deadline has passed"),
    _arrow(
        "cancel",
        set(LIVE),
        {_S.CANCELLED},
        "client",
        "the task has not ended; the dispatcher itself cancels what a parent's end keeps from running",
    ),
    _arrow(
        "revive",
        {_S.FAILED, _S.CANCELLED},
        {_S.BLOCKED, _S.PENDING},
        "client",
        "the task failed or was cancelled; blocked if a parent has not ended",
    ),
)

VERBS: Final = tuple(transition.verb for transition in TRANSITIONS)


def markdown() -> str:
    """The table as the text of docs/lifecycle.md: a Mermaid chart, then a row per verb."""
    chart = [
        f"    {source or '[*]'} --> {target}: {arrow.verb}"
        for arrow in TRANSITIONS
        for source in sorted(arrow.sources, key=str)
        for target in sorted(arrow.targets)
    ]
    # Mermaid reads a hyphen in a state's name as an arrow, so in-progress goes by another name there.
    mermaid = "\n".join(chart).replace("in-progress", "in_progress")
    rows = [
        f"| {arrow.verb} | {', '.join(sorted(s or '–' for s in arrow.sources))} "
        f"| {', '.join(sorted(arrow.targets))} | {arrow.actor} | {arrow.guard} |"
        for arrow in TRANSITIONS
    ]
    return "\n".join(
        [
            "# The life of a task",
            "",
            "Generated from `shared/lifecycle.py` by `python -m shared.lifecycle`; a test holds it there.",
            "",
            "```mermaid",
            "stateDiagram-v2",
            mermaid,
            "```",
            "",
            "| verb | from | to | who | guard |",
            "| --- | --- | --- | --- | --- |",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    print(markdown(), end="")
