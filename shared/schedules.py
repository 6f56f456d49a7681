"""The messages about schedules: recurring submissions of a task or of a flow."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from shared.protocol import NO_NUL, PAGE_MAX, WITHOUT_NUL, Submission
from shared.wording import spelled

ScheduleName = Annotated[str, spelled(r"^[A-Za-z0-9_.-]{1,100}\Z", "1 to 100 of A-Z a-z 0-9 _ . -")]
Cron = Annotated[str, Meta(min_length=1, max_length=200)]
PERIOD_MIN: Final = 1.0  # less than a second would be a task that runs for ever
PERIOD_MAX: Final = 10 * 365 * 86400.0
Period = Annotated[float, Meta(ge=PERIOD_MIN, le=PERIOD_MAX)]
TimeZone = Annotated[str, Meta(min_length=1, max_length=100)]
Missed = Literal["once", "skip", "all"]
Overlap = Literal["allow", "skip"]


class ScheduleSubmission(Struct, forbid_unknown_fields=True):
    """POST /schedules: `cron` or `every_seconds`, and what to submit: `task` or `flow`.

    `missed`: what becomes of slots at which no dispatcher ran. `overlap`: may it fire while what it
    submitted last has not ended?
    """

    name: ScheduleName
    cron: Cron | None = None
    every_seconds: Period | None = None
    timezone: TimeZone = "UTC"
    task: Submission | None = None
    flow: Raw | UnsetType = UNSET
    missed: Missed = "once"
    overlap: Overlap = "allow"


class ScheduleChange(Struct, forbid_unknown_fields=True):
    """PATCH /schedules/<name>: what is given replaces what was there."""

    cron: Cron | UnsetType = UNSET
    every_seconds: Period | UnsetType = UNSET
    timezone: TimeZone | UnsetType = UNSET
    task: Submission | UnsetType = UNSET
    flow: Raw | UnsetType = UNSET
    missed: Missed | UnsetType = UNSET
    overlap: Overlap | UnsetType = UNSET


class ScheduleFilter(Struct, forbid_unknown_fields=True):
    """The query of GET /schedules."""

    limit: Annotated[int, Meta(ge=1, le=PAGE_MAX)] = 100
    after: Annotated[str, spelled(NO_NUL, WITHOUT_NUL)] = ""


class SlotFilter(Struct, forbid_unknown_fields=True):
    """The query of GET /schedules/<name>/history; `before`: a moment, or the `next` of an answer before."""

    limit: Annotated[int, Meta(ge=1, le=PAGE_MAX)] = 100
    before: str | None = None


class ScheduleView(Struct):
    """A schedule as clients see it; `next_runs` is empty while it is paused, or its time zone not known."""

    name: str
    cron: str | None
    every_seconds: float | None
    timezone: str
    missed: Missed
    overlap: Overlap
    paused: bool
    created_at: str
    next_runs: list[str]
    task: Raw | UnsetType = UNSET
    flow: Raw | UnsetType = UNSET
    last_task_id: int | UnsetType = UNSET
    last_flow_id: int | UnsetType = UNSET


class SlotView(Struct, omit_defaults=True):
    """What became of a slot: fired, skipped (overlap), missed, failed. `by_hand`: somebody asked for it."""

    slot_at: str
    fired_at: str
    outcome: str
    by_hand: bool
    task_id: int | None = None
    flow_id: int | None = None
    message: str | None = None


def submitted(task_id: int | None, flow_id: int | None) -> dict[str, Any]:
    """What POST /schedules/<name>/run answers."""
    return {"flow_id": flow_id} if task_id is None else {"task_id": task_id}
