"""Many tasks at once: revive or drop those that a filter finds, bite after bite.

Readers look for them, so that a filter that walks over millions never holds up the writer; the
writer decides again about each, in transactions of some ten milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from dispatcher import limits, second_life, submissions
from dispatcher.database import Database
from dispatcher.transaction import Transaction, encoded
from shared import errors
from shared.operating import DeadFilter, Drop, ReviveMany

BITE = 200  # tasks in one transaction: reviving or dropping one takes some fifty microseconds
Bite = Callable[[Transaction, Sequence[int]], int]


class DeadLetters:
    """Revive and drop by filter."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def revive(self, wanted: ReviveMany) -> int:
        """Make the failed and cancelled ones of these pending again; returns how many.

        Those whose unique_key has gone to another task are left as they are. Invalid: no filter.
        """

        def run(tx: Transaction, ids: Sequence[int]) -> int:
            revived = second_life.revive_all(tx, [*ids, *_parents(tx, wanted, ids)], wanted.from_scratch)
            limits.settle(tx)
            return revived

        return self._each(wanted, wanted.status, run)

    def drop(self, wanted: Drop) -> int:
        """Remove the ended ones of these with all that belongs to them; returns how many. Invalid."""

        def run(tx: Transaction, ids: Sequence[int]) -> int:
            ended = tx.droppable(task_ids=encoded(ids), before=math.inf).fetchall()
            those = [row for row in ended if wanted.status in (None, row[2])]
            submissions.drop(tx, those)
            return len(those)

        return self._each(wanted, wanted.status, run)

    def _each(self, wanted: DeadFilter, status: str | None, run: Bite) -> int:
        _refuse_nothing(wanted, status)
        bites = self._found(wanted, status) if wanted.ids is None else _bites(sorted(set(wanted.ids)))
        return sum(self.database.write(partial(_with, run, ids)) for ids in bites)

    def _found(self, wanted: DeadFilter, status: str | None) -> Iterator[Sequence[int]]:
        """The ids that fit, as many as make a bite at a time."""
        query = {"status": status, "type": wanted.type, "queue": wanted.queue, "n": BITE}
        after = 0
        while True:
            with self.database.read() as tx:
                ids = [task_id for (task_id,) in _matching(tx, wanted, query | {"after": after})]
            if ids:
                yield ids
            if len(ids) < BITE:
                return
            after = ids[-1]


def _with(run: Bite, ids: Sequence[int], tx: Transaction) -> int:
    return run(tx, ids)


def _refuse_nothing(wanted: DeadFilter, status: str | None) -> None:
    some = (status, wanted.type, wanted.queue, wanted.tag, wanted.error_type)
    given = any(value is not None for value in some)
    if wanted.ids is None and not given:
        raise errors.Invalid("name ids, or one of status, type, queue, tag, error_type: not every task", field="")
    if wanted.ids is not None and given:
        raise errors.Invalid("ids go without a filter", field="ids")


def _matching(tx: Transaction, wanted: DeadFilter, query: dict[str, Any]) -> Any:
    if wanted.tag is not None:
        return tx.ended_ids_with_tag(tag=wanted.tag, error_type=wanted.error_type, **query)
    if wanted.error_type is not None:
        return tx.ended_ids_with_error(error_type=wanted.error_type, **query)
    if query["status"] in ("failed", "cancelled"):
        return tx.ended_ids_dead(**query)
    return tx.ended_ids(**query)


def _parents(tx: Transaction, wanted: ReviveMany, ids: Sequence[int]) -> list[int]:
    """Dead letters of later bites that these depend on: they live again with them, so that these wait for them."""
    query = {"status": wanted.status, "type": wanted.type, "queue": wanted.queue}
    query |= {"tag": wanted.tag, "error_type": wanted.error_type}
    above = [task_id for (task_id,) in tx.dead_above(node_ids=encoded(ids), after=ids[-1], **query).fetchall()]
    return above if wanted.ids is None else sorted({*above}.intersection(wanted.ids))


def _bites(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    return (ids[first : first + BITE] for first in range(0, len(ids), BITE))
