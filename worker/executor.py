"""Runs what is in the hand: one child process per slot, supplied, timed, stopped, and replaced.

One thread does all of it (run_forever); others only leave orders. The worker process itself never runs
user code. Read child_process.py for a single child, child.py for its inside.
"""

from __future__ import annotations

import selectors
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import msgspec

from shared.backoff import RECONNECT
from shared.log import Log
from shared.protocol import Checkpoint, Grant, Result
from tasks.board import StopReason
from worker.bell import Bell
from worker.cache_manager import Memo
from worker.channel import CHECKPOINT, HELLO, RESULT, SKIPPED, Declared, Gone, Hello
from worker.child_process import ChildProcess, Running
from worker.failure import death, result_of_death
from worker.hand import Hand
from worker.pace import Pace
from worker.tally import LONG_SECONDS, Tally
from worker.watchdog import Watchdog

_HELLO_SECONDS: Final = 60.0  # enough for a slow disk under many starting children
_STARTS_TRIED: Final = 2  # again, when none has ever succeeded
_TICK_SECONDS: Final = 0.1  # how often time limits and slow tasks are looked at
_IDLE_SECONDS: Final = 1.0  # the same, while there are none
_GATHER_SECONDS: Final = 0.002  # after results of short tasks: handle the next ones together
_BATCH_TASKS: Final = 250
_BATCH_SECONDS: Final = 0.05  # of work for a child at once
# A task that runs so long, or so many times its type's mean, must not keep others waiting behind it.
_SLOW_SECONDS: Final = 0.3
_SLOW_TIMES: Final = 3.0
_NOTHING_DECLARED: Final = Declared()

_result: Final = msgspec.json.Decoder(Result)
_checkpoint: Final = msgspec.json.Decoder(Checkpoint)
_hello: Final = msgspec.json.Decoder(Hello)


class UnusableTasks(Exception):
    """No child can run anything; the message says why."""


class Slot:
    """A place for one child at a time."""

    def __init__(self) -> None:
        self.child: ChildProcess | None = None
        self.failed_starts = 0  # in a row
        self.start_at = 0.0


