"""What a task is told of its parents when it is granted: {"status", "result", "error"} by key.

Of a fan-out a list, in the order of its items. They have ended, so it is read after the
transaction. What exceeds the limit in all is left out and says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Raw

from dispatcher.transaction import Transaction, encoded
from shared.flows import PARENTS_BYTES_MAX
from shared.protocol import Grant

Edges = Mapping[int, tuple[tuple[str, int], ...]]  # (key, parent_id) by child, in order
_encode = msgspec.json.Encoder().encode
_GONE = b'{"status":null,"result":null,"error":null}'  # somebody has dropped the task
_TOO_LARGE = {
    "type": "TooLarge",
    "message": f"what the parents answered is over {PARENTS_BYTES_MAX} bytes in all; ask for it by its task's id",
}


def above(tx: Transaction, children: Sequence[int]) -> Edges:
    """Who the parents of these tasks, or nodes, are."""
    found: dict[int, list[tuple[str, int]]] = {}
    for child_id, _, key, parent_id in sorted(tx.edges_above(node_ids=encoded(children))):
        if child_id in found:
            found[child_id].append((key, parent_id))
        else:
            found[child_id] = [(key, parent_id)]
    return {child_id: tuple(edges) for child_id, edges in found.items()}


def fitting(tx: Transaction, chosen: Sequence[int], edges: Edges, limit: int) -> int:
    """How many of the chosen tasks, the first one at least, go into an answer with what they are told."""
    if len(chosen) == 1:
        return 1
    parents = _parents(edges)
    sizes = dict.fromkeys(parents, 0)
    sizes |= dict(tx.ends_bytes(node_ids=encoded([parent for parent in sizes if parent > 0])))
    sizes |= {parent: tx.parents_bytes(child_id=parent) for parent in sizes if parent < 0}
    if sum(map(sizes.__getitem__, parents)) <= limit:
        return len(chosen)  # as nearly always
    total = 0
    for n, task_id in enumerate(chosen):
        total += min(sum(sizes[parent] for _, parent in edges.get(task_id, ())), PARENTS_BYTES_MAX)
        if n and total > limit:
            return n
    return len(chosen)


def tell(tx: Transaction, edges: Edges, grants: Sequence[Grant]) -> None:
    """Fill in `parents` of those grants whose tasks have some."""
    told = [grant for grant in grants if grant.task_id in edges]
    telling = _Telling(tx, {grant.task_id: edges[grant.task_id] for grant in told})
    for grant in told:
        grant.parents = telling.of(grant.task_id)


def _parents(edges: Edges) -> list[int]:
    """One for each edge."""
    return [parent_id for above in edges.values() for _, parent_id in above]


class _Telling:
    """What the tasks of one answer are told; each parent is looked up, and put into words, once."""

    def __init__(self, tx: Transaction, edges: Edges) -> None:
        self._tx = tx
        self._edges = dict(edges)
        self._ends: dict[
            int, tuple[bytes, int, str]
        ] = {}  # of a parent: what is told, how much it answered, status
        self._nodes: dict[int, tuple[Any, ...]] = {}
        self._told: dict[tuple[tuple[str, int], ...], Raw] = {}  # the same to all of the same parents
        self._left = 0  # bytes that the present task may still be told
        self._look_up(_parents(edges))

    def _look_up(self, node_ids: Iterable[int]) -> None:
        wanted = encoded([node_id for node_id in set(node_ids) if node_id > 0])
        for task_id, status, result, error in self._tx.ends(node_ids=wanted):
            size = len(result or b"") + len(error or b"")
            self._ends[task_id] = _words(status, result, error), size, status

    def of(self, task_id: int) -> Raw:
        """By key, as JSON."""
        edges = self._edges[task_id]
        told = self._told.get(edges)
        if told is None:
            self._left = PARENTS_BYTES_MAX
            entries = b",".join([b"%b:%b" % (_encode(key), entry) for key, entry in self._of(task_id).items()])
            told = self._told[edges] = Raw(b"{%b}" % entries)
        return told

    def _of(self, child_id: int) -> dict[str, bytes]:
        told: dict[str, bytes] = {}
        for key, parent_id in self._above(child_id):
            if parent_id > 0:
                told[key] = self._entry(parent_id)
            elif self._node(parent_id)[1] == "fork":  # a part has the parents of its fork
                told |= self._of(parent_id)
            else:
                told[key] = b"[%b]" % b",".join(self._parts(parent_id))
        return told

    def _above(self, child_id: int) -> tuple[tuple[str, int], ...]:
        if child_id not in self._edges:
            found = above(self._tx, [child_id])
            self._look_up(_parents(found))
            self._edges[child_id] = found.get(child_id, ())
        return self._edges[child_id]

    def _node(self, node_id: int) -> tuple[Any, ...]:
        if node_id not in self._nodes:
            self._nodes[node_id] = self._tx.node(node_id=node_id)
        return self._nodes[node_id]

    def _parts(self, join_id: int) -> list[bytes]:
        """In order; one entry without a result if the fan-out could not be made."""
        parts = [self._entry(parent_id) for _, parent_id in self._above(join_id) if parent_id > 0]
        *_, status, error = self._node(join_id)
        return parts if parts or status == "completed" else [_words(status, None, error)]

    def _entry(self, task_id: int) -> bytes:
        told, size, status = self._ends.get(task_id, (_GONE, 0, ""))
        if size > self._left:
            return _words(status, None, _encode({**_TOO_LARGE, "task_id": task_id}))
        self._left -= size
        return told


def _words(status: str, result: bytes | None, error: bytes | None) -> bytes:
    return b'{"status":"%b","result":%b,"error":%b}' % (status.encode(), result or b"null", error or b"null")
