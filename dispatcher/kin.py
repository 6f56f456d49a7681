"""Tasks that depend on tasks: what happens to the children when a task ends, or lives again.

All of it in the transaction that causes it: a child is unblocked by the end of its last parent, and
cancelled, with all its descendants, by a parent that did not complete (unless its run_if says
otherwise). A task without relatives costs nothing here. How a flow is stored is in flows.py, what a
fan-out becomes in fanout.py, what a child is told of its parents in parents.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple

import msgspec

from dispatcher import fanout
from dispatcher.submissions import HAS_CHILDREN, HAS_PARENTS, Place, Submitted
from dispatcher.transaction import Transaction, encoded, grouped
from shared import errors
from shared.flows import EDGES_MAX
from shared.lifecycle import ENDED, TaskStatus
from shared.protocol import Submission

_encode = msgspec.json.Encoder().encode
_ids = msgspec.json.Decoder(list[int])


# (task_id, flow_id, kin) of a task of a flow, or with parents or children; `kin` says which of these it has.
Relative = tuple[int, int | None, int | None]


class End(NamedTuple):
    """Nodes that have ended alike. `cause`: the task to blame, if they did not complete.

    `swept`: their descendants have been dealt with already.
    """

    node_ids: list[int]
    status: TaskStatus
    cause: int
    swept: bool = False


def ended(tx: Transaction, tasks: Sequence[Relative], status: TaskStatus) -> None:
    """Tasks have just ended: unblock or cancel their children. The last step of whatever ended them."""
    for flow_id, n in Counter(map(itemgetter(1), tasks)).items():
        tx.in_flow(flow_id, TaskStatus.PENDING, status, n)
    parents = [task_id for task_id, _, kin in tasks if (kin or 0) & HAS_CHILDREN]
    if status is not TaskStatus.COMPLETED:
        settle(tx, [End([task_id], status, task_id) for task_id in parents])
    elif parents:
        settle(tx, [End(parents, status, 0)])


def settle(tx: Transaction, ends: Sequence[End]) -> None:
    """Let the ends of nodes have their effects, and the ends that follow from these, until none does."""
    while ends:
        following = [
            end
            for failed in ends
            if failed.status is not TaskStatus.COMPLETED and not failed.swept
            for end in sweep(tx, failed)
        ]
        following += _count_down(tx, [node_id for end in ends for node_id in end.node_ids])
        ends = following


def _count_down(tx: Transaction, ended: Sequence[int]) -> list[End]:
    """Every child waits for fewer; returns the ends of forks and joins that wait for nobody any more."""
    children = _ids.decode(tx.children(node_ids=encoded(ended)))
    parents_ended = Counter(children)
    ready: list[tuple[int, str]] = []
    for n, those in grouped(list(parents_ended.values()), parents_ended).items():
        tasks = [child_id for child_id in those if child_id > 0]
        if tasks:
            unblock(tx, tasks, n)
        if len(tasks) < len(those):
            forks_and_joins = encoded([child_id for child_id in those if child_id < 0])
            counted = tx.count_down_nodes(node_ids=forks_and_joins, n=n).fetchall()
            ready += [(node_id, kind) for node_id, waiting, kind in counted if waiting == 0]
    return open_or_end(tx, ready)


def unblock(tx: Transaction, task_ids: Sequence[int], n: int) -> None:
    """Tasks wait for `n` parents fewer: those that wait for none may run, or wait for their time."""
    alike = tx.count_down(node_ids=encoded(task_ids), n=n, now=tx.now).fetchall()
    for lane, status, limit_key, run_at, ids in alike:
        if status != TaskStatus.BLOCKED:
            tx.moved(lane, TaskStatus.BLOCKED, TaskStatus(status), _ids.decode(ids), limit_key)
        if status == TaskStatus.SCHEDULED:
            tx.due(run_at)


def open_or_end(tx: Transaction, nodes: Sequence[tuple[int, str]]) -> list[End]:
    """Forks and joins (id, kind) that wait for nobody any more: forks open, joins end."""
    ends: list[End] = []
    for node_id, kind in nodes:
        if kind == "fork":
            ends += _open_fork(tx, node_id)
        elif kind == "join":
            ends.append(_end_join(tx, node_id))
    return ends


def _open_fork(tx: Transaction, fork_id: int) -> list[End]:
    """Its parts may run. Over a result that is known only now, they are made now, if they can be."""
    try:
        fanout.widen(tx, fork_id)
    except errors.Refused as problem:
        tx.end_node(node_id=fork_id, status=TaskStatus.FAILED, error=None)
        join_id, source_id, *_ = tx.fan_out(fork_id=fork_id)
        error = _encode({"type": type(problem).__name__, "message": problem.message})
        return [_end(tx, join_id, TaskStatus.FAILED, source_id, error)]
    tx.end_node(node_id=fork_id, status=TaskStatus.COMPLETED, error=None)
    return [End([fork_id], TaskStatus.COMPLETED, 0)]


def _end_join(tx: Transaction, join_id: int) -> End:
    """Each part that did not complete has been dealt with when it ended: whoever lives on was revived since."""
    failed, cancelled = tx.parts_ended(node_id=join_id)
    if failed is not None:
        return _end(tx, join_id, TaskStatus.FAILED, failed)._replace(swept=True)
    if cancelled is not None:
        return _end(tx, join_id, TaskStatus.CANCELLED, cancelled)._replace(swept=True)
    return _end(tx, join_id, TaskStatus.COMPLETED, 0)


def _end(tx: Transaction, join_id: int, status: TaskStatus, cause: int, error: bytes | None = None) -> End:
    flow_id, _, _, _, counted, *_ = tx.node(node_id=join_id)
    tx.end_node(node_id=join_id, status=status, error=error)
    if counted:
        tx.in_flow(flow_id, TaskStatus.BLOCKED, status)
    return End([join_id], status, cause)


def sweep(tx: Transaction, failed: End) -> list[End]:
    """Cancel all descendants of nodes that did not complete, but for those that run all the same."""
    doomed = [node_id for above in failed.node_ids for (node_id,) in tx.descendants(node_id=above)]
    return cancel_doomed(tx, failed, doomed)


def cancel_doomed(tx: Transaction, failed: End, doomed: Sequence[int]) -> list[End]:
    """Cancel the blocked ones of these nodes, because others did not complete; returns the ends of parents."""
    if not doomed:
        return []
    forks = [node_id for (node_id,) in tx.cancel_forks(node_ids=encoded([n for n in doomed if n < 0])).fetchall()]
    how = "failed" if failed.status is TaskStatus.FAILED else "was cancelled"
    message = f"task {failed.cause}, which this one depends on, {how}"
    error = _encode({"type": "ParentFailed", "message": message, "task_id": failed.cause})
    parents = [*forks, *cancel_blocked(tx, [n for n in doomed if n > 0], error, "ParentFailed")]
    return [End(parents, TaskStatus.CANCELLED, failed.cause, swept=True)] if parents else []


def cancel_blocked(tx: Transaction, task_ids: Sequence[int], error: bytes, error_type: str) -> list[int]:
    """End blocked tasks, all with the same error; returns those of them that have children."""
    rows = tx.cancel_blocked(node_ids=encoded(task_ids), now=tx.now).fetchall() if task_ids else []
    if rows:
        ids, attempts = [row[0] for row in rows], [row[2] for row in rows]
        tx.record_error(task_id=ids, attempt=attempts, error=error, error_type=error_type)
    for _, _, _, flow_id, *_ in rows:
        tx.in_flow(flow_id, TaskStatus.BLOCKED, TaskStatus.CANCELLED)
    for (lane, limit_key), those in grouped([(row[1], row[5]) for row in rows], [row[0] for row in rows]).items():
        tx.moved(lane, TaskStatus.BLOCKED, TaskStatus.CANCELLED, those, limit_key)
    return [row[0] for row in rows if (row[4] or 0) & HAS_CHILDREN]


def departed(tx: Transaction, task_ids: Iterable[int], status: TaskStatus) -> None:
    """Tasks ended without having run just now."""
    for task_id in task_ids:
        found = tx.relatives(task_id=task_id)
        if found is not None:
            ended(tx, [(task_id, *found)], status)


def revived(tx: Transaction, tasks: Mapping[int, TaskStatus]) -> set[int]:
    """Tasks live again, by how they had ended; returns those that are blocked, by parents that have not ended."""
    relatives = {task_id: found for task_id in tasks if (found := tx.relatives(task_id=task_id)) is not None}
    for task_id, (flow_id, _) in relatives.items():
        tx.in_flow(flow_id, tasks[task_id], TaskStatus.PENDING)
    count_up(tx, list(relatives))
    children = [task_id for task_id, (_, kin) in relatives.items() if (kin or 0) & HAS_PARENTS]
    reopen_forks(tx, children)
    waiting = {task_id: tx.live_parents(child_id=task_id) for task_id in children}
    for task_id, n in waiting.items():
        if n:
            tx.block(task_id=task_id, waiting=n)
    return {task_id for task_id, n in waiting.items() if n}


def count_up(tx: Transaction, node_ids: Sequence[int]) -> None:
    """Nodes live again, and so do the joins that had ended with them: whoever waits for one waits for one more."""
    while node_ids:
        parents_live = Counter(_ids.decode(tx.children(node_ids=encoded(node_ids))))
        reopened: list[int] = []
        for n, those in grouped(list(parents_live.values()), parents_live).items():
            tx.count_up(node_ids=encoded(those), n=n)
            counted = tx.count_up_nodes(node_ids=encoded(those), n=n).fetchall()
            reopened += [node_id for node_id, waiting in counted if waiting == n]
        node_ids = reopened


def reopen_forks(tx: Transaction, parts: Sequence[int]) -> None:
    """Forks of parts that live again wait again, for those of their parents that do."""
    for (fork_id,) in tx.ended_forks(node_ids=encoded(parts)).fetchall() if parts else []:
        waiting = tx.live_parents(child_id=fork_id)
        if waiting and tx.reopen_fork(node_id=fork_id, waiting=waiting) is not None:
            count_up(tx, [fork_id])


# --- tasks outside of flows that name others by their ids


class Ties:
    """What the `depends_on` of new tasks means: who is blocked, and by whom."""

    def __init__(self, tx: Transaction, submissions: Sequence[Submission], batch: bool) -> None:
        """Marks the parents as such; raises Invalid naming the field of one that is not there."""
        self.parents = [list(dict.fromkeys(submission.depends_on)) for submission in submissions]
        self._run_ifs = [submission.run_if for submission in submissions]
        self._found: dict[int, TaskStatus] = {}
        if sum(map(len, self.parents)) > EDGES_MAX:
            raise errors.TooLarge(f"depends_on names more than {EDGES_MAX} tasks in all", field="depends_on")
        for index, parents in enumerate(self.parents):
            for position, parent in enumerate(parents):
                where = f"tasks[{index}].depends_on[{position}]" if batch else f"depends_on[{position}]"
                self._find(tx, parent, where)
        self.places = [
            Place(None, HAS_PARENTS if parents else None, self._waits(index))
            for index, parents in enumerate(self.parents)
        ]

    def _find(self, tx: Transaction, parent: int, where: str) -> None:
        if parent not in self._found:
            status = tx.mark_parent(task_id=parent)
            if status is None:
                raise errors.Invalid(f"{where}: there is no task {parent}", field=where)
            self._found[parent] = TaskStatus(status)

    def _live(self, index: int) -> int:
        return sum(self._found[parent] not in ENDED for parent in self.parents[index])

    def _waits(self, index: int) -> int:
        """For how many parents; one that has failed already counts too, until it is dealt with in `tie`."""
        return self._live(index) or int(self._spoilt(index) is not None)

    def _spoilt(self, index: int) -> int | None:
        """A parent that ended in a way that keeps the child from running."""
        lost = (TaskStatus.FAILED, TaskStatus.CANCELLED)
        spoilt = (parent for parent in self.parents[index] if self._found[parent] in lost)
        return next(spoilt, None) if self._run_ifs[index] == "all_completed" else None

    def tie(self, tx: Transaction, submitted: Submitted) -> None:
        """Store who waits for whom, once the tasks have ids; those that cannot run are cancelled at once."""
        ids, statuses, existing, _ = submitted
        # With a unique_key the same task may come twice: the first of its submissions made it.
        first = {task_id: index for index, task_id in reversed(list(enumerate(ids)))}
        indexes = [i for i in first.values() if self.parents[i] and ids[i] not in existing]
        if not indexes:
            return
        nodes = [(ids[i], "task", "", 0, self._run_ifs[i], 0, None, 0) for i in indexes]
        tx.add_nodes(flow_id=None, rows=encoded(nodes))
        edges = [(ids[i], parent, str(parent), n) for i in indexes for n, parent in enumerate(self.parents[i])]
        tx.add_edges(rows=encoded(edges))
        for index in indexes:
            spoilt = self._spoilt(index)
            if spoilt is not None:
                statuses[index] = TaskStatus.CANCELLED
                cause = End([spoilt], self._found[spoilt], spoilt)
                cancel_doomed(tx, cause, [ids[index]])  # nobody waits for it yet
