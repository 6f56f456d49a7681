"""Every message on the wire, as msgspec Structs; docs/protocol.md shows a transcript of each call.

Bodies that belong to users (payload, state, result, error, output chunks) are `Raw`: they travel
from the submitter to the database to the task and back as the bytes they came in.
Messages of workers ignore unknown fields (a newer worker may talk to an older dispatcher);
messages of clients refuse them.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType, field

from shared.backoff import Backoff
from shared.wording import spelled

MIB: Final = 1024 * 1024
BODY_BYTES_MAX: Final = MIB  # payload, checkpoint state, result and output chunk, each
ERROR_BYTES_MAX: Final = 64 * 1024
MESSAGE_CHARS_MAX: Final = 1024
REQUEST_BYTES_MAX: Final = 16 * MIB
DEPTH_MAX: Final = 64  # nesting of a payload
BATCH_MAX: Final = 10_000  # tasks in one submission
PAGE_MAX: Final = 500
WANT_MAX: Final = 1000  # tasks in one claim: more only delays the first of them
INTEGER_MAX: Final = 2**63 - 1  # what the databases can hold
LOG_LINES_MAX: Final = 1000  # of one attempt; the newest are kept
LOG_CHARS_MAX: Final = 4096  # of one log line
KEY_CHARS_MAX: Final = 200  # of a unique_key, a limit_key, an Idempotency-Key
MAX_RETRIES_DEFAULT: Final = 3  # so at most four failed starts
CRASH_LIMIT_DEFAULT: Final = 5

NULL: Final = Raw(b"null")
EMPTY_OBJECT: Final = Raw(b"{}")

Natural = Annotated[int, Meta(ge=0, le=INTEGER_MAX)]
NO_NUL: Final = r"^[^\x00]*\Z"  # PostgreSQL cannot hold one in a text
WITHOUT_NUL: Final = "a text without NUL characters"
WorkerId = Annotated[str, spelled(NO_NUL, WITHOUT_NUL, min_length=1, max_length=100)]
TypeName = Annotated[str, spelled(r"^[a-z0-9_.-]{1,100}\Z", "1 to 100 of a-z 0-9 _ . -")]
QueueName = TypeName
Tag = Annotated[str, spelled(NO_NUL, WITHOUT_NUL, min_length=1, max_length=64)]
Key = Annotated[str, spelled(NO_NUL, WITHOUT_NUL, min_length=1, max_length=KEY_CHARS_MAX)]
Status = Literal["blocked", "scheduled", "pending", "in-progress", "completed", "failed", "cancelled"]
DEFAULT_QUEUE: Final = "default"
PARENTS_MAX: Final = 10_000  # of one task
RunIf = Literal["all_completed", "all_finished"]  # which ends of its parents let a task start


# --- the worker's side: POST /exchange and the calls that are parts of it


class WorkerInfo(Struct, omit_defaults=True):
    """Who is talking. `types`, `queues` None: every one. `state` "stopped" is the goodbye.

    `threads`: how many waiting tasks (@task(waits=True)) each of its slots runs at once.
    """

    worker_id: WorkerId
    name: Annotated[str, spelled(NO_NUL, WITHOUT_NUL, max_length=100)] = ""
    host: Annotated[str, spelled(NO_NUL, WITHOUT_NUL, max_length=255)] = ""
    pid: Annotated[int, Meta(ge=0, le=INTEGER_MAX)] | None = None
    slots: Annotated[int, Meta(ge=1, le=10_000)] = 1
    types: Annotated[list[TypeName], Meta(max_length=1000)] | None = None
    state: Literal["running", "draining", "stopped"] = "running"
    queues: Annotated[list[QueueName], Meta(max_length=1000)] | None = None
    threads: Annotated[int, Meta(ge=1, le=10_000)] = 1


class Holding(Struct, omit_defaults=True):
    """What a worker still holds: one grant (`task_id`, `attempt`), or all of a lease (`task_ids`).

    `running` says whether a process works on it now; with `task_ids` it is the list of those.
    """

    lease_id: str
    task_id: Natural | None = None
    attempt: Natural | None = None
    task_ids: list[Natural] | None = None
    running: bool | list[int] = False
    progress: float | None = None
    message: str | None = None


class CheckpointBody(Struct, kw_only=True, omit_defaults=True):
    """A task's memory. `elapsed_seconds`: work behind it over all attempts. `output`: new chunks."""

    seq: Natural
    state: Raw = NULL
    progress: float | None = None
    elapsed_seconds: float = 0.0
    output: list[Raw] = []


class Checkpoint(CheckpointBody, kw_only=True, omit_defaults=True):
    """A checkpoint with the grant that vouches for it."""

    task_id: Natural
    attempt: Natural
    lease_id: str


