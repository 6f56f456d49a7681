"""Claims: which tasks a worker is granted next. Every one is a fenced lease over pending tasks.

Tasks are looked for lane by lane (queue and type), each in the order of an index, and merged: the best
eligible first. What limits and pauses have to say is in gate.py; what a grant allows in leases.py.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from heapq import merge
from itertools import chain, islice
from typing import Any, NamedTuple

import msgspec

from dispatcher import parents
from dispatcher.gate import Candidate, Gate
from dispatcher.lanes import Served, split
from dispatcher.registry import Worker
from dispatcher.submissions import HAS_PARENTS
from dispatcher.transaction import ALONE, IN_COMPANY, MUST_BE_ALONE, Transaction, encoded, grouped
from shared.lifecycle import TaskStatus
from shared.protocol import BODY_BYTES_MAX, EMPTY_OBJECT, WANT_MAX, Grant, GrantedCheckpoint
from shared.settings import Settings

ANSWER_BYTES = 8 * 1024 * 1024  # bodies in one claim's answer
LOOKS = 12  # at the head of the lanes, each twice as far: behind a thousand that may not start now


class Claim(NamedTuple):
    """What one claim was granted: a lease over tasks, and where some of them resume from."""

    lease_id: str
    chosen: list[Candidate]
    resume_points: dict[int, tuple[Any, ...]]
    edges: parents.Edges  # of those of its tasks that have parents
    now: float


class Claims:
    """The verb claim. `settings` gives lease times."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def claim(self, tx: Transaction, worker: Worker, served: Served, want: int) -> Claim | None:
        """Grant the best eligible tasks, priority first, then the oldest; none to a worker that is gone.

        A task that travels alone ends the batch: it is granted by itself or left for the next claim.
        """
        rows = tx.claim_lanes(worker_id=worker.info.worker_id).fetchall()
        if not rows:
            return None
        worker_key, braked, _ = rows[0]
        waiting = {lane for _, _, lane in rows if lane is not None} | tx.arrivals.keys()
        chosen, edges = _choose(
            tx, [lane for lane in waiting if lane in served], min(want, WANT_MAX), Gate(tx, bool(braked))
        )
        if not chosen:
            return None
        ids = [candidate[1] for candidate in chosen]
        lease_id = secrets.token_urlsafe(16)  # 128 random bits
        tx.claim(
            task_ids=encoded(ids),
            alone=_company(chosen),
            worker_key=worker_key,
            lease_id=lease_id,
            lease_expires_at=tx.lease_now + self.settings.lease_seconds,
            now=tx.now,
        )
        for lane, those in grouped([candidate[4] for candidate in chosen], ids).items():
            tx.moved(lane, TaskStatus.PENDING, TaskStatus.IN_PROGRESS, those)
        keyed = [(c[1], c[4], c[8]) for c in chosen if c[8] is not None]
        if keyed:
            tx.keep_places(TaskStatus.IN_PROGRESS, keyed)
        resumed = [candidate[1] for candidate in chosen if candidate[6] is not None]
        return Claim(lease_id, chosen, {i: tx.resume_point(task_id=i) for i in resumed}, edges, tx.later())

    def grants(self, claim: Claim) -> list[Grant]:
        """What the worker gets of a claim that is stored; made after the transaction."""
        lease_id, _, resume_points, _, now = claim
        seconds = self.settings.lease_seconds
        grants = []
        for candidate in claim.chosen:
            _, task_id, attempt, _, lane, timeout, checkpoint_seq, payload, _, deadline_at, stall, _ = candidate
            grant = Grant(
                task_id,
                attempt + 1,
                lease_id,
                seconds,
                split(lane)[1],
                EMPTY_OBJECT if payload is None else msgspec.Raw(payload),
                timeout,
                None if checkpoint_seq is None else _resumed(resume_points[task_id]),
            )
            if stall is not None:
                grant.stall_seconds = stall
            if deadline_at is not None:
                grant.start_within_seconds = max(0.0, deadline_at - now)
            grants.append(grant)
        return grants


def _choose(tx: Transaction, lanes: list[str], want: int, gate: Gate) -> tuple[list[Candidate], parents.Edges]:
    """The best that may start, looking further as long as some in front may not."""
    for look in range(LOOKS):
        n = min(want << look, WANT_MAX)
        open_lanes = [(*split(lane), min(n, gate.room(lane))) for lane in lanes]
        found = [list(tx.claimable(queue=q, type=type, n=most)) for q, type, most in open_lanes if most > 0]
        gate.meet(chain(*found))
        in_order = merge(*found) if len(found) > 1 else chain(*found)
        chosen = _travelling(islice(gate.passing(in_order), want))
        if not gate.clear():
            chosen, edges = _fitting(tx, chosen)
            gate.started(chosen)
            return chosen, edges
    return [], {}


def _travelling(candidates: Iterable[Candidate]) -> list[Candidate]:
    """As many of the candidates, in order, as may travel in one answer."""
    chosen: list[Candidate] = []
    size = 0
    for candidate in candidates:
        _, _, _, alone, _, _, checkpoint_seq, payload, *_ = candidate
        if chosen and (alone or size > ANSWER_BYTES):
            break
        chosen.append(candidate)
        if payload is not None:
            size += len(payload)
        if checkpoint_seq is not None:
            size += BODY_BYTES_MAX  # its state may be as large
        if alone:
            break
    return chosen


def _company(chosen: list[Candidate]) -> int:
    """What tasks.alone says of these while they are held."""
    if len(chosen) > 1:
        return IN_COMPANY
    return MUST_BE_ALONE if chosen[0][3] else ALONE


def _fitting(tx: Transaction, chosen: list[Candidate]) -> tuple[list[Candidate], parents.Edges]:
    """As many of them, in order, as go into one answer with what they are told of their parents; and these."""
    children = [candidate[1] for candidate in chosen if (candidate[11] or 0) & HAS_PARENTS]
    if not children:
        return chosen, {}
    edges = parents.above(tx, children)
    return chosen[: parents.fitting(tx, [candidate[1] for candidate in chosen], edges, ANSWER_BYTES)], edges


def _resumed(point: tuple[Any, ...]) -> GrantedCheckpoint:
    seq, state, progress, elapsed_seconds, output_chunks = point
    return GrantedCheckpoint(seq, msgspec.Raw(state), progress, elapsed_seconds, output_chunks)