class Executor:
    """The children and what they work on."""

    def __init__(self, hand: Hand, pace: Pace, memo: Memo, log: Log, *, slots: int, options: str) -> None:
        self._hand = hand
        self._pace = pace
        self._memo = memo
        self._log = log
        self._options = options
        self.tally = Tally(log, pace)
        self.types: dict[str, Declared] = {}  # what the children can run, once one has said hello
        self._slots = [Slot() for _ in range(slots)]
        self._watchdog = Watchdog()
        self._orders: deque[Callable[[], None]] = deque()
        self._bell = Bell()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._bell, selectors.EVENT_READ, self._bell.quiet)
        self._draining = False
        self.closed_slots = 0  # those that run long tasks: nothing should be claimed for them

    # --- for other threads

    def ring(self) -> None:
        """Something in the hand has changed."""
        self._bell.ring()

    def drain(self) -> None:
        """Release what waits; ask what runs to stop at its next checkpoint."""
        self._order(self._drain)

    def kill_all(self) -> None:
        """Kill what still runs; unless it was stopped for another reason, it counts as released."""
        self._order(self._kill_all)

    def running(self) -> list[Running]:
        """What runs now."""
        return [running for child in self._children() if (running := child.running())]

    def _order(self, act: Callable[[], None]) -> None:
        self._orders.append(act)
        self._bell.ring()

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
        """One round: what children say, what others order, what time demands, what children need."""
        ended_before = self.tally.count
        for key, _ in self._selector.select(self._patience()):
            key.data()
        while self._orders:
            self._orders.popleft()()
        now = time.monotonic()
        for slot in self._slots:
            if slot.child is not None:
                self._supervise(slot, slot.child)
            elif now >= slot.start_at and not self._draining:
                self._start(slot)
        self._supply()
        self.closed_slots = sum(map(self._is_closed, self._children()))
        self.tally.report(now)
        if self.tally.count > ended_before + 1:
            self._bell.wait(_GATHER_SECONDS)

    def close(self) -> None:
        """Kill every child and all it started. To be called when the loop has ended."""
        for child in self._children():
            child.kill()
            self._watchdog.forget(child.pid)
            child.bury()
        self._watchdog.close()
        self._selector.close()
        self._bell.close()

    def _children(self) -> Iterator[ChildProcess]:
        return (child for slot in self._slots if (child := slot.child) is not None)

    def _patience(self) -> float:
        if self._draining or any(child.is_withdrawing for child in self._children()):
            return _GATHER_SECONDS
        return _TICK_SECONDS if any(child.sent for child in self._children()) else _IDLE_SECONDS

    # --- children come and go

    def _start(self, slot: Slot) -> None:
        try:
            child = slot.child = ChildProcess(self._options)
        except OSError as error:  # no memory, no processes left: that may pass
            self._log("child_unusable", reason=error)
            self._start_later(slot)
            return
        self._watchdog.watch(child.pid)
        self._listen(slot, child)
        self._selector.register(child.output, selectors.EVENT_READ, partial(self._on_output, child))
        if child.pidfd is not None:
            self._selector.register(child.pidfd, selectors.EVENT_READ, partial(self._bury, slot, child))

    def _bury(self, slot: Slot, child: ChildProcess) -> None:
        """A child is dead or has closed its channel: settle its tasks and make room for another."""
        if child.is_dead:  # two signs of one death
            return
        try:
            while self._receive(child):
                continue
        except Gone:
            pass  # all that it said has been heard
        self._on_output(child)
        for end in (child.channel.socket, child.output, child.pidfd):
            if end is not None and end in self._selector.get_map():
                self._selector.unregister(end)
        child.kill()  # what it left behind in its group, while the group's number is still ours
        self._watchdog.forget(child.pid)
        status, peak_rss_bytes = child.bury()
        self._settle(child, death(status, peak_rss_bytes, child.last_lines))
        slot.child = None
        if child.is_ready:
            slot.failed_starts = 0
        else:
            if not self.types and slot.failed_starts >= _STARTS_TRIED:
                raise UnusableTasks(f"task processes die while starting: {' | '.join(child.last_lines)}")
            self._start_later(slot)

    def _start_later(self, slot: Slot) -> None:
        slot.failed_starts += 1
        slot.start_at = time.monotonic() + RECONNECT.delay_seconds(slot.failed_starts)

    def _settle(self, child: ChildProcess, error: msgspec.Raw) -> None:
        """End the task that a dead child ran, or was about to take up; its neighbours wait again."""
        if child.stop_reason is StopReason.NONE:
            self._log("child_died", pid=child.pid, reason=msgspec.json.decode(error)["message"])
        if child.sent:
            current = child.current()
            grant = child.sent.popleft()[1]
            result = result_of_death(grant, child.stop_reason, error, self._declared(grant))
            result.elapsed_seconds = current[1] if current else 0.0
            self._end([(grant, result)])
            self._hand.put_back([grant for _, grant in child.sent])

    # --- what children say

    def _listen(self, slot: Slot, child: ChildProcess) -> None:
        """Wait for a child's frames, unless too much is undelivered; and for room, if frames wait for it."""
        wanted = 0 if self._hand.outgoing.is_flooded else selectors.EVENT_READ
        wanted |= selectors.EVENT_WRITE if child.channel.is_full else 0
        end = child.channel.socket
        known = self._selector.get_map().get(end)
        if known is None and wanted:
            self._selector.register(end, wanted, partial(self._on_channel, slot, child))
        elif known is not None and not wanted:
            self._selector.unregister(end)
        elif known is not None and known.events != wanted:
            self._selector.modify(end, wanted, known.data)

    def _on_channel(self, slot: Slot, child: ChildProcess) -> None:
        if child.is_dead:
            return
        child.channel.flush()
        try:
            self._receive(child)
        except Gone:
            self._bury(slot, child)

    def _on_output(self, child: ChildProcess) -> None:
        if child.is_dead:
            return
        running = child.running()
        for line in child.read_lines():
            self._log("task_line", task_id=running.grant.task_id if running else "-", text=line)

    def _receive(self, child: ChildProcess) -> bool:
        """Take in what a child has sent; returns whether there was any, raises Gone at its end."""
        frames = child.channel.receive()
        ended: list[tuple[Grant, Result]] = []
        for kind, body in frames or ():
            if kind == RESULT:
                ended.append((child.ended(), _result.decode(body)))
            elif kind == CHECKPOINT:
                self._on_checkpoint(child, _checkpoint.decode(body))
            elif kind == SKIPPED:
                self._hand.put_back(child.skipped(int(body)))
            elif kind == HELLO:
                self._on_hello(child, _hello.decode(body))
        if ended:
            self._end(ended)
        return frames is not None

    def _on_hello(self, child: ChildProcess, hello: Hello) -> None:
        if hello.problem is None:
            child.is_ready = True
            self.types = hello.types
        elif self.types:  # a module was broken while we run: try on, somebody may mend it
            self._log("child_unusable", reason=hello.problem)
            child.kill()
        else:
            raise UnusableTasks(hello.problem)

    def _on_checkpoint(self, child: ChildProcess, checkpoint: Checkpoint) -> None:
        if checkpoint.output:
            self._memo.saw_output(child.sent[0][1].type)
        self._hand.save(checkpoint)

    def _end(self, ended: list[tuple[Grant, Result]]) -> None:
        counted = self._hand.end([result for _, result in ended])
        if len(counted) < len(ended):
            ids = set(map(id, counted))
            ended = [pair for pair in ended if id(pair[1]) in ids]
        self.tally.ended(ended)
        self._memo.learn(ended)

    # --- supervision

    def _supervise(self, slot: Slot, child: ChildProcess) -> None:
        self._listen(slot, child)
        self._hand.put_back(child.collect())
        current = child.current()
        if self._draining or self._is_slow(child):
            child.take_back()
        if current is None:
            return
        grant, elapsed = current
        limit = grant.timeout_seconds or self._declared(grant).timeout_seconds
        if limit and elapsed > limit and child.stop_reason in (StopReason.NONE, StopReason.DRAIN):
            self._log("task_overran", task_id=grant.task_id, attempt=grant.attempt, seconds=limit)
            child.stop(StopReason.TIMEOUT)
        elif (grant.task_id, grant.attempt) not in self._hand and child.stop_reason is not StopReason.DROP:
            child.stop(StopReason.DROP)
        elif self._draining and child.stop_reason is StopReason.NONE:
            child.stop(StopReason.DRAIN)
        elif now >= child.kill_at:
            child.kill()
        if elapsed >= LONG_SECONDS and child.announced != child.sent[0][0]:
            child.announced = child.sent[0][0]
            self.tally.started(grant)

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
        """Whether nothing should be claimed to wait behind what this child runs."""
        current = child.current()
        return current is not None and (self._is_slow(child) or not self._pace.is_short(current[0].type))

    def _declared(self, grant: Grant) -> Declared:
        return self.types.get(grant.type, _NOTHING_DECLARED)

    # --- supply

    def _supply(self) -> None:
        """Give waiting tasks to the children; nothing waits in this worker behind long tasks."""
        if not self._hand.queued:
            return
        if self._draining or all(slot.child is not None and self._is_slow(slot.child) for slot in self._slots):
            self._release(self._hand.empty_queue())
            return
        for child in self._children():
            if child.has_room:
                share = -(-self._hand.queued // len(self._slots))  # leave as much for each other slot
                batch = self._hand.next_batch(min(share, _BATCH_TASKS), _BATCH_SECONDS, self._pace.seconds)
                if batch:
                    child.give(batch)

    def _release(self, grants: list[Grant]) -> None:
        results = [
            Result(task_id=g.task_id, attempt=g.attempt, lease_id=g.lease_id, outcome="released") for g in grants
        ]
        self._end(list(zip(grants, results, strict=True)))

    # --- orders

    def _drain(self) -> None:
        self._draining = True

    def _kill_all(self) -> None:
        self._draining = True
        for child in self._children():
            if child.sent:
                child.stop_reason = child.stop_reason or StopReason.DRAIN
                child.kill()