class LogLine(Struct, omit_defaults=True):
    """A line that a task printed or logged. `age_seconds`: how long before the message it did.

    An age, since only the dispatcher's clock counts.
    """

    message: str
    level: Literal["debug", "info", "warning", "error"] = "info"
    age_seconds: float = 0.0


class AttemptLog(Struct, kw_only=True, omit_defaults=True):
    """New log lines of an attempt that runs, with the grant that vouches for it."""

    task_id: Natural
    attempt: Natural
    lease_id: str
    lines: list[LogLine] = []


class Result(Struct, kw_only=True, omit_defaults=True):
    """How an attempt ended. `elapsed_seconds`: of this attempt. `log`: lines not sent before.

    `max_retries` is what the task's own declaration says; it counts when the submitter said nothing.
    `cached`: answered from the worker's memo of a pure task, nothing was run.
    """

    task_id: Natural
    attempt: Natural
    lease_id: str
    outcome: Literal["completed", "failed", "crashed", "released"]
    result: Raw = NULL
    error: Raw = NULL
    retryable: bool = True
    retry_after_seconds: float | None = None
    max_retries: int | None = None
    elapsed_seconds: float | None = None
    checkpoint: CheckpointBody | None = None
    cached: bool = False
    log: list[LogLine] = []


class Exchange(Struct, omit_defaults=True):
    """The whole worker protocol: every part optional, all of it one transaction, in this order.

    `want_types`: claim only these of the worker's types now (it has no room for the others). `receiving`: the
    answer to a claim is coming in, so that `holding` may lack grants that are in it.
    """

    worker: WorkerInfo
    holding: list[Holding] | None = None
    checkpoints: list[Checkpoint] = []
    results: list[Result] = []
    want: Annotated[int, Meta(ge=0, le=INTEGER_MAX)] = 0
    wait_seconds: Annotated[float, Meta(ge=0)] = 0.0
    logs: list[AttemptLog] = []
    want_types: Annotated[list[TypeName], Meta(max_length=1000)] | None = None
    receiving: bool = False


class GetTask(Struct):
    """POST /get-task: a claim for curl and other languages."""

    worker_id: WorkerId
    types: Annotated[list[TypeName], Meta(max_length=1000)] | None = None
    want: Annotated[int, Meta(ge=0, le=INTEGER_MAX)] = 1
    wait_seconds: Annotated[float, Meta(ge=0)] = 0.0
    queues: Annotated[list[QueueName], Meta(max_length=1000)] | None = None


class Heartbeat(Struct):
    """POST /heartbeat: renewals and checkpoints only."""

    worker_id: WorkerId
    holding: list[Holding] | None = None
    checkpoints: list[Checkpoint] = []


class SubmitResults(Struct):
    """POST /submit-result with several results; a single one is a Result with `worker_id`."""

    worker_id: WorkerId
    results: list[Result]


class GrantedCheckpoint(Struct):
    """Where a grant goes on. `output_chunks`: how many are stored already."""

    seq: int
    state: Raw
    progress: float | None
    elapsed_seconds: float
    output_chunks: int


class Grant(Struct):
    """A task handed to a worker: the right to report on (task_id, attempt) with this lease_id.

    `start_within_seconds`: what is left until its deadline; a worker that has not started it by then
    reports it failed, not retryable. `stall_seconds`: without progress for so long it hangs.
    `parents`: how the tasks it depends on ended, {"status", "result", "error"} by key; only the task reads it.
    """

    task_id: Natural
    attempt: Natural
    lease_id: str
    lease_seconds: float
    type: str
    payload: Raw = EMPTY_OBJECT
    timeout_seconds: float | None = None
    checkpoint: GrantedCheckpoint | None = None
    parents: Raw = EMPTY_OBJECT
    stall_seconds: float | UnsetType = UNSET
    start_within_seconds: float | UnsetType = UNSET


class TaskAttempt(Struct, frozen=True):
    """Names a grant in an answer."""

    task_id: Natural
    attempt: int


class Refusal(Struct):
    """One item of a message that was not taken; the rest of the message stands."""

    task_id: Natural
    attempt: int
    error: dict[str, Any]


class ExchangeAnswer(Struct):
    """What the dispatcher says to a worker's message.

    Of `cancel` the tasks are already cancelled: stop them. Of `lost` the grant is no longer valid.
    """

    tasks: list[Grant] = []
    lost: list[TaskAttempt] = []
    cancel: list[TaskAttempt] = []
    refused: list[Refusal] = []
    directive: Literal["run", "pause", "drain", "exit"] = "run"
    heartbeat_seconds: float = 1.0
    poll_after_seconds: float = 0.0


