"""Who the workers are: registration, heartbeats, what types they announced.

Liveness belongs to a worker_id, which is new for each process start; the name is only a label.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from dispatcher.transaction import Transaction
from shared import errors
from shared.lifecycle import GONE, WorkerState
from shared.protocol import WorkerInfo
from shared.settings import Settings
from shared.wording import near_miss

_STATES = {"running": WorkerState.ALIVE, "draining": WorkerState.DRAINING, "stopped": WorkerState.STOPPED}
_ORDERED = {"pause": WorkerState.PAUSED, "drain": WorkerState.DRAINING}
Directive = Literal["run", "pause", "drain", "exit"]
_HINTS_MAX = 5  # more unknown types at once are no slip of the finger, and each costs a search
_LIVING = (WorkerState.ALIVE, WorkerState.PAUSED, WorkerState.DRAINING)


@dataclass
class Worker:
    """The sender of a message; `key` is its row, 0 until it has been heard."""

    info: WorkerInfo
    key: int = 0

    @property
    def name(self) -> str:
        """What people call it."""
        return self.info.name or self.info.worker_id


class Registry:
    """The workers table, and the types announced in it (`settings.unknown_types` is the policy)."""

    def __init__(self, settings: Settings) -> None:
        self._refuse_unknown = settings.unknown_types == "refuse"
        self._announced: set[str] = set()

    def hear(self, tx: Transaction, info: WorkerInfo) -> tuple[int, Directive]:
        """Note a message as a heartbeat, registering a stranger; returns the worker's key and its orders.

        It counts as heard now, however long the transaction has waited for others before it came to that.
        """
        before = tx.worker(worker_id=info.worker_id)
        heard = {"lease_now": tx.lease_later(), "now": tx.later()}
        state = _STATES[info.state]
        ordered = None if before is None else before[4]
        if before is not None and not info.name and info.state == "running" and before[1] in _LIVING:
            state = WorkerState(before[1])  # a call of a worker that drains does not undo that
        if ordered is not None and state is WorkerState.ALIVE:
            state = _ORDERED[ordered]
        gone_at = tx.now if state is WorkerState.STOPPED else None
        if before is not None and not info.name:  # it said who it is before: get-task, heartbeat
            key = int(before[0])
            tx.touch_worker(worker_key=key, state=state, gone_at=gone_at, **heard)
        else:
            (key,) = tx.hear_worker(
                worker_id=info.worker_id,
                name=info.name or info.worker_id,
                host=info.host,
                pid=info.pid,
                slots=info.slots,
                types=None if info.types is None else msgspec.json.encode(info.types).decode(),
                queues=None if info.queues is None else msgspec.json.encode(info.queues).decode(),
                threads=info.threads,
                state=state,
                gone_at=gone_at,
                **heard,
            )
        self._note_change(tx, info, None if before is None else before[1], state)
        return int(key), ordered or "run"

    def order(self, tx: Transaction, worker_id: str, ordered: Literal["pause", "drain"] | None) -> None:
        """Tell a worker that lives to claim nothing, to end, or (None) to go on. NotFound, Conflict."""
        worker_key, state, name, *_ = self.known(tx, worker_id)
        if state not in _LIVING:
            raise errors.Conflict(f"worker {worker_id} is {state}; only a living one takes orders", state=state)
        then = WorkerState.ALIVE if ordered is None else _ORDERED[ordered]
        tx.order_worker(worker_key=worker_key, ordered=ordered, state=then)
        tx.log("worker_ordered", name=name, worker_id=worker_id, order=ordered or "resume")

    def _note_change(self, tx: Transaction, info: WorkerInfo, before: str | None, state: WorkerState) -> None:
        event = None
        if state is WorkerState.STOPPED:
            event = None if before == state else "worker_stopped"
        elif before is None:
            event = "worker_registered"
        elif before in GONE:
            event = "worker_returned"
        if event is not None:
            tx.log(event, name=info.name or info.worker_id, worker_id=info.worker_id)

    def known(self, tx: Transaction, worker_id: str) -> tuple[Any, ...]:
        """(key, state, name, types, ordered) of a worker; raises NotFound."""
        row: tuple[Any, ...] | None = tx.worker(worker_id=worker_id)
        if row is None:
            raise errors.NotFound(f"there is no worker {worker_id!r}")
        return row

    def unknown_types_warning(self, tx: Transaction, types: set[str]) -> str | None:
        """A sentence about types nobody has announced; raises Invalid if those are to be refused."""
        unknown = types - self._announced
        if not unknown:
            return None
        announced: set[str] = set()
        for (listed,) in tx.announced_types():
            if listed is None:
                return None  # a live worker takes every type
            announced |= set(msgspec.json.decode(listed))
        self._announced = announced
        unknown = types - announced
        if not unknown:
            return None
        so_far = ", ".join(sorted(announced)) or "none"
        hints = _hints(unknown, frozenset(announced)) if len(unknown) <= _HINTS_MAX else {}
        sentences = [f"no worker has announced type {type!r}{hints.get(type, '')}" for type in sorted(unknown)]
        text = f"{'; '.join(sentences)}; announced so far: {so_far}"
        if self._refuse_unknown:
            raise errors.Invalid(text, field="type", allowed=sorted(announced))
        return text


def _hints(unknown: set[str], announced: frozenset[str]) -> dict[str, str]:
    """For each unknown type that looks like an announced one the question whether that was meant."""
    meant = {type: near_miss(type, announced) for type in unknown}
    return {type: f" (did you mean {near!r}?)" for type, near in meant.items() if near}
