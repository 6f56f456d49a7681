"""What has happened: the log of a task, and the ended attempts of all tasks by time. Reads only."""

from __future__ import annotations

import math
from heapq import merge
from itertools import islice
from typing import Any

from dispatcher import checks
from dispatcher.database import Database
from dispatcher.transaction import Transaction
from dispatcher.views import history_view, iso
from shared import errors
from shared.operating import HistoryFilter, LogLineView, LogQuery
from shared.protocol import INTEGER_MAX, LOG_LINES_MAX

_ENDLESS = 1e12  # Unix seconds beyond all that happened


class History:
    """Answers questions about the past, each from one short read."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def logs(self, task_id: int, wanted: LogQuery) -> dict[str, Any]:
        """A page of a task's log, oldest first; `next` goes on after it, now or later. NotFound."""
        with self.database.read() as tx:
            if task_id > INTEGER_MAX or tx.task_state(task_id=task_id) is None:
                raise errors.NotFound(f"there is no task {task_id}")
            query = {"task_id": task_id, "attempt": wanted.attempt, "after": wanted.after}
            rows = tx.log_page(**query, n=LOG_LINES_MAX).fetchall()
        lines = [LogLineView(attempt, iso(at) or "", level, text) for _, attempt, at, level, text in rows]
        return {"lines": lines, "next": rows[-1][0] if rows else wanted.after}

    def attempts(self, wanted: HistoryFilter) -> dict[str, Any]:
        """A page of ended attempts, newest first: `{"attempts": [...], "next": cursor or None}`."""
        at, task_id, attempt = _cursor(wanted.after)
        query = {
            "at": at,
            "task_id": task_id,
            "attempt": attempt,
            "since": 0.0 if wanted.since is None else checks.moment(wanted.since, "since"),
            "until": _ENDLESS if wanted.until is None else checks.moment(wanted.until, "until"),
            "type": wanted.type,
            "queue": wanted.queue,
            "worker": wanted.worker,
            "tag": wanted.tag,
            "n": wanted.limit + 1,
        }
        with self.database.read() as tx:
            any_at_all = tx.count_tasks(status=None, type=wanted.type, queue=wanted.queue)
            rows = list(islice(_newest(tx, wanted.outcome, query), wanted.limit + 1)) if any_at_all else []
        shown = rows[: wanted.limit]
        more = len(rows) > len(shown)
        return {"attempts": [history_view(row) for row in shown], "next": _after(shown[-1]) if more else None}


def _newest(tx: Transaction, outcome: str | None, query: dict[str, Any]) -> Any:
    """Two walks by time, each along its own index, as one."""
    completed = tx.history_completed(**query).fetchall() if outcome in (None, "completed") else []
    others = tx.history_others(**query, outcome=outcome).fetchall() if outcome != "completed" else []
    return merge(completed, others, key=_place, reverse=True)


def _place(row: tuple[Any, ...]) -> tuple[float, int, int]:
    return row[8], row[0], row[3]


def _after(row: tuple[Any, ...]) -> str:
    return "_".join(map(repr, _place(row)))


def _cursor(text: str | None) -> tuple[float, int, int]:
    if text is None:
        return _ENDLESS, 0, 0
    try:
        at, task_id, attempt = text.split("_")
        place = float(at), int(task_id), int(attempt)
    except ValueError:
        place = math.nan, 0, 0
    if not (math.isfinite(place[0]) and 0 <= place[1] <= INTEGER_MAX and 0 <= place[2] <= INTEGER_MAX):
        raise errors.Invalid("after must be the `next` of an answer before", field="after")
    return place
