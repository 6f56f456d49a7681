"""Deadlines: a task that was not started in time ends as a dead letter, and is never granted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from dispatcher import kin
from dispatcher.transaction import Transaction
from shared.lifecycle import TaskStatus

ERROR_TYPE = "DeadlineMissed"
_ERROR = msgspec.json.encode({"type": ERROR_TYPE, "message": "its deadline passed before it could start"})


def expire(tx: Transaction, late: Sequence[tuple[Any, ...]]) -> None:
    """End these: rows of (task_id, status, lane, attempt, limit_key), pending or scheduled."""
    tx.expire(task_id=[row[0] for row in late], now=tx.now)
    for task_id, status, lane, attempt, limit_key in late:
        tx.moved(lane, TaskStatus(status), TaskStatus.FAILED, [task_id], limit_key)
        tx.log("expire", task_id=task_id, attempt=attempt)
    ids, attempts = [row[0] for row in late], [row[3] for row in late]
    tx.record_error(task_id=ids, attempt=attempts, error=_ERROR, error_type=ERROR_TYPE)
    kin.departed(tx, ids, TaskStatus.FAILED)
