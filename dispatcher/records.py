"""What the database's rows look like from outside: tasks, attempts, workers, counts. Reads only."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

import msgspec

from dispatcher.database import Database
from dispatcher.explain import Explainer
from dispatcher.history import History
from dispatcher.limits import Kind
from dispatcher.submissions import HAS_PARENTS
from dispatcher.transaction import Transaction, encoded
from dispatcher.views import attempt_view, iso, task_view, worker_view
from shared import errors
from shared.lifecycle import ENDED, GONE, TaskStatus, WorkerState
from shared.protocol import DEFAULT_QUEUE, INTEGER_MAX, AttemptView, TaskFilter, TaskView, WorkerView
from shared.settings import Settings
from shared.wording import near_miss

PAGE_BYTES = 8 * 1024 * 1024  # a page of tasks with large bodies ends early
OUTPUT_CHUNKS = 16  # read at a time: at most 16 MiB in memory
SHOWN_SECONDS = 86400.0  # workers that are gone are shown for a day


class Records:
    """Answers questions about the database, each from one short read."""

    def __init__(self, database: Database, settings: Settings, version: str) -> None:
        self.database = database
        self.settings = settings
        self.version = version
        self.history = History(database)
        self.explainer = Explainer(database)
        self._started = time.monotonic()

    def task(self, task_id: int, wait_seconds: float = 0.0) -> TaskView:
        """One task; with `wait_seconds` once it has ended, or as it is after that time. NotFound."""
        view = self._task(task_id)
        if wait_seconds > 0 and view.status not in ENDED:
            seconds = min(wait_seconds, self.settings.long_poll_seconds)
            self.database.wait_for_end(task_id, lambda: self._task(task_id).status in ENDED, seconds)
            view = self._task(task_id)
        return view

    def _task(self, task_id: int) -> TaskView:
        with self.database.read() as tx:
            view = self._view(tx, task_id)
            view.output_chunks = tx.output_chunks(task_id=task_id) or msgspec.UNSET
        return view

    def _view(self, tx: Transaction, task_id: int) -> TaskView:
        views = _views(tx, [task_id]) if task_id <= INTEGER_MAX else []
        if not views:
            raise errors.NotFound(f"there is no task {task_id}")
        return views[0]

    def tasks(self, wanted: TaskFilter) -> dict[str, Any]:
        """A page, newest first: `{"tasks": [...], "next": cursor or None}`."""
        kind = {"status": wanted.status, "type": wanted.type, "queue": wanted.queue}
        with self.database.read() as tx:
            # Who looks for what is rare, or a name with a slip in it, need not walk past all the others.
            n = min(wanted.limit + 1, tx.count_tasks(**kind))
            query = {"after": wanted.after or INTEGER_MAX, **kind, "n": n}
            ids = [task_id for (task_id,) in _matching(tx, wanted, query)] if n else []
            page = _page(tx, ids[: wanted.limit])
            views = _views(tx, page)
        return {"tasks": views, "next": page[-1] if len(page) < len(ids) else None}

    def attempts(self, task_id: int) -> list[AttemptView]:
        """The history of a task, oldest first. NotFound."""
        with self.database.read() as tx:
            self._view(tx, task_id)
            return [attempt_view(row) for row in tx.attempt_views(task_id=task_id)]

    def checkpoint(self, task_id: int) -> dict[str, Any]:
        """The newest checkpoint. NotFound if the task or its checkpoint is not there."""
        with self.database.read() as tx:
            self._view(tx, task_id)
            row = tx.checkpoint_view(task_id=task_id)
        if row is None:
            raise errors.NotFound(f"task {task_id} has no checkpoint")
        names = ("task_id", "attempt", "seq", "state", "progress", "elapsed_seconds", "saved_at")
        view = dict(zip(names, row, strict=True))
        return view | {"state": msgspec.Raw(view["state"]), "saved_at": iso(view["saved_at"])}

    def output(self, task_id: int) -> Iterator[bytes]:
        """The task's output as lines of JSON, a few chunks at a time. NotFound."""
        self._task(task_id)
        return self._output_lines(task_id)

    def _output_lines(self, task_id: int) -> Iterator[bytes]:
        first = 0
        while True:
            with self.database.read() as tx:
                rows = tx.output_page(task_id=task_id, first=first, n=OUTPUT_CHUNKS).fetchall()
            if not rows:
                return
            yield b"".join(_one_line(body) + b"\n" for _, body in rows)
            first = rows[-1][0] + 1

    def workers(self) -> list[WorkerView]:
        """The workers, alive ones first; gone ones for a day."""
        with self.database.read() as tx:
            rows = tx.worker_views(since=tx.now - SHOWN_SECONDS).fetchall()
            return [worker_view(row, tx.lease_now) for row in rows]

    def worker(self, name_or_id: str, gone_first: bool = False) -> WorkerView:
        """A worker by its id, or by its name if only one has it. NotFound, Conflict.

        The living come first, or (for who removes one) those that are gone.
        """
        views = self.workers()
        found = [view for view in views if view.worker_id == name_or_id]
        found = found or [view for view in views if view.name == name_or_id]
        candidates = [view for view in found if (view.state in GONE) == gone_first] or found
        if not candidates:
            raise errors.NotFound(f"there is no worker {name_or_id!r}")
        if len(candidates) > 1:
            ids = [view.worker_id for view in candidates]
            raise errors.Conflict(f"several workers are named {name_or_id!r}; use an id: {', '.join(ids)}")
        return candidates[0]

    def queues(self) -> dict[str, Any]:
        """What stands in each queue, which queues are paused, and which types."""
        names = {"blocked": 0, "scheduled": 0, "pending": 0, "in-progress": 0, "failed": 0}
        with self.database.read() as tx:
            paused = tx.pauses().fetchall()
            counts: dict[str, dict[str, int]] = {name: dict(names) for kind, name in paused if kind == "queue"}
            for queue, status, n in tx.queue_views():
                counts.setdefault(queue, dict(names))[status] = n
        queues = [
            {
                "queue": queue,
                "paused": ("queue", queue) in paused,
                **{"running" if name == "in-progress" else name: count[name] for name in names},
            }
            for queue, count in sorted(counts.items())
        ]
        return {"queues": queues, "paused_types": [name for kind, name in paused if kind == "type"]}

    def stranger_warning(self, kind: Kind, name: str) -> str | None:
        """A sentence about a queue or type of which there is nothing: no task, no worker's word, no pause."""
        place = int(kind == "type")
        with self.database.read() as tx:
            if (kind, name) in tx.pauses().fetchall():
                return None
            known = {lane[place] for lane in tx.known_lanes()} | ({DEFAULT_QUEUE} if kind == "queue" else set())
        for worker in self.workers():
            known |= set((worker.queues, worker.types)[place] or ())
        if name in known:
            return None
        near = near_miss(name, frozenset(known))
        return f"nothing is known of a {kind} {name!r} yet" + (f"; did you mean {near!r}?" if near else "")

    def stats(self) -> dict[str, Any]:
        """Counts by status, of workers, the last minute, and work useful, saved and lost in seconds."""
        with self.database.read() as tx:
            tasks = {str(status): 0 for status in TaskStatus} | dict(tx.count_views().fetchall())
            workers = {str(state): 0 for state in WorkerState}
            workers |= dict(tx.worker_counts(since=tx.now - SHOWN_SECONDS).fetchall())
            completed = tx.completed_since(since=int(tx.now) - 60)
            health = _health(tx)
            work = dict.fromkeys(("useful", "saved", "lost"), 0.0) | dict(tx.work_views().fetchall())
            paused = tx.pauses().fetchall()
        return {
            "tasks": {**tasks, "total": sum(tasks.values())},
            "workers": workers,
            "paused": {f"{kind}s": [name for of, name in paused if of == kind] for kind in ("queue", "type")},
            "completed_last_minute": completed,
            "work": {f"{kind}_seconds": round(max(0.0, seconds), 3) for kind, seconds in work.items()},
            "uptime_seconds": round(time.monotonic() - self._started, 3),
            "version": self.version,
            **health,
        }

    def health(self) -> dict[str, Any]:
        """What slows a shared server down; nothing for a file of our own."""
        with self.database.read() as tx:
            return _health(tx)


