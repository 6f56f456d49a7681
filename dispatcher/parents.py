"""What a task is told of its parents when it is granted: {"status", "result", "error"} by key.

Read outside the writer's thread: they have ended, and nothing changes them. Of a fan-out a list, in
the order of its items. What exceeds the limit in all is left out and says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from dispatcher.database import Database
from dispatcher.leases import Claim
from dispatcher.transaction import Transaction
from shared.flows import PARENTS_BYTES_MAX
from shared.protocol import NULL, Grant, Raw

_encode = msgspec.json.Encoder().encode
_TOO_LARGE = {
    "type": "TooLarge",
    "message": f"what the parents answered is over {PARENTS_BYTES_MAX} bytes in all; ask for it by its task's id",
}


def tell(database: Database, claims: Sequence[Claim], grants: Sequence[Grant]) -> None:
    """Fill in `parents` of those grants whose tasks have some."""
    children = {task_id for claim in claims for task_id in claim.children}
    if children:
        with database.read() as tx:
            for grant in grants:
                if grant.task_id in children:
                    grant.parents = _Telling(tx).of(grant.task_id)


class _Telling:
    """What one task is told; `left`: bytes that may still be told."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._left = PARENTS_BYTES_MAX

    def of(self, child_id: int) -> dict[str, Raw]:
        """By key. The parts of a fan-out have the parents of their fork."""
        told: dict[str, Raw] = {}
        for key, parent_id, status, result, error, kind in self._rows(child_id):
            if kind == "fork":
                told |= self.of(parent_id)
            elif kind == "join":
                told[key] = Raw(_encode(self._parts(parent_id, status, error)))
            else:
                told[key] = Raw(_encode(self._entry(parent_id, status, result, error)))
        return told

    def _parts(self, join_id: int, status: str, error: bytes | None) -> list[dict[str, Any]]:
        """In order; one entry without a result if the fan-out could not be made."""
        parts = [self._entry(*row[1:5]) for row in self._rows(join_id) if row[5] is None]
        return parts if parts or status == "completed" else [self._entry(None, status, None, error)]

    def _rows(self, child_id: int) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = self._tx.parents(child_id=child_id).fetchall()
        return rows

    def _entry(
        self, task_id: int | None, status: str, result: bytes | None, error: bytes | None
    ) -> dict[str, Any]:
        size = len(result or b"") + len(error or b"")
        if size > self._left:
            return {"status": status, "result": None, "error": {**_TOO_LARGE, "task_id": task_id}}
        self._left -= size
        return {
            "status": status,
            "result": NULL if result is None else Raw(result),
            "error": NULL if error is None else Raw(error),
        }