# --- the client's side


class Submission(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A task as its submitter describes it; None means the default.

    `depends_on`: ids of tasks that must end first. `profile` has been filled in before (profiles.py).
    """

    type: TypeName
    payload: Raw = EMPTY_OBJECT
    priority: Annotated[int, Meta(ge=-32768, le=32767)] = 0
    delay_seconds: Annotated[float, Meta(ge=0, le=10 * 365 * 86400)] | None = None
    run_at: str | None = None
    max_retries: Annotated[int, Meta(ge=0, le=1000)] | None = None
    crash_limit: Annotated[int, Meta(ge=1, le=1000)] | None = None
    timeout_seconds: Annotated[float, Meta(gt=0, le=1e7)] | None = None
    backoff: Backoff | None = None
    tags: Annotated[list[Tag], Meta(max_length=20)] | None = None
    queue: QueueName = DEFAULT_QUEUE
    deadline: str | None = None
    stall_seconds: Annotated[float, Meta(gt=0, le=1e7)] | None = None
    unique_key: Key | None = None
    limit_key: Key | None = None
    depends_on: Annotated[list[Natural], Meta(max_length=PARENTS_MAX)] = []
    run_if: RunIf = "all_completed"
    profile: str | None = None


class Later(Struct, forbid_unknown_fields=True):
    """POST /tasks/schedule: a delayed submission in the words that some other systems use."""

    type: TypeName
    payload: Raw = EMPTY_OBJECT
    delay_seconds: Annotated[float, Meta(ge=0, le=10 * 365 * 86400)] = field(default=0.0, name="delaySeconds")
    retries: Annotated[int, Meta(ge=0, le=1000)] | None = None


class Batch(Struct, forbid_unknown_fields=True):
    """POST /tasks with many tasks: all or nothing."""

    tasks: Annotated[list[Submission], Meta(min_length=1, max_length=BATCH_MAX)]


class Revival(Struct, forbid_unknown_fields=True):
    """POST /tasks/<id>/revive."""

    from_scratch: bool = False
    payload: Raw | UnsetType = UNSET


class TaskFilter(Struct, forbid_unknown_fields=True):
    """The query of GET /tasks."""

    status: Status | None = None
    type: TypeName | None = None
    tag: Tag | None = None
    queue: QueueName | None = None
    error_type: Key | None = None
    limit: Annotated[int, Meta(ge=1, le=PAGE_MAX)] = 100
    after: Annotated[int, Meta(ge=1, le=INTEGER_MAX)] | None = None


class Waiting(Struct, forbid_unknown_fields=True):
    """The query of GET /task/<id>."""

    wait_seconds: Annotated[float, Meta(ge=0)] = 0.0


class Nothing(Struct, forbid_unknown_fields=True):
    """The query, or the body, of a call that takes nothing."""


class TaskView(Struct):
    """A task as clients see it. Times ISO 8601 UTC, durations in seconds, progress 0 to 1."""

    task_id: Natural
    type: str
    payload: Raw
    status: str
    queue: str
    priority: int
    tags: list[str]
    attempt: int
    failures: int
    crashes: int
    releases: int
    max_retries: int
    crash_limit: int
    timeout_seconds: float | None
    stall_seconds: float | None
    unique_key: str | None
    limit_key: str | None
    worker: str | None
    worker_id: str | None
    progress: float | None
    message: str | None
    result: Raw
    error: Raw
    created_at: str
    run_at: str | None
    deadline: str | None
    started_at: str | None
    finished_at: str | None
    elapsed_seconds: float | None
    flow_id: int | UnsetType = UNSET  # these three only of a task with relatives
    key: str | UnsetType = UNSET
    depends_on: list[int] | UnsetType = UNSET
    output_chunks: int | UnsetType = UNSET  # of one task that has an output; not in lists


class TaskPage(Struct):
    """The answer of GET /tasks, as who only hands the tasks on reads it."""

    tasks: list[Raw]
    next: int | None


class AttemptView(Struct, omit_defaults=True):
    """One attempt in a task's history; outcome None while it runs."""

    attempt: int
    worker: str | None
    worker_id: str | None
    outcome: str | None
    started_at: str
    finished_at: str | None
    elapsed_seconds: float | None
    resumed_seq: int | None
    lost_seconds: float | None
    error: Raw
    cached: bool = False


class WorkerView(Struct):
    """A worker as clients see it; `running` is how many tasks it holds."""

    worker_id: str
    name: str
    host: str
    pid: int | None
    state: str
    slots: int
    types: list[str] | None
    queues: list[str] | None
    threads: int
    running: int
    last_heartbeat_at: str
    seconds_since_heartbeat: float
