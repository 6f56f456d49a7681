"""Runs what is in the hand: gives tasks to the children, times them, stops them, settles their ends.

One thread does all of it (run_forever); others only read, or ring. The worker process itself never runs
user code. Read child_process.py for a single child, child.py for its inside.
"""

from __future__ import annotations

import threading
import time
from typing import Final

import msgspec

from shared.log import Log
from shared.protocol import Checkpoint, Grant, Result
from tasks.board import StopReason
from worker.cache_manager import Memo
from worker.channel import CHECKPOINT, RESULT, SKIPPED, Declared, Frame
from worker.child_process import ChildProcess, Running
from worker.children import Children, UnusableTasks
from worker.failure import result_of_death
from worker.hand import Hand
from worker.pace import Pace
from worker.tally import LONG_SECONDS, Tally

_HELLO_SECONDS: Final = 60.0  # enough for a slow disk under many starting children
_TICK_SECONDS: Final = 0.1  # how often time limits and slow tasks are looked at
_IDLE_SECONDS: Final = 1.0  # the same, while nothing runs
_GATHER_SECONDS: Final = 0.002  # after results of short tasks: handle the next ones together
_BATCH_TASKS: Final = 250
_BATCH_SECONDS: Final = 0.05  # of work for a child at once
# A short task that runs so long, or so many times its type's mean, must not keep others waiting.
_SLOW_SECONDS: Final = 0.3
_SLOW_TIMES: Final = 3.0
_NOTHING_DECLARED: Final = Declared()

_result: Final = msgspec.json.Decoder(Result)
_checkpoint: Final = msgspec.json.Decoder(Checkpoint)


