"""Simulated workers: each holds two conversations, computes, saves, dies and is replaced.

They follow worker/conversation.py: the next heartbeat comes an interval after the answer to the last
one, a request unanswered for ten seconds is sent again. What they say are real messages (protocol.py).
simulation.py moves the time.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from typing import Any, Final

import msgspec
from msgspec import Struct, field

from shared.protocol import Checkpoint, Exchange, ExchangeAnswer, Grant, Holding, Result, WorkerInfo

_STATE: Final = msgspec.Raw(b'{"last_checked":123456789,"primes_found":7027260,"elapsed_seconds":12.5}')
TYPE: Final = "simulated"


class Conditions(Struct):
    """What the fleet is like; times in seconds. `lifetime_seconds`: mean time until a worker dies."""

    task_seconds: float = 60.0
    lifetime_seconds: float = 600.0
    absence_seconds: float = 10.0
    heartbeat_seconds: float = 1.0
    timeout_seconds: float = 2.0
    checkpoint_seconds: float = 1.0
    network_seconds: float = 0.001


class Tally(Struct):
    """What happened since `measure_from`; gaps and delays in seconds."""

    measure_from: float = 0.0
    gaps: list[float] = field(default_factory=list)  # between two messages of a worker that were heard
    delays: list[float] = field(default_factory=list)  # from asking for a task to having it
    detections: list[float] = field(default_factory=list)  # from a death to its detection
    events: Counter[str] = field(default_factory=Counter)  # deaths, false deaths, timeouts, …
    seconds: defaultdict[str, float] = field(
        default_factory=lambda: defaultdict(float)
    )  # worked, idle, lost by deaths, lost by mistake

    def add(self, now: float, values: list[float], value: float) -> None:
        """Note a value, if it is time to measure."""
        if now >= self.measure_from:
            values.append(value)

    def count(self, now: float, event: str) -> None:
        """Count an event, if it is time to measure."""
        if now >= self.measure_from:
            self.events[event] += 1

    def spend(self, since: float, until: float, what: str) -> None:
        """Account for a stretch of a worker's time, as far as it is measured."""
        self.seconds[what] += max(0.0, until - max(since, self.measure_from))


class Message:
    """One request under way. `kind` says what it costs."""

    __slots__ = ("body", "kind", "saved_at", "sender", "sent_at")

    def __init__(
        self, sender: Simulated, kind: str, body: Exchange, sent_at: float, saved_at: float | None
    ) -> None:
        self.sender = sender
        self.kind = kind
        self.body = body
        self.sent_at = sent_at
        self.saved_at = saved_at  # when the checkpoint in it was taken


class Simulated:
    """One worker process; another one takes its place when it dies."""

    __slots__ = (
        "asked_at", "beat", "died_at", "done_at", "elapsed", "grant", "heard_at", "info", "result",
        "save_sent_at", "saved_at", "seq", "started_at", "work",
    )  # fmt: skip

    def __init__(self, name: str) -> None:
        self.info = WorkerInfo(name, name, types=[TYPE])
        self.died_at: float | None = None
        self.grant: Grant | None = None
        self.result: Result | None = None
        self.beat: Message | None = None  # the heartbeat that waits for its answer
        self.work: Message | None = None  # the same for the other conversation
        self.heard_at: float | None = None
        self.asked_at = 0.0
        self.started_at = 0.0  # when it began to compute the present task
        self.elapsed = 0.0  # work that was behind the task then
        self.done_at = 0.0
        self.seq = 0
        self.saved_at = 0.0  # up to when its work is stored
        self.save_sent_at = 0.0

    def heartbeat(self, now: float, conditions: Conditions) -> Message:
        """What it says every second: what it holds, and a checkpoint if one is due."""
        grant, checkpoints, saved_at, kind = self.grant, [], None, "heartbeat"
        holding: list[Holding] = []
        if grant is not None:
            running = now < self.done_at
            total = max(self.done_at - self.started_at + self.elapsed, 1e-9)
            progress = min(1.0, (now - self.started_at + self.elapsed) / total)
            holding = [Holding(grant.lease_id, grant.task_id, grant.attempt, None, running, progress)]
            if running and now - self.save_sent_at >= 0.9 * conditions.checkpoint_seconds:
                self.seq += 1
                self.save_sent_at = saved_at = now
                kind = "checkpoint"
                elapsed = self.elapsed + now - self.started_at
                fence: dict[str, Any] = _fence(grant)
                checkpoints = [Checkpoint(**fence, seq=self.seq, state=_STATE, elapsed_seconds=elapsed)]
        elif self.result is not None:
            holding = [Holding(self.result.lease_id, self.result.task_id, self.result.attempt)]
        self.beat = Message(self, kind, Exchange(self.info, holding, checkpoints), now, saved_at)
        return self.beat

    def ask(self, now: float) -> Message:
        """Deliver the result, if there is one, and ask for a task."""
        results = [] if self.result is None else [self.result]
        self.work = Message(self, "work", Exchange(self.info, results=results, want=1), now, None)
        return self.work

    def finish(self, now: float) -> None:
        """The task is done; its result waits for delivery."""
        grant = self.grant
        assert grant is not None
        fence: dict[str, Any] = _fence(grant)
        elapsed = now - self.started_at
        self.result = Result(**fence, outcome="completed", result=_STATE, elapsed_seconds=elapsed)
        self.grant = None
        self.asked_at = now

    def take(self, grant: Grant, now: float, conditions: Conditions) -> None:
        """Begin a task, or go on with it; how long it takes in all depends on its number alone."""
        total = conditions.task_seconds * random.Random(grant.task_id).uniform(0.5, 1.5)
        checkpoint = grant.checkpoint
        self.elapsed = checkpoint.elapsed_seconds if checkpoint else 0.0
        self.seq = checkpoint.seq if checkpoint else 0
        self.grant = grant
        self.started_at = self.saved_at = self.save_sent_at = now
        self.done_at = now + max(0.0, total - self.elapsed)

    def lose(self, answer: ExchangeAnswer) -> bool:
        """Drop what the dispatcher says is no longer ours; was it what we compute?"""
        lost = {(named.task_id, named.attempt) for named in (*answer.lost, *answer.cancel)}
        if self.result is not None and (self.result.task_id, self.result.attempt) in lost:
            self.result = None
        if self.grant is None or (self.grant.task_id, self.grant.attempt) not in lost:
            return False
        self.grant = None
        return True


def _fence(grant: Grant) -> dict[str, Any]:
    return {"task_id": grant.task_id, "attempt": grant.attempt, "lease_id": grant.lease_id}


def next_beat(rng: random.Random, now: float, conditions: Conditions) -> float:
    """When the next heartbeat is due after an answer."""
    return now + conditions.heartbeat_seconds * rng.uniform(0.9, 1.1)
