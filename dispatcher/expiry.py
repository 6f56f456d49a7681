"""Deadlines: a task that was not started in time ends as a dead letter, and is never granted.

One that was started has kept its deadline, which then binds no more, whatever interrupts it; but the retry
of one that failed is a start of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from dispatcher import kin
from dispatcher.transaction import Transaction
from shared.lifecycle import TaskStatus

ERROR_TYPE = "DeadlineMissed"


def expire(tx: Transaction, late: Sequence[tuple[Any, ...]]) -> None:
    """End these: rows of (task_id, status, lane, attempt, limit_key), pending or scheduled."""
    tx.expire(task_id=[row[0] for row in late], now=tx.later())
    for task_id, status, lane, attempt, limit_key in late:
        tx.moved(lane, TaskStatus(status), TaskStatus.FAILED, [task_id], limit_key)
        tx.log("expire", task_id=task_id, attempt=attempt)
    ids, attempts = [row[0] for row in late], [row[3] for row in late]
    tx.record_error(task_id=ids, attempt=attempts, error=list(map(_error, attempts)), error_type=ERROR_TYPE)
    kin.departed(tx, ids, TaskStatus.FAILED)


def _error(attempts: int) -> bytes:
    what = f"attempt {attempts + 1}" if attempts else "it"
    return msgspec.json.encode({"type": ERROR_TYPE, "message": f"its deadline passed before {what} could start"})