class Executor:
    """The children and what they work on."""

    def __init__(self, hand: Hand, pace: Pace, memo: Memo, log: Log, *, slots: int, options: str) -> None:
        self._hand = hand
        self._pace = pace
        self._memo = memo
        self._log = log
        self._slots = slots
        self._children = Children(slots, options, log, self._on_frames, self._on_death)
        self.tally = Tally(log, pace)
        self._draining = False
        self._killing = False

    # --- for other threads

    def ring(self) -> None:
        """Something in the hand has changed."""
        self._children.bell.ring()

    def drain(self) -> None:
        """Release what waits; ask what runs to stop at its next checkpoint."""
        self._draining = True
        self.ring()

    def kill_all(self) -> None:
        """Kill what still runs; unless it was stopped for another reason, it counts as released."""
        self._draining = self._killing = True
        self.ring()

    def running(self) -> list[Running]:
        """What runs now."""
        return [running for child in self._children if (running := child.running())]

    @property
    def closed_slots(self) -> int:
        """How many slots run long tasks, so that nothing should be claimed to wait behind them."""
        return sum(map(self._is_closed, self._children))

    @property
    def types(self) -> dict[str, Declared]:
        """What the children can run, once started."""
        return self._children.types

    # --- the loop

    def start(self) -> None:
        """Start the children and wait for the first hello; raises UnusableTasks if it is a complaint."""
        until = time.monotonic() + _HELLO_SECONDS
        while not self.types:
            self.run_once()
            if time.monotonic() > until:
                raise UnusableTasks(f"no task process was ready after {_HELLO_SECONDS:g} s")

    def run_forever(self, stop: threading.Event) -> None:
        """Serve the children until `stop` is set (and the bell is rung)."""
        while not stop.is_set():
            self.run_once()

    def run_once(self) -> None:
        """One round: what children say, what time demands, what children need."""
        ended_before = self.tally.count
        self._children.attend(self._patience())
        if not self._draining:
            self._children.start_missing()
        for child in self._children:
            self._supervise(child)
        self._supply()
        self._children.listen(hold_off=self._hand.outgoing.is_flooded)
        self.tally.report(time.monotonic())
        if self.tally.count > ended_before + 1:
            self._children.bell.wait(_GATHER_SECONDS)

    def close(self) -> None:
        """Kill every child and all it started. To be called when the loop has ended."""
        self._children.close()

    def _patience(self) -> float:
        if self._draining or any(child.is_withdrawing for child in self._children):
            return _GATHER_SECONDS
        return _TICK_SECONDS if any(child.sent for child in self._children) else _IDLE_SECONDS

    # --- what children report

    def _on_frames(self, child: ChildProcess, frames: list[Frame]) -> None:
        ended: list[tuple[Grant, Result]] = []
        for kind, body in frames:
            if kind == RESULT:
                ended.append((child.ended(), _result.decode(body)))
            elif kind == CHECKPOINT:
                self._on_checkpoint(child, _checkpoint.decode(body))
            elif kind == SKIPPED:
                self._hand.put_back(child.skipped(int(body)))
        self._end(ended)

    def _on_checkpoint(self, child: ChildProcess, checkpoint: Checkpoint) -> None:
        if checkpoint.output:
            self._memo.saw_output(child.sent[0][1].type)
        self._hand.save(checkpoint)

    def _on_death(self, child: ChildProcess, error: msgspec.Raw) -> None:
        """End the task that a dead child ran, or was about to take up; its neighbours wait again."""
        reason = child.stop_reason
        if reason is StopReason.DRAIN and not self._killing:
            reason = StopReason.NONE  # asked politely, it died of something else
        if reason is StopReason.NONE:
            self._log("child_died", pid=child.pid, reason=msgspec.json.decode(error)["message"])
        if child.sent:
            current = child.current()
            grant = child.sent.popleft()[1]
            result = result_of_death(grant, reason, error, self._declared(grant))
            result.elapsed_seconds = current[1] if current else 0.0
            self._end([(grant, result)])
            self._hand.put_back([grant for _, grant in child.sent])

    def _end(self, ended: list[tuple[Grant, Result]]) -> None:
        counted = self._hand.end([result for _, result in ended])
        if len(counted) < len(ended):
            ids = set(map(id, counted))
            ended = [pair for pair in ended if id(pair[1]) in ids]
        self.tally.ended(ended)
        self._memo.learn(ended)

    # --- supervision

    def _supervise(self, child: ChildProcess) -> None:
        """Look after what a child runs, and what waits behind that."""
        if self._killing and child.sent:
            child.stop_reason = child.stop_reason or StopReason.DRAIN
            child.kill()
        self._hand.put_back(child.collect())
        if self._draining or self._is_slow(child):
            child.take_back()
        current = child.current()
        if current is None:
            return
        grant, elapsed = current
        reason = self._reason_to_stop(child, grant, elapsed)
        if reason is not child.stop_reason:
            child.stop(reason)
        elif time.monotonic() >= child.kill_at:
            child.kill()
        if elapsed >= LONG_SECONDS and child.announced != child.sent[0][0]:
            child.announced = child.sent[0][0]
            self.tally.started(grant)

    def _reason_to_stop(self, child: ChildProcess, grant: Grant, elapsed: float) -> StopReason:
        """Why the running task should stop; one that was told to is not told for a lesser reason."""
        if child.stop_reason in (StopReason.TIMEOUT, StopReason.DROP):
            return child.stop_reason
        if (grant.task_id, grant.attempt) not in self._hand:
            return StopReason.DROP
        limit = grant.timeout_seconds or self._declared(grant).timeout_seconds
        if limit and elapsed > limit:
            self._log("task_overran", task_id=grant.task_id, attempt=grant.attempt, seconds=limit)
            return StopReason.TIMEOUT
        return StopReason.DRAIN if self._draining else StopReason.NONE

    def _is_slow(self, child: ChildProcess) -> bool:
        """Whether nothing should wait behind what this child runs."""
        current = child.current()
        if current is None:
            return False
        grant, elapsed = current
        mean = self._pace.seconds(grant.type)
        if self._pace.is_short(grant.type):
            return elapsed > max(_SLOW_SECONDS, _SLOW_TIMES * mean)
        return elapsed > _SLOW_SECONDS or mean < float("inf")

    def _is_closed(self, child: ChildProcess) -> bool:
        """Whether it runs something long, or of unknown length."""
        current = child.current()
        return current is not None and (self._is_slow(child) or not self._pace.is_short(current[0].type))

    def _declared(self, grant: Grant) -> Declared:
        return self.types.get(grant.type, _NOTHING_DECLARED)

    # --- supply

    def _supply(self) -> None:
        """Give waiting tasks to the children; nothing waits in this worker behind long tasks."""
        if not self._hand.queued:
            return
        if self._draining or sum(map(self._is_slow, self._children)) == self._slots:
            self._release(self._hand.empty_queue())
            return
        for child in self._children:
            if child.has_room and not self._is_closed(child):
                share = -(-self._hand.queued // self._slots)  # leave as much for each other slot
                batch = self._hand.next_batch(min(share, _BATCH_TASKS), _BATCH_SECONDS, self._pace.seconds)
                if batch:
                    child.give(batch)

    def _release(self, grants: list[Grant]) -> None:
        results = [
            Result(task_id=g.task_id, attempt=g.attempt, lease_id=g.lease_id, outcome="released") for g in grants
        ]
        self._end(list(zip(grants, results, strict=True)))
