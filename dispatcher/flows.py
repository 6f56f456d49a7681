"""Flows: stored whole or not at all, looked at, cancelled, and revived where they failed.

What the graph must be like is in graph.py, what happens when one of its tasks ends in kin.py.
A flow has no status of its own: it follows from the counts of its tasks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import msgspec

from dispatcher import attempts, checks, fanout, graph, idempotency, kin, second_life
from dispatcher import submissions as storage
from dispatcher.checks import Times
from dispatcher.database import Database
from dispatcher.graph import Node
from dispatcher.idempotency import Answer, Repeatable
from dispatcher.operation import Run
from dispatcher.registry import Registry
from dispatcher.submissions import HAS_CHILDREN, HAS_PARENTS, Place
from dispatcher.transaction import Transaction, encoded
from dispatcher.views import ERROR_BYTES_READ, iso, short_error
from shared import errors
from shared.flows import FlowFilter, FlowStatus, FlowSubmission, FlowTask, FlowTaskView, FlowView
from shared.lifecycle import TaskStatus
from shared.protocol import INTEGER_MAX

_encode = msgspec.json.Encoder().encode


class Made(NamedTuple):
    """A flow that was stored: the ids of its tasks by key (None: not known yet), and a warning or None."""

    flow_id: int
    task_ids: dict[str, int | None]
    warning: str | None


class Flows:
    """The verbs of flows, each one transaction, and the questions about them."""

    def __init__(self, database: Database, registry: Registry, write: Callable[[Run], Any]) -> None:
        """`write`: Ledger._write, which sees to limits as well."""
        self._database = database
        self._registry = registry
        self._write = write

    def submit(self, flow: FlowSubmission, fields: Mapping[str, str]) -> Made:
        """Store a flow. `fields`: where the parents of a key were written.

        Raises Invalid or TooLarge naming field or path.
        """
        made: Made = self._write(self._submitting(flow, fields))
        return made

    def submit_once(
        self,
        repeatable: Repeatable,
        flow: FlowSubmission,
        fields: Mapping[str, str],
        answer: Callable[[Made], Answer],
    ) -> Answer:
        """As `submit`, but a request that comes again gets the `answer` of the first. Invalid: another body."""
        store = self._submitting(flow, fields)
        final: Answer = self._write(lambda tx: idempotency.once(tx, repeatable, lambda: answer(store(tx))))
        return final

    def _submitting(self, flow: FlowSubmission, fields: Mapping[str, str]) -> Callable[[Transaction], Made]:
        times = checks.submissions(flow.tasks, self._database.clock.wall(), True)
        nodes = graph.plan(flow, fields)

        def run(tx: Transaction) -> Made:
            warning = self._registry.unknown_types_warning(tx, {task.type for task in flow.tasks})
            return Made(*store(tx, flow.name, nodes, times), warning)

        return run

    def cancel(self, flow_id: int) -> None:
        """End what has not ended of a flow. NotFound, AlreadyEnded."""

        def run(tx: Transaction) -> None:
            view = _summary(tx, flow_id)
            if view.status != "running":
                raise errors.AlreadyEnded(
                    f"flow {flow_id} has already ended: it is {view.status}", status=view.status
                )
            _cancel(tx, flow_id)
            tx.log("cancel_flow", flow_id=flow_id)

        self._write(run)

    def revive(self, flow_id: int) -> None:
        """Give what failed or was cancelled in a flow a second life, and nothing else. NotFound, Conflict."""

        def run(tx: Transaction) -> None:
            view = _summary(tx, flow_id)
            if not _revive(tx, flow_id):
                raise errors.Conflict(
                    f"flow {flow_id} is {view.status}: none of its tasks failed or was cancelled",
                    status=view.status,
                )
            tx.log("revive_flow", flow_id=flow_id)

        self._write(run)

    def show(self, flow_id: int) -> FlowView:
        """A flow with its tasks, in the order in which they were given. NotFound."""
        with self._database.read() as tx:
            view = _summary(tx, flow_id)
            view.tasks = _tasks(tx, flow_id)
        return view

    def page(self, wanted: FlowFilter) -> dict[str, Any]:
        """A page, newest first: `{"flows": [...], "next": cursor or None}`."""
        with self._database.read() as tx:
            rows = tx.flow_page(after=wanted.after or INTEGER_MAX, n=wanted.limit + 1).fetchall()
            views = _views(tx, rows[: wanted.limit])
        return {"flows": views, "next": views[-1].flow_id if len(rows) > wanted.limit else None}


# ---------------------------------------------------------------- storing


def store(
    tx: Transaction, name: str | None, nodes: Sequence[Node], times: Sequence[Times]
) -> tuple[int, dict[str, int | None]]:
    """Store a flow that graph.plan has found right; returns its id and the ids of its tasks by key. Conflict."""
    _check_keys(tx, nodes)
    flow_id: int = tx.add_flow(name=name, now=tx.now)
    return flow_id, _Storing(tx, flow_id, nodes, times).task_ids()


def _check_keys(tx: Transaction, nodes: Sequence[Node]) -> None:
    """Before anything is written: a refusal leaves nothing half-made, whoever goes on after it."""
    keys = [node.task.unique_key for node in nodes if node.task.unique_key is not None]
    if len(set(keys)) < len(keys) or any(tx.live_with_key(unique_key=key) for key in keys):
        raise errors.Conflict("a unique_key of the flow is taken, by a live task or twice in the flow itself")


class _Storing:
    """A flow on its way into the database: first the tasks, then, with their ids, nodes and edges."""

    def __init__(self, tx: Transaction, flow_id: int, nodes: Sequence[Node], times: Sequence[Times]) -> None:
        self.tx = tx
        self.flow_id = flow_id
        self.nodes = nodes
        self.times = times
        self.with_children = {parent for node in nodes for parent in node.parents}
        self.ids = self._store_tasks()
        self.forks, self.joins = self._name_forks_and_joins()
        self._store_nodes()
        self._store_edges()
        self._begin()

    def task_ids(self) -> dict[str, int | None]:
        """Of each key, and of each part of a fan-out."""
        found: dict[str, int | None] = {}
        for node, ids in zip(self.nodes, self.ids, strict=True):
            if node.task.map is None:
                found[node.key] = ids[0]
            elif ids:
                found |= {fanout.part_key(node.key, index): task_id for index, task_id in enumerate(ids)}
            else:
                found[node.key] = None
        return found

    def _store_tasks(self) -> list[list[int]]:
        """Returns the ids of the tasks of each node: one, or as many as a fan-out has parts."""
        tasks: list[FlowTask] = []
        times: list[Times] = []
        places: list[Place] = []
        sizes: list[int] = []
        for node, when in zip(self.nodes, self.times, strict=True):
            task, waiting = node.task, len(node.parents)
            relatives = HAS_CHILDREN if node.key in self.with_children or task.map is not None else 0
            relatives |= HAS_PARENTS if waiting else 0
            if task.map is None:
                tasks.append(task)
                sizes.append(1)
            else:
                tasks += [graph.single(task, payload) for payload in node.payloads or ()]
                sizes.append(len(node.payloads or ()))
                waiting = min(waiting, 1)  # a part waits for its fork alone
            alike = sizes[-1]
            times += [when] * alike
            places += [Place(self.flow_id, relatives or None, waiting)] * alike
        ids, _ = storage.insert(self.tx, tasks, times, places)
        ends = list(accumulate(sizes))
        return [ids[end - size : end] for size, end in zip(sizes, ends, strict=True)]

    def _name_forks_and_joins(self) -> tuple[dict[str, int], dict[str, int]]:
        """Ids for the nodes that are no tasks: below zero, and never given before either."""
        joins = [node.key for node in self.nodes if node.task.map is not None]
        forks = [node.key for node in self.nodes if node.task.map is not None and node.parents]
        if not joins:
            return {}, {}
        ranges = self.tx.fresh_task_ids(n=len(joins) + len(forks)).fetchall()
        fresh = iter([-number for first, last in ranges for number in range(first, last + 1)])
        return {key: next(fresh) for key in forks}, {key: next(fresh) for key in joins}

    def _store_nodes(self) -> None:
        rows: list[tuple[Any, ...]] = []
        total = 0
        for position, (node, ids) in enumerate(zip(self.nodes, self.ids, strict=True)):
            key, run_if, waiting = node.key, node.task.run_if, len(node.parents)
            if node.task.map is None:
                rows.append((ids[0], "task", key, position, run_if, 0, None, 1))
            else:
                fork = int(key in self.forks)
                if fork:
                    rows.append((self.forks[key], "fork", key, position, run_if, waiting, TaskStatus.BLOCKED, 0))
                join = (len(ids) + fork, TaskStatus.BLOCKED, int(not ids))
                rows.append((self.joins[key], "join", key, position, "all_finished", *join))
            total += max(1, len(ids))
        self.tx.add_nodes(flow_id=self.flow_id, rows=encoded(rows))
        self.tx.in_flow(self.flow_id, None, TaskStatus.BLOCKED, total)

    def _store_edges(self) -> None:
        known = {
            node.key: self.joins.get(node.key) or ids[0] for node, ids in zip(self.nodes, self.ids, strict=True)
        }
        rows: list[tuple[int, int, str, int]] = []
        for position, (node, ids) in enumerate(zip(self.nodes, self.ids, strict=True)):
            fork = self.forks.get(node.key)
            child = fork or known[node.key]
            rows += [(child, known[parent], parent, n) for n, parent in enumerate(node.parents)]
            if node.task.map is not None:
                if fork is not None:
                    rows.append((known[node.key], fork, "", 0))
                if ids:
                    fanout.add_parts(self.tx, node.task, self.flow_id, position, ids, fork, known[node.key])
                if node.source is not None and fork is not None:
                    self.tx.add_fan_out(
                        fork_id=fork,
                        join_id=known[node.key],
                        source_id=known[node.source.result_of],
                        **self.times[position]._asdict(),
                        task=_encode(node.task),
                    )
        if rows:
            self.tx.add_edges(rows=encoded(rows))

    def _begin(self) -> None:
        """Fan-outs over nothing that wait for nobody have ended already."""
        empty = [
            (self.joins[node.key], "join")
            for node, ids in zip(self.nodes, self.ids, strict=True)
            if node.task.map is not None and not node.parents and not ids
        ]
        kin.settle(self.tx, kin.open_or_end(self.tx, empty))


# ---------------------------------------------------------------- cancelling, reviving


def _cancel(tx: Transaction, flow_id: int) -> None:
    counted = sum(counted for (counted,) in tx.cancel_nodes(flow_id=flow_id).fetchall())
    tx.in_flow(flow_id, TaskStatus.BLOCKED, TaskStatus.CANCELLED, counted)
    live = tx.flow_tasks(flow_id=flow_id, ended=0).fetchall()
    live.sort(key=_is_not_blocked)  # blocked ones first, so that no end reaches a child within the flow
    ends = [
        attempts.cancel(tx, task_id, status, lane, attempt, lease_id, limit_key)
        for task_id, lane, status, attempt, lease_id, limit_key, _ in live
    ]
    kin.ended(tx, [waited for waited in ends if waited is not None], TaskStatus.CANCELLED)


def _is_not_blocked(row: tuple[Any, ...]) -> bool:
    return bool(row[2] != TaskStatus.BLOCKED)


def _revive(tx: Transaction, flow_id: int) -> bool:
    """False: there is nothing to revive."""
    tx.hold_flow(flow_id=flow_id)
    tasks = tx.flow_tasks(flow_id=flow_id, ended=1).fetchall()
    tx.lift_deadlines(flow_id=flow_id, now=tx.now)
    if not _reopen_nodes(tx, flow_id) and not tasks:
        return False
    ids = [row[0] for row in tasks]
    for task_id, _, status, *_, unique_key in tasks:
        second_life.undo_end(tx, task_id, status, unique_key)
    kin.count_up(tx, ids)  # for children outside of the flow
    kin.reopen_forks(tx, ids)
    tx.recount_nodes(flow_id=flow_id)
    blocked = {task_id for (task_id,) in tx.block_in_flow(flow_id=flow_id, task_ids=encoded(ids)).fetchall()}
    for task_id, lane, status, _, _, limit_key, _ in tasks:
        target = TaskStatus.BLOCKED if task_id in blocked else TaskStatus.PENDING
        tx.moved(lane, TaskStatus(status), target, [task_id], limit_key)
        tx.in_flow(flow_id, TaskStatus(status), target)
    kin.settle(tx, kin.open_or_end(tx, tx.ready_nodes(flow_id=flow_id).fetchall()))
    return True


def _reopen_nodes(tx: Transaction, flow_id: int) -> int:
    """Forks and joins that did not complete wait again; returns how many."""
    reopened = 0
    for status in (TaskStatus.FAILED, TaskStatus.CANCELLED):
        counted = tx.reopen_nodes(flow_id=flow_id, status=status).fetchall()
        tx.in_flow(flow_id, status, TaskStatus.BLOCKED, sum(n for (n,) in counted))
        reopened += len(counted)
    return reopened


# ---------------------------------------------------------------- looking


def _summary(tx: Transaction, flow_id: int) -> FlowView:
    row = tx.flow(flow_id=min(flow_id, INTEGER_MAX))
    if row is None:
        raise errors.NotFound(f"there is no flow {flow_id}")
    return _views(tx, [row])[0]


def _views(tx: Transaction, rows: Sequence[tuple[Any, ...]]) -> list[FlowView]:
    counted = _counted(tx, [flow_id for flow_id, *_ in rows])
    return [_view(row, counted[row[0]]) for row in rows]


def _counted(tx: Transaction, flow_ids: Sequence[int]) -> defaultdict[int, dict[str, int]]:
    """How many tasks of each flow live, or have ended and how."""
    counted: defaultdict[int, dict[str, int]] = defaultdict(dict)
    for flow_id, status, n in tx.flow_counted(flow_ids=encoded(flow_ids)):
        counted[flow_id][status] = n
    return counted


def _view(row: tuple[Any, ...], counts: Mapping[str, int]) -> FlowView:
    flow_id, name, created_at = row
    total = sum(counts.values())
    progress = (total - counts.get("live", 0)) / total if total else 1.0
    return FlowView(flow_id, name, status_of(counts), round(progress, 6), iso(created_at) or "")


def status_of(counts: Mapping[str, int]) -> FlowStatus:
    """What the tasks of a flow make of it."""
    if counts.get("live"):
        return "running"
    if counts.get("failed"):
        return "failed"
    return "cancelled" if counts.get("cancelled") else "completed"


def has_ended(tx: Transaction, flow_id: int) -> bool:
    """Has every task of the flow ended (or is the flow gone)? With what this transaction has changed itself."""
    live = _counted(tx, [flow_id])[flow_id].get("live", 0)
    return not live + tx.flow_counts[flow_id, "live"]


def _tasks(tx: Transaction, flow_id: int) -> list[FlowTaskView]:
    keys: defaultdict[int, list[str]] = defaultdict(list)
    for child_id, key in tx.flow_edges(flow_id=flow_id):
        keys[child_id].append(key)
    forks: dict[int, int] = dict(tx.flow_forks(flow_id=flow_id).fetchall())
    return [
        FlowTaskView(
            key,
            node_id if node_id > 0 else None,
            status,
            keys[forks.get(node_id, node_id)],
            short_error(error, error_type),
        )
        for node_id, key, status, error, error_type in tx.flow_nodes(flow_id=flow_id, most=ERROR_BYTES_READ)
    ]
