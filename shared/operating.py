"""The messages of those who operate: limits, many tasks at once, logs, history, explanations.

The rest of the protocol is in protocol.py.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from shared.protocol import BATCH_MAX, INTEGER_MAX, PAGE_MAX, Key, QueueName, Tag, TypeName, WorkerId

Ids = Annotated[list[Annotated[int, Meta(ge=1, le=INTEGER_MAX)]], Meta(min_length=1, max_length=BATCH_MAX)]


class DeadFilter(Struct, forbid_unknown_fields=True, kw_only=True):
    """Which tasks a call is about: these ids, or those that fit all of the rest. Nothing at all is refused."""

    ids: Ids | None = None
    type: TypeName | None = None
    queue: QueueName | None = None
    tag: Tag | None = None
    error_type: Key | None = None


class Drop(DeadFilter, forbid_unknown_fields=True, kw_only=True):
    """POST /tasks/drop: of ended tasks."""

    status: Literal["completed", "failed", "cancelled"] | None = None


class ReviveMany(DeadFilter, forbid_unknown_fields=True, kw_only=True):
    """POST /tasks/revive: of failed and cancelled tasks."""

    status: Literal["failed", "cancelled"] | None = None
    from_scratch: bool = False


class LimitName(Struct, forbid_unknown_fields=True, kw_only=True):
    """What a limit is of: exactly one of these. The query of DELETE /limits."""

    queue: QueueName | None = None
    type: TypeName | None = None
    key: Key | None = None


class LimitSetting(LimitName, forbid_unknown_fields=True, kw_only=True):
    """PUT /limits: how many such tasks may run at once, or start within `per_seconds`, or both."""

    max_running: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    max_starts: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    per_seconds: Annotated[float, Meta(gt=0, le=1e7)] | None = None


class LimitView(Struct, omit_defaults=True, kw_only=True):
    """A limit as clients see it, with how many tasks run under it."""

    queue: str | UnsetType = UNSET
    type: str | UnsetType = UNSET
    key: str | UnsetType = UNSET
    max_running: int | None
    max_starts: int | None
    per_seconds: float | None
    running: int


class LogQuery(Struct, forbid_unknown_fields=True):
    """The query of GET /tasks/<id>/logs; `after` is the `next` of an answer before."""

    attempt: Annotated[int, Meta(ge=1, le=INTEGER_MAX)] | None = None
    after: Annotated[int, Meta(ge=0, le=INTEGER_MAX)] = 0


class LogLineView(Struct):
    """A line that a task printed or logged."""

    attempt: int
    at: str
    level: str
    message: str


class HistoryFilter(Struct, forbid_unknown_fields=True):
    """The query of GET /history. `since`, `until`: ISO 8601 with a zone; `worker`: an id or a name."""

    type: TypeName | None = None
    queue: QueueName | None = None
    worker: WorkerId | None = None
    outcome: Literal["completed", "failed", "crashed", "released", "reclaimed", "cancelled"] | None = None
    tag: Tag | None = None
    since: str | None = None
    until: str | None = None
    limit: Annotated[int, Meta(ge=1, le=PAGE_MAX)] = 100
    after: Annotated[str, Meta(max_length=100)] | None = None


class HistoryView(Struct, omit_defaults=True):
    """An ended attempt among those of all tasks."""

    task_id: int
    type: str
    queue: str
    attempt: int
    worker: str | None
    worker_id: str | None
    outcome: str
    started_at: str
    finished_at: str
    elapsed_seconds: float | None
    resumed_seq: int | None
    lost_seconds: float | None
    error: Raw
    cached: bool = False


class Explanation(Struct):
    """Why a task stands where it stands: a code, a sentence, and the facts behind it."""

    task_id: int
    status: str
    reason: str
    message: str
    details: dict[str, Any]
    estimated_start_seconds: float | None
