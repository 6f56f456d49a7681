"""A second life for tasks that failed or were cancelled."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import NamedTuple

from dispatcher import kin
from dispatcher.engine import Overtaken
from dispatcher.transaction import Transaction
from shared import errors
from shared.lifecycle import TaskStatus


def revive(tx: Transaction, task_id: int, from_scratch: bool) -> None:
    """A failed or cancelled task lives again, pending or blocked. Conflict: it is neither, or its key is taken."""
    _place(tx, [_begin(tx, task_id, from_scratch)])


def revive_all(tx: Transaction, task_ids: Sequence[int], from_scratch: bool) -> int:
    """The same for those of these tasks that can; returns how many. All live before it is seen who waits."""
    begun = []
    for task_id in task_ids:
        with contextlib.suppress(errors.Conflict, errors.NotFound):
            begun.append(_begin(tx, task_id, from_scratch))
    _place(tx, begun)
    return len(begun)


class _Begun(NamedTuple):
    """A task that lives again, and what it was."""

    task_id: int
    status: TaskStatus
    lane: str
    limit_key: str | None


def _begin(tx: Transaction, task_id: int, from_scratch: bool) -> _Begun:
    found = tx.task_state(task_id=task_id)
    if found is None:
        raise errors.NotFound(f"there is no task {task_id}")
    status, lane, _, _, _, limit_key, _, unique_key = found
    if status not in (TaskStatus.FAILED, TaskStatus.CANCELLED):
        raise errors.Conflict(
            f"task {task_id} is {status}; only failed and cancelled tasks can be revived", status=status
        )
    undo_end(tx, task_id, status, unique_key)
    if from_scratch:
        tx.restart(task_id=task_id)
        tx.drop_checkpoint(task_id=[task_id])
        tx.drop_output(task_id=[task_id])
    return _Begun(task_id, TaskStatus(status), lane, limit_key)


def undo_end(tx: Transaction, task_id: int, status: str, unique_key: str | None) -> None:
    """A task that is failed or cancelled, as `status`, has not ended. Conflict if another one has taken its key.

    Raises Overtaken if it is not `status` any more.
    """
    holder = None if unique_key is None else tx.live_with_key(unique_key=unique_key)
    if holder is not None:
        raise errors.Conflict(
            f"task {holder[0]} is live and has the unique_key {unique_key!r} of task {task_id}; "
            "wait for its end or cancel it",
            task_id=holder[0],
        )
    if tx.revive(task_id=task_id, status=status, now=tx.now) is None:
        raise Overtaken
    tx.drop_results(task_id=[task_id])


def _place(tx: Transaction, tasks: Sequence[_Begun]) -> None:
    """They are pending, or blocked if a parent has not ended."""
    blocked = kin.revived(tx, {task.task_id: task.status for task in tasks})
    for task_id, status, lane, limit_key in tasks:
        target = TaskStatus.BLOCKED if task_id in blocked else TaskStatus.PENDING
        tx.moved(lane, status, target, [task_id], limit_key)
        tx.log("revive", task_id=task_id)