def _page(tx: Transaction, task_ids: list[int]) -> list[int]:
    """As many of the tasks as a page takes, with the one that makes it too large."""
    sizes = dict(tx.bodies_bytes(task_ids=encoded(task_ids)))
    before = accumulate((sizes[task_id] for task_id in task_ids), initial=0)
    return [task_id for task_id, size in zip(task_ids, before, strict=False) if size <= PAGE_BYTES]


def _views(tx: Transaction, task_ids: list[int]) -> list[TaskView]:
    """Those of the tasks that there are, in this order."""
    rows = {row[0]: row for row in tx.task_views(task_ids=encoded(task_ids))}
    views = {task_id: task_view(rows[task_id], tx.now) for task_id in task_ids if task_id in rows}
    parents = {task_id: list[int]() for task_id in views if (rows[task_id][-1] or 0) & HAS_PARENTS}
    for child_id, parent_id in tx.parent_ids(node_ids=encoded(list(parents))) if parents else ():
        parents[child_id].append(parent_id)
    for child_id, parent_ids in parents.items():
        views[child_id].depends_on = parent_ids
    return list(views.values())


def _matching(tx: Transaction, wanted: TaskFilter, query: dict[str, Any]) -> Any:
    """The statement whose index fits the filter: rare statuses must not mean a walk over millions."""
    if wanted.tag is not None:
        return tx.task_ids_with_tag(tag=wanted.tag, error_type=wanted.error_type, **query)
    if wanted.error_type is not None:
        return tx.task_ids_with_error(error_type=wanted.error_type, **query)
    rare = {"failed": "dead", "cancelled": "dead", "in-progress": "held", "scheduled": "due"}
    statement = f"task_ids_{rare[wanted.status]}" if wanted.status in rare else "task_ids"
    return getattr(tx, statement)(**query)


def _health(tx: Transaction) -> dict[str, Any]:
    oldest, dead = tx.database_health()
    return {} if oldest is None else {"oldest_transaction_seconds": round(oldest, 3), "dead_rows": dead}


def _one_line(body: bytes) -> bytes:
    """Line breaks in JSON stand only between values, never inside one, so a blank does as well."""
    return body.replace(b"\n", b" ").replace(b"\r", b" ")
