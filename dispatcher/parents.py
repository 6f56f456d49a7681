"""What a task is told of its parents when it is granted: {"status", "result", "error"} by key.

Of a fan-out a list, in the order of its items. They have ended, so it is read outside the writer's
thread. What exceeds the limit in all is left out and says so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from typing import Any

import msgspec
from msgspec import Raw

from dispatcher.transaction import Transaction, encoded
from shared.flows import PARENTS_BYTES_MAX
from shared.protocol import NULL, Grant

_encode = msgspec.json.Encoder().encode
_TOO_LARGE = {
    "type": "TooLarge",
    "message": f"what the parents answered is over {PARENTS_BYTES_MAX} bytes in all; ask for it by its task's id",
}


def fitting(tx: Transaction, chosen: Sequence[int], children: Sequence[int], limit: int) -> int:
    """How many of the chosen tasks, the first one at least, go into an answer with what they are told."""
    through = cache(lambda node_id: tx.parents_bytes(child_id=node_id))  # of many children the same fork or join
    sizes: dict[int, int] = {}
    for child_id, size, lowest in tx.parents_sizes(node_ids=encoded(children)).fetchall():
        if lowest < 0:
            size += sum(through(parent) for (parent,) in tx.forks_and_joins_above(child_id=child_id))
        sizes[child_id] = min(size, PARENTS_BYTES_MAX)
    total = 0
    for n, task_id in enumerate(chosen):
        total += sizes.get(task_id, 0)
        if n and total > limit:
            return n
    return len(chosen)


def tell(tx: Transaction, children: Sequence[int], grants: Sequence[Grant]) -> None:
    """Fill in `parents` of those grants whose tasks are `children`."""
    telling = _Telling(tx, children)
    wanted = set(children)
    for grant in grants:
        if grant.task_id in wanted:
            grant.parents = telling.of(grant.task_id)


class _Telling:
    """What the tasks of one answer are told; forks and joins are looked up once."""

    def __init__(self, tx: Transaction, children: Sequence[int]) -> None:
        self._tx = tx
        self._known = self._rows(children)
        self._nodes: dict[int, tuple[Any, ...]] = {}
        self._left = 0  # bytes that the present task may still be told

    def _rows(self, node_ids: Sequence[int]) -> dict[int, list[tuple[Any, ...]]]:
        """(key, parent_id, status, result, error) of the parents of each."""
        found: defaultdict[int, list[tuple[Any, ...]]] = defaultdict(list)
        for child_id, *row in self._tx.parents(node_ids=encoded(node_ids)):
            found[child_id].append(tuple(row))
        return found

    def of(self, task_id: int) -> dict[str, Raw]:
        """By key."""
        self._left = PARENTS_BYTES_MAX
        return self._of(task_id)

    def _of(self, child_id: int) -> dict[str, Raw]:
        told: dict[str, Raw] = {}
        for key, parent_id, *end in self._above(child_id):
            if parent_id > 0:
                told[key] = Raw(_encode(self._entry(parent_id, *end)))
            elif self._node(parent_id)[1] == "fork":  # a part has the parents of its fork
                told |= self._of(parent_id)
            else:
                told[key] = Raw(_encode(self._parts(parent_id)))
        return told

    def _above(self, child_id: int) -> list[tuple[Any, ...]]:
        if child_id not in self._known:
            self._known |= self._rows([child_id])
        return self._known.get(child_id, [])

    def _node(self, node_id: int) -> tuple[Any, ...]:
        if node_id not in self._nodes:
            self._nodes[node_id] = self._tx.node(node_id=node_id)
        return self._nodes[node_id]

    def _parts(self, join_id: int) -> list[dict[str, Any]]:
        """In order; one entry without a result if the fan-out could not be made."""
        parts = [self._entry(*row[1:]) for row in self._above(join_id) if row[1] > 0]
        *_, status, error = self._node(join_id)
        return parts if parts or status == "completed" else [self._entry(None, status, None, error)]

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
