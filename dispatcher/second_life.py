"""A second life for tasks that failed or were cancelled."""

from __future__ import annotations

from dispatcher import kin
from dispatcher.transaction import Transaction
from shared import errors
from shared.lifecycle import TaskStatus


def check_key(tx: Transaction, task_id: int, unique_key: str | None) -> None:
    """Conflict if another task has taken the key since."""
    if unique_key is None:
        return
    holder = tx.live_with_key(unique_key=unique_key)
    if holder is not None:
        raise errors.Conflict(
            f"task {holder[0]} is live and has the unique_key {unique_key!r} of task {task_id}; "
            "wait for its end or cancel it",
            task_id=holder[0],
        )


def revive(tx: Transaction, task_id: int, from_scratch: bool) -> None:
    """A failed or cancelled task lives again, pending or blocked. Conflict: it is neither, or its key is taken."""
    status, where, _, _, _, limit_key, _, unique_key = tx.task_state(task_id=task_id)
    check_key(tx, task_id, unique_key)
    if tx.revive(task_id=task_id, now=tx.now) is None:
        raise errors.Conflict(
            f"task {task_id} is {status}; only failed and cancelled tasks can be revived", status=status
        )
    tx.drop_result(task_id=task_id)
    if from_scratch:
        tx.restart(task_id=task_id)
        tx.drop_checkpoint(task_id=[task_id])
        tx.drop_output(task_id=[task_id])
    target = kin.revived(tx, task_id, TaskStatus(status))
    tx.moved(where, TaskStatus(status), target, [task_id], limit_key)
    tx.log("revive", task_id=task_id)
