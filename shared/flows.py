"""The messages about flows: tasks tied by dependencies, named within their flow by keys.

Two forms are taken: ours (`FlowSubmission`), and the one of other schedulers (`ForeignFlow`), which
`from_foreign` turns into ours. What is right about a graph is decided in dispatcher/graph.py.
"""

from __future__ import annotations

import shlex
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from shared import errors
from shared.protocol import (
    BATCH_MAX,
    INTEGER_MAX,
    NO_NUL,
    PAGE_MAX,
    PARENTS_MAX,
    WITHOUT_NUL,
    Submission,
    TypeName,
)
from shared.wording import spelled

COMMAND: Final = "command"  # the type of a task that runs a program
FAN_OUT_MAX: Final = 10_000  # parts of one fan-out
FAN_OUT_BYTES_MAX: Final = 64 * 1024 * 1024  # payloads of one fan-out: it is stored in one transaction
EDGES_MAX: Final = 200_000  # dependencies in one submission, for the same reason
FLOW_TASKS_MAX: Final = 50_000  # stored with one submission: half a second of the writer
# What a grant tells of the parents' results and errors; what is over comes as null and TooLarge.
PARENTS_BYTES_MAX: Final = 4 * 1024 * 1024

# Brackets are for the parts of a fan-out: parts[0].
Key = Annotated[str, spelled(r"^[^\[\]\x00-\x1f]{1,100}\Z", "1 to 100 characters, no brackets, no line ends")]
ItemName = Annotated[str, Meta(min_length=1, max_length=100)]
FlowName = Annotated[str, spelled(NO_NUL, WITHOUT_NUL, max_length=200)]


class ResultOf(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A list that another task of the flow will answer: its result, or a field of it."""

    result_of: Key
    field: str | None = None


class FanOut(Struct, forbid_unknown_fields=True, rename={"item_name": "as"}):
    """One task per item of `over`; each payload gets its item under the name `as`."""

    over: list[Raw] | ResultOf
    item_name: ItemName = "item"


class FlowTask(Submission, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A task of a flow: a submission with a key, whose `depends_on` names keys."""

    key: Key
    depends_on: Annotated[list[Key], Meta(max_length=PARENTS_MAX)] = []  # type: ignore[assignment]  # noqa: RUF012
    map: FanOut | None = None


class FlowSubmission(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """POST /flows: stored whole or not at all."""

    tasks: Annotated[list[FlowTask], Meta(min_length=1, max_length=BATCH_MAX)]
    name: FlowName | None = None


class ForeignTask(Struct, forbid_unknown_fields=True, rename={"key": "taskId"}):
    """A task in the other form; with `command` it is of the type "command"."""

    key: Key
    type: TypeName | None = None
    payload: Raw | UnsetType = UNSET
    retries: Annotated[int, Meta(ge=0, le=1000)] | None = None
    timeout: Annotated[float, Meta(gt=0, le=1e7)] | None = None
    command: str | list[str] | None = None


class ForeignFlow(Struct, forbid_unknown_fields=True, rename={"label": "jobId", "name": "jobName"}):
    """POST /flows in the other form: `dependencies` says for each child what its parents are."""

    tasks: Annotated[list[ForeignTask], Meta(min_length=1, max_length=BATCH_MAX)]
    label: FlowName | None = None
    name: FlowName | None = None
    dependencies: dict[str, list[str]] = {}


class FlowFilter(Struct, forbid_unknown_fields=True):
    """The query of GET /flows."""

    limit: Annotated[int, Meta(ge=1, le=PAGE_MAX)] = 100
    after: Annotated[int, Meta(ge=1, le=INTEGER_MAX)] | None = None


FlowStatus = Literal["running", "completed", "failed", "cancelled"]


class ErrorView(Struct):
    """An error in short; the task has all of it. `type` None: it has none that is a text."""

    type: str | None
    message: str


class FlowTaskView(Struct):
    """A task within its flow; `task_id` None: a fan-out that has no parts yet, or has none at all."""

    key: str
    task_id: int | None
    status: str
    depends_on: list[str]
    error: ErrorView | UnsetType = UNSET  # why it failed or was cancelled, or could not be fanned out


class FlowView(Struct):
    """A flow as clients see it; `progress` is the share of its tasks that have ended."""

    flow_id: int
    name: str | None
    status: FlowStatus
    progress: float
    created_at: str
    tasks: list[FlowTaskView] | UnsetType = UNSET


def is_foreign(fields: dict[str, Any]) -> bool:
    """Is this body of POST /flows in the other form?"""
    return not fields.keys().isdisjoint(("jobId", "jobName", "dependencies")) or b'"taskId"' in bytes(
        fields.get("tasks", b"")
    )


def from_foreign(flow: ForeignFlow) -> tuple[FlowSubmission, dict[str, str]]:
    """The other form as ours, and in which field each key's parents stood. Raises Invalid naming the field."""
    keys = {task.key for task in flow.tasks}
    for child in flow.dependencies:
        if child not in keys:
            field = f"dependencies.{child}"
            raise errors.Invalid(f"{field}: the flow has no task {child!r}", field=field)
    tasks = [_from_foreign(task, i, flow.dependencies.get(task.key, [])) for i, task in enumerate(flow.tasks)]
    return FlowSubmission(tasks, flow.name or flow.label), {key: f"dependencies.{key}" for key in keys}


def _from_foreign(task: ForeignTask, index: int, parents: list[str]) -> FlowTask:
    type = task.type or (None if task.command is None else COMMAND)
    if type is None:
        where = f"tasks[{index}].type"
        raise errors.Invalid(f"{where}: a task needs a type or a command", field=where)
    made = FlowTask(type, key=task.key, depends_on=parents, max_retries=task.retries, timeout_seconds=task.timeout)
    if task.payload is not UNSET:
        made.payload = task.payload
    if task.command is not None:
        made.payload = _with_argv(made.payload, _argv(task.command, index), f"tasks[{index}].payload")
    return made


def _with_argv(payload: Raw, argv: list[str], where: str) -> Raw:
    try:
        return Raw(msgspec.json.encode(msgspec.json.decode(payload, type=dict[str, Raw]) | {"argv": argv}))
    except msgspec.ValidationError:
        raise errors.Invalid(f"{where} must be a JSON object", field=where) from None


def _argv(command: str | list[str], index: int) -> list[str]:
    where = f"tasks[{index}].command"
    try:
        argv = shlex.split(command) if isinstance(command, str) else command
    except ValueError as error:
        raise errors.Invalid(f"{where} cannot be split into words: {error}", field=where) from None
    if not argv:
        raise errors.Invalid(f"{where} is empty", field=where)
    return argv
