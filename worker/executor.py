"""Runs what is in the hand: gives tasks to the children, times them, stops them, settles their ends.

One thread does all of it (run_forever); others only read, or ring, or give out what they have brought while
that thread waits. The worker process itself never runs user code. Read strand.py for a line of tasks,
child_process.py for a single child, child.py for its inside.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import groupby
from typing import Final

import msgspec
from msgspec import UNSET

from shared.log import Log
from shared.protocol import Checkpoint, Grant, Result
from tasks.board import StopReason
from worker.cache_manager import Memo
from worker.channel import CHECKPOINT, LAST, RESULT, SKIPPED, Declared, Frame, Garbled
from worker.child_process import ChildProcess
from worker.children import Children, UnusableTasks
from worker.failure import OVERRUN, death, result_of_death
from worker.hand import Hand
from worker.output import NOBODY, Line
from worker.pace import Pace
from worker.strand import Running, Strand
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

    def __init__(
        self, hand: Hand, pace: Pace, memo: Memo, log: Log, *, slots: int, options: str, threads: int
    ) -> None:
        self._hand = hand
        self._pace = pace
        self._memo = memo
        self._log = log
        self.threads = threads if threads > 1 else 0  # of one, the main one will do
        self._children = Children(
            slots, self.threads, options, log, self._on_frames, self._on_lines, self._on_death
        )
        self.tally = Tally(log, pace)
        self._draining = False
        self._killing = False
        self._held_up_since: float | None = None  # the children are, until what they said has been delivered
        self._turn = threading.Lock()  # held while something is done; not while waiting

    # --- for other threads

    def ring(self) -> None:
        """Something in the hand has changed."""
        self._children.bell.ring()

    def supply(self) -> None:
        """New tasks wait in the hand: give them out, in this very thread if ours has nothing else to do now."""
        if self._turn.acquire(blocking=False):
            try:
                self._supply_all()
            finally:
                self._turn.release()
        self.ring()  # to watch over them

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
        return [running for _, strand in self._strands() if (running := strand.running())]

    def usable_strands(self, waits: bool = False) -> int:
        """How many main strands (or threads) can run tasks, now or in a moment."""
        return self._children.usable(waits)

    def closed_strands(self, waits: bool = False) -> int:
        """How many main strands (or threads) run long tasks: nothing should be claimed to wait behind them."""
        return sum(map(self._is_closed, self._children.strands(waits)))

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
        signs = self._children.wait(self._patience())
        with self._turn:
            self._note_hold_up()
            for deal_with_it in signs:
                deal_with_it()
            if not self._draining:
                self._children.start_missing()
            for child, strand in self._strands():
                self._supervise(child, strand)
            self._supply_all()
            self._held_up_since = time.monotonic() if self._hand.outgoing.is_flooded else None
            self._children.listen(hold_off=self._held_up_since is not None)
            self.tally.report(time.monotonic())
        if self.tally.count > ended_before + 1:
            self._children.bell.wait(_GATHER_SECONDS)

    def close(self) -> None:
        """Kill every child and all it started. To be called when the loop has ended."""
        self._children.close()

    def _note_hold_up(self) -> None:
        if self._held_up_since is not None:
            for _, strand in self._strands():
                strand.hold_up(time.monotonic() - self._held_up_since)

    def _patience(self) -> float:
        if self._draining or any(strand.is_withdrawing for _, strand in self._strands()):
            return _GATHER_SECONDS
        return _TICK_SECONDS if any(strand.sent for _, strand in self._strands()) else _IDLE_SECONDS

    def _strands(self) -> Iterator[tuple[ChildProcess, Strand]]:
        return ((child, strand) for child in self._children for strand in child.strands)

    # --- what children report

    def _on_frames(self, strand: Strand, frames: list[Frame]) -> None:
        ended: list[tuple[Grant, Result]] = []
        try:
            for kind, body in frames:
                if kind in (RESULT, LAST):
                    result = _result.decode(body)
                    ended.append((strand.ended(), result))
                    if kind == LAST:
                        self._retire(strand)
                elif kind == CHECKPOINT:
                    self._on_checkpoint(strand, _checkpoint.decode(body))
                elif kind == SKIPPED:
                    self._hand.put_back(strand.skipped(int(body)))
        except (msgspec.DecodeError, IndexError) as error:  # a task wrote into the pipe
            raise Garbled from error
        finally:
            self._end(ended)

    def _retire(self, strand: Strand) -> None:
        """Kill a child with all that a task has left there that was stopped; what waits in it waits here again."""
        child = next(child for child in self._children if strand in child.strands)
        self._hand.put_back([grant for _, grant in strand.sent])
        strand.sent.clear()
        child.is_killed = True
        child.kill()

    def _on_checkpoint(self, strand: Strand, checkpoint: Checkpoint) -> None:
        if checkpoint.output and strand.sent:  # a thread that the task has left may save after its end
            self._memo.saw_output(strand.sent[0][1].type)
        self._hand.save(checkpoint)

    def _on_lines(self, child: ChildProcess, strand: Strand, lines: list[Line]) -> None:
        """Keep each line for the task that printed it.

        Of what a thread prints outside Python (C code, a program it starts) nobody can say which thread
        it was: every task that runs on one gets it.
        """
        now = time.monotonic()
        for serial, group in groupby(lines, lambda line: line.serial):
            printed = list(group)
            owner = strand.whose(serial)
            owners = [owner] if owner else self._on_threads(child, printed) if strand.is_main else []
            for grant in owners:
                self._hand.say(grant, [(now, line.level, line.text) for line in printed])
            self.tally.printed(", ".join(str(grant.task_id) for grant in owners) or "-", printed)

    def _on_threads(self, child: ChildProcess, lines: list[Line]) -> list[Grant]:
        for strand in child.strands[1:]:
            strand.note(lines)
        return [grant for strand in child.strands[1:] if (grant := strand.whose(NOBODY))]

    def _on_death(self, child: ChildProcess, wait_status: int, peak_rss_bytes: int) -> None:
        """End the tasks that a dead child ran, or was about to take up; those behind them wait again."""
        busy = [strand for strand in child.strands if strand.sent]
        for strand in busy or child.strands[:1]:
            reason = strand.stop_reason
            if child.is_killed and reason is StopReason.NONE:
                reason = StopReason.DROP  # a neighbour did not stop; this one may go on elsewhere
            elif reason is StopReason.DRAIN and not (self._killing or child.is_killed):
                reason = StopReason.NONE  # asked politely, it died of something else
            lines = strand.last_words()
            error = death(wait_status, peak_rss_bytes, lines, tasks=len(busy), is_garbled=child.is_garbled)
            if reason is StopReason.NONE:
                self._log("child_died", pid=child.pid, reason=msgspec.json.decode(error)["message"])
            if strand.sent:
                self._end_strand(strand, reason, error)

    def _end_strand(self, strand: Strand, reason: StopReason, error: msgspec.Raw) -> None:
        current = strand.current()
        grant = strand.sent.popleft()[1]
        result = result_of_death(grant, reason, error, self._declared(grant))
        result.elapsed_seconds = current[1] if current else 0.0
        self._end([(grant, result)])
        self._hand.put_back([grant for _, grant in strand.sent])

    def _end(self, ended: list[tuple[Grant, Result]]) -> None:
        counted = self._hand.end([result for _, result in ended])
        if len(counted) < len(ended):
            ids = set(map(id, counted))
            ended = [pair for pair in ended if id(pair[1]) in ids]
        self.tally.ended(ended)
        self._memo.learn(ended)

    # --- supervision

    def _supervise(self, child: ChildProcess, strand: Strand) -> None:
        """Look after what a strand runs, and what waits behind that."""
        if self._killing and strand.sent:
            strand.stop_reason = strand.stop_reason or StopReason.DRAIN
            child.kill()
        self._hand.put_back(strand.collect())
        if self._draining or self._is_slow(strand):
            strand.take_back()
        current = strand.current()
        if current is None:
            return
        grant, elapsed = current
        reason = self._reason_to_stop(strand, grant, elapsed)
        if reason is not strand.stop_reason:
            child.stop(strand, reason)
        elif time.monotonic() >= strand.kill_at:
            child.is_killed = True
            child.kill()
        if elapsed >= LONG_SECONDS and strand.announced != strand.sent[0][0]:
            strand.announced = strand.sent[0][0]
            self.tally.started(grant)

    def _reason_to_stop(self, strand: Strand, grant: Grant, elapsed: float) -> StopReason:
        """Why the running task should stop; one that was told to is not told for a lesser reason."""
        if strand.stop_reason is StopReason.DROP or strand.stop_reason in OVERRUN:
            return strand.stop_reason
        if (grant.task_id, grant.attempt) not in self._hand:
            return StopReason.DROP
        limit = grant.timeout_seconds or self._declared(grant).timeout_seconds
        if limit and elapsed - strand.unheard_seconds > limit:
            self._log("task_overran", task_id=grant.task_id, attempt=grant.attempt, seconds=limit)
            return StopReason.TIMEOUT
        patience = grant.stall_seconds
        if patience is not UNSET and strand.silent_seconds > patience:
            self._log("task_stalled", task_id=grant.task_id, attempt=grant.attempt, seconds=patience)
            return StopReason.STALL
        return StopReason.DRAIN if self._draining else StopReason.NONE

    def _is_slow(self, strand: Strand) -> bool:
        """Whether nothing should wait behind what this strand runs."""
        current = strand.current()
        if current is None:
            return False
        grant, elapsed = current
        mean = self._pace.seconds(grant.type)
        if self._pace.is_short(grant.type):
            return elapsed > max(_SLOW_SECONDS, _SLOW_TIMES * mean)
        return elapsed > _SLOW_SECONDS or mean < float("inf")

    def _is_closed(self, strand: Strand) -> bool:
        """Whether it runs something long, or of unknown length."""
        current = strand.current()
        return current is not None and (self._is_slow(strand) or not self._pace.is_short(current[0].type))

    def _declared(self, grant: Grant) -> Declared:
        return self.types.get(grant.type, _NOTHING_DECLARED)

    # --- supply

    def _supply_all(self) -> None:
        self._supply(waits=False)
        if self.threads:
            self._supply(waits=True)

    def _supply(self, waits: bool) -> None:
        """Give what is queued to the strands; nothing waits in this worker behind long tasks, or for no strand."""
        hand = self._hand
        if not hand.queued(waits):
            return
        strands = self._children.usable(waits)
        if self._draining or sum(map(self._is_slow, self._children.strands(waits))) == strands:
            self._release(hand.empty_queue(waits))
            return
        for strand in self._children.strands(waits):
            if strand.has_room and not self._is_closed(strand):
                share = -(-hand.queued(waits) // strands)  # leave as much for each other strand
                count = min(share, _BATCH_TASKS)
                batch = hand.next_batch(count, _BATCH_SECONDS, self._pace.seconds, waits)
                if batch:
                    strand.give(batch, hand.start_by())

    def _release(self, grants: list[Grant]) -> None:
        results = [
            Result(task_id=g.task_id, attempt=g.attempt, lease_id=g.lease_id, outcome="released") for g in grants
        ]
        self._end(list(zip(grants, results, strict=True)))
