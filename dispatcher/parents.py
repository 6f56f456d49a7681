"""What a task is told of its parents when it is granted: {"status", "result", "error"} by key.

Of a fan-out a list, in the order of its items. They have ended, so it is read after the
transaction. What exceeds the limit in all is left out and says so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Final

import msgspec
from msgspec import Raw

from dispatcher.transaction import Transaction, encoded
from shared.flows import PARENTS_BYTES_MAX
from shared.protocol import Grant

Edges = Mapping[int, tuple[tuple[str, int], ...]]  # (key, parent_id) by child, in order
End = tuple[int, str | None, bytes | None, bytes | None]  # task_id, status, result, error
_encode = msgspec.json.Encoder().encode
_edges = msgspec.json.Decoder(list[tuple[int, int, str, int]])  # child_id, position, key, parent_id
_GONE: Final = (0, None, None, None)  # somebody has dropped the task
_TOO_LARGE = {
    "type": "TooLarge",
    "message": f"what the parents answered is over {PARENTS_BYTES_MAX} bytes in all; ask for it by its task's id",
}


def above(tx: Transaction, children: Sequence[int]) -> Edges:
    """Who the parents of these tasks, or nodes, are."""
    found: dict[int, list[tuple[str, int]]] = {}
    for child_id, _, key, parent_id in sorted(_edges.decode(tx.edges_above(node_ids=encoded(children)))):
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


def tell(tx: Transaction, edges: Edges, grants: Iterable[Grant]) -> None:
    """Fill in `parents` of those grants whose tasks have some; tasks of the same parents are told the same."""
    alike: defaultdict[tuple[tuple[str, int], ...], list[Grant]] = defaultdict(list)
    for grant in grants:
        if grant.task_id in edges:
            alike[edges[grant.task_id]].append(grant)
    telling = _Telling(tx, {parent_id for above in alike for _, parent_id in above})
    for above, told in alike.items():
        words = telling.of(above)
        for grant in told:
            grant.parents = words


def _parents(edges: Edges) -> list[int]:
    """One for each edge."""
    return [parent_id for above in edges.values() for _, parent_id in above]


class _Telling:
    """What the tasks of one answer are told, who have these `parents`; each is looked up once."""

    def __init__(self, tx: Transaction, parents: Iterable[int]) -> None:
        self._tx = tx
        self._ends: dict[int, End] = {}
        self._nodes: dict[int, tuple[Any, ...]] = {}
        self._above_nodes: dict[int, tuple[tuple[str, int], ...]] = {}
        self._left = 0  # bytes that the present task may still be told
        self._look_up(parents)

    def _look_up(self, node_ids: Iterable[int]) -> None:
        wanted = [node_id for node_id in node_ids if node_id > 0]
        self._ends.update((end[0], end) for end in self._tx.ends(node_ids=encoded(wanted)))

    def of(self, edges: Iterable[tuple[str, int]]) -> Raw:
        """By key, as JSON."""
        self._left = PARENTS_BYTES_MAX
        entries = [b"%b:%b" % (_encode(key), entry) for key, entry in self._entries(edges).items()]
        return Raw(b"{%b}" % b",".join(entries))

    def _entries(self, edges: Iterable[tuple[str, int]]) -> dict[str, bytes]:
        told: dict[str, bytes] = {}
        for key, parent_id in edges:
            if parent_id > 0:
                told[key] = self._entry(parent_id)
            elif self._node(parent_id)[1] == "fork":  # a part has the parents of its fork
                told |= self._entries(self._above(parent_id))
            else:
                told[key] = b"[%b]" % b",".join(self._parts(parent_id))
        return told

    def _above(self, node_id: int) -> tuple[tuple[str, int], ...]:
        if node_id not in self._above_nodes:
            found = above(self._tx, [node_id])
            self._look_up({*_parents(found)} - self._ends.keys())
            self._above_nodes[node_id] = found.get(node_id, ())
        return self._above_nodes[node_id]

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
        _, status, result, error = self._ends.get(task_id, _GONE)
        if result is None and error is None:
            return _words_alone(status)
        size = (0 if result is None else len(result)) + (0 if error is None else len(error))
        if size > self._left:
            result, error = None, _encode({**_TOO_LARGE, "task_id": task_id})
        else:
            self._left -= size
        return _words(status, result, error)


@cache
def _words_alone(status: str | None) -> bytes:
    return _words(status, None, None)


def _words(status: str | None, result: bytes | None, error: bytes | None) -> bytes:
    return b'{"status":%b,"result":%b,"error":%b}' % (_encode(status), result or b"null", error or b"null")
