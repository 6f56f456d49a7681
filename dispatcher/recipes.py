"""What a schedule submits each time: a task or a flow, checked once, stored, and made again.

A schedule keeps the bytes of a submission; `make` turns them into a function that submits.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec import UNSET, Raw, UnsetType

from dispatcher import checks, flows, graph, wire
from dispatcher import submissions as storage
from dispatcher.transaction import Transaction
from shared import errors
from shared.payload import check_payload
from shared.protocol import Submission

_submission = msgspec.json.Decoder(Submission)
_encode = msgspec.json.Encoder().encode

# Answers (task_id, flow_id). It raises Refused before it has written anything.
Make = Callable[[Transaction], tuple[int | None, int | None]]


def body(task: Submission | None, flow: Raw | UnsetType) -> tuple[str, bytes]:
    """(kind, what to store). Raises Invalid or TooLarge naming the field."""
    if (task is None) == (flow is UNSET):
        raise errors.Invalid("give what to submit: either task or flow", field="task")
    if task is not None:
        _check_timeless(task, "task.")
        check_payload(task.payload, "task.payload")
        return "task", _encode(task)
    stored = b"" if flow is UNSET else bytes(flow)
    try:
        wanted, fields = wire.flow(stored)
        graph.plan(wanted, fields)
        for index, part in enumerate(wanted.tasks):
            _check_timeless(part, f"tasks[{index}].", within_flow=True)
            check_payload(part.payload, f"tasks[{index}].payload")
    except errors.Refused as problem:
        field = f"flow.{problem.details.get('field', '')}".rstrip(".")
        raise type(problem)(f"flow: {problem.message}", **{**problem.details, "field": field}) from None
    return "flow", stored


def _check_timeless(task: Submission, where: str, within_flow: bool = False) -> None:
    """A moment, or the ids of other tasks, would be the same each time."""
    if task.run_at is not None:
        raise errors.Invalid(f"{where}run_at: the schedule says when; use delay_seconds", field=f"{where}run_at")
    if task.deadline is not None:
        raise errors.Invalid(f"{where}deadline: it would be the same each time", field=f"{where}deadline")
    if task.depends_on and not within_flow:
        raise errors.Invalid(
            f"{where}depends_on: a schedule cannot depend on tasks; use a flow", field=f"{where}depends_on"
        )


def types(kind: str, body: bytes) -> set[str]:
    """The types of the tasks it submits."""
    return {_submission.decode(body).type} if kind == "task" else {task.type for task in wire.flow(body)[0].tasks}


def make(kind: str, body: bytes) -> Make:
    """What submits a stored body. Raises Refused or a decoding error if it is no longer right."""
    if kind == "flow":
        flow, fields = wire.flow(body)
        nodes = graph.plan(flow, fields)
        return lambda tx: (
            None,
            flows.store(tx, flow.name, nodes, checks.submissions(flow.tasks, tx.now, True))[0],
        )
    task = _submission.decode(body)

    def submit(tx: Transaction) -> tuple[int, None]:
        return storage.store(tx, [task], checks.submissions([task], tx.now, False)).ids[0], None

    return submit
