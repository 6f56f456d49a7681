"""The scale model: a fleet of simulated workers on the real ledger under virtual time.

The dispatcher is one server with one queue: it takes what waits, up to a group commit's worth, and is
busy for as long as the messages cost; the real ledger decides what comes of them. virtual.py has the
dispatcher, fleet.py the workers, simulate.py the command.
"""

from __future__ import annotations

import contextlib
import heapq
import random
import tempfile
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from analysis.calibration import Costs
from analysis.fleet import TYPE, Conditions, Message, Simulated, Tally, next_beat
from analysis.simulation_outcome import Outcome, Served, sum_up
from analysis.virtual import VirtualDispatcher
from dispatcher.database import GROUP_MAX
from shared.client import ANSWER_SECONDS
from shared.protocol import BATCH_MAX, Submission
from shared.settings import Settings

_MEASURE_FROM: Final = 5.0  # seconds until the fleet has swung in


class _TimeIsUp(Exception):
    """The end of the simulated time, wherever it is reached."""


class Simulation:
    """One fleet. `tell(share)` hears how much of the virtual time has passed."""

    def __init__(self, workers: int, conditions: Conditions, costs: Costs, seed: int = 1) -> None:
        self.workers = workers
        self.conditions = conditions
        self.costs = {
            "heartbeat": costs.heartbeat_seconds,
            "checkpoint": costs.checkpoint_seconds,
            "work": costs.work_seconds,
        }
        self.commit_seconds = costs.commit_seconds
        self.tally = Tally(_MEASURE_FROM)
        self._random = random.Random(seed)
        self._names: dict[str, Simulated] = {}
        self._born = 0
        self._events: list[tuple[float, int, Callable[[float, Any], None], Any]] = []
        self._number = 0
        self._queue: deque[Message] = deque()
        self._served = Served()
        self._all_served = 0
        self._now = 0.0
        self._until = 0.0
        self._tell: Callable[[float], object] = lambda share: None
        self._free_at = -1.0  # when the group before was answered

    def run(self, seconds: float, tell: Callable[[float], object] = lambda share: None) -> Outcome:
        """Simulate so many seconds after the start."""
        began = perf_counter()
        until = _MEASURE_FROM + seconds
        settings = replace(
            Settings(),
            heartbeat_interval_seconds=self.conditions.heartbeat_seconds,
            heartbeat_timeout_seconds=self.conditions.timeout_seconds,
        )
        with tempfile.TemporaryDirectory(prefix="baton-simulation-") as folder:
            self._dispatcher = VirtualDispatcher(Path(folder), settings, self._on_event)
            try:
                self._populate(seconds)
                self._serve_until(until, tell)
            finally:
                self._dispatcher.close()
        self._served.backlog = len(self._queue)
        per_message = self._dispatcher.ledger_seconds / max(1, self._all_served)
        looks = self._dispatcher.duty_seconds["reclaim_silent"]
        outcome = sum_up(self.workers, seconds, self.tally, self._served, per_message, looks)
        outcome.real_seconds = perf_counter() - began
        return outcome

    # --- the start: everybody registered and at work, at no cost

    def _populate(self, seconds: float) -> None:
        conditions = self.conditions
        turnover = (
            2 + (seconds + _MEASURE_FROM) * (1 / conditions.task_seconds + 1 / conditions.lifetime_seconds) * 2
        )
        left = int(self.workers * turnover) + 100
        while left > 0:
            batch = min(left, BATCH_MAX)
            self._dispatcher.ledger.submit([Submission(TYPE, crash_limit=1000)] * batch)
            left -= batch
        newcomers = [self._newcomer(0.0) for _ in range(self.workers)]
        for first in range(0, len(newcomers), GROUP_MAX):
            group = [worker.ask(0.0) for worker in newcomers[first : first + GROUP_MAX]]
            answers = self._dispatcher.serve([message.body for message in group])
            for message, answer in zip(group, answers, strict=True):
                worker = message.sender
                worker.work = None
                worker.take(answer.tasks[0], 0.0, conditions)
                worker.done_at *= self._random.random()  # in the middle of things, not all at the beginning
                self._at(worker.done_at, self._on_done, worker)
                self._at(self._random.random() * conditions.heartbeat_seconds, self._on_beat, worker)
        self._dispatcher.ledger_seconds = 0.0

    def _newcomer(self, now: float) -> Simulated:
        self._born += 1
        worker = Simulated(f"simulated-{self._born}")
        self._names[worker.info.worker_id] = worker
        life = self._random.expovariate(1 / self.conditions.lifetime_seconds)
        self._at(now + life, self._on_death, worker)
        return worker

    # --- the server

    def _serve_until(self, until: float, tell: Callable[[float], object]) -> None:
        self._until = until
        self._tell = tell
        self._dispatcher.database.before_single = self._before_duty_write
        with contextlib.suppress(_TimeIsUp):
            while True:
                self._advance(self._now)
                if self._dispatcher.next_duty_at <= self._now:
                    self._dispatcher.run_duties()
                elif self._queue:
                    self._serve()
                else:
                    self._advance(min(self._dispatcher.next_duty_at, self._events[0][0]))
        self._close_accounts(until)

    def _advance(self, now: float) -> None:
        """Time passes, and with it what happens to the workers."""
        if now >= self._until:
            self._happen(self._until)
            raise _TimeIsUp
        self._now = self._dispatcher.clock.now = now
        self._happen(now)
        self._tell(now / self._until)

    def _before_duty_write(self) -> None:
        """A write of the monitor shares its commit with the messages that wait, and comes after them."""
        if self._queue:
            self._serve()
        else:
            self._advance(self._now + self.commit_seconds)
        self._account(self.costs["work"], 0)
        self._advance(self._now + self.costs["work"])

    def _serve(self) -> None:
        """Take a group from the queue and answer it."""
        now = self._now
        group = [self._queue.popleft() for _ in range(min(GROUP_MAX, len(self._queue)))]
        answers = self._dispatcher.serve([message.body for message in group])
        busy = sum(self.costs[message.kind] for message in group)
        # While a commit reaches the disk, the next messages are prepared.
        takes = max(busy, self.commit_seconds) if now <= self._free_at else busy + self.commit_seconds
        self._free_at = now + takes
        self._account(busy, len(group))
        for message, answer in zip(group, answers, strict=True):
            worker = message.sender
            if worker.heard_at is not None:
                self.tally.add(now, self.tally.gaps, now - worker.heard_at)
            worker.heard_at = now
            self._at(now + takes + self.conditions.network_seconds, self._on_answer, (message, answer))
        self._advance(now + takes)

    def _account(self, busy_seconds: float, messages: int) -> None:
        self._all_served += messages
        if self._now >= _MEASURE_FROM:
            self._served.busy_seconds += busy_seconds
            self._served.messages += messages

    def _on_event(self, event: str, facts: dict[str, Any]) -> None:
        if event == "worker_silent":
            now, worker = self._dispatcher.clock.now, self._names[facts["worker_id"]]
            if worker.died_at is None:
                self.tally.count(now, "false deaths")
            elif worker.died_at >= _MEASURE_FROM:
                self.tally.detections.append(now - worker.died_at)

    # --- the workers

    def _at(self, time: float, happen: Callable[[float, Any], None], what: Any) -> None:
        self._number += 1
        heapq.heappush(self._events, (time, self._number, happen, what))

    def _happen(self, now: float) -> None:
        """Everything that happens up to now, in its order."""
        while self._events and self._events[0][0] <= now:
            time, _, happen, what = heapq.heappop(self._events)
            happen(time, what)

    def _send(self, message: Message) -> None:
        """Into the queue; what is not answered in time is sent again, and still costs its time."""
        arrives = message.sent_at + self.conditions.network_seconds
        self._at(arrives, lambda _, message: self._queue.append(message), message)
        self._at(message.sent_at + ANSWER_SECONDS, self._on_timeout, message)

    def _on_beat(self, now: float, worker: Simulated) -> None:
        if worker.died_at is None:
            self._send(worker.heartbeat(now, self.conditions))

    def _on_done(self, now: float, worker: Simulated) -> None:
        if worker.died_at is None and worker.grant is not None and worker.done_at == now:
            self.tally.spend(worker.started_at, now, "worked")
            worker.finish(now)
            self._send(worker.ask(now))

    def _on_answer(self, now: float, what: tuple[Message, Any]) -> None:
        message, answer = what
        worker = message.sender
        if worker.died_at is not None:
            return
        if message is worker.beat:
            worker.beat = None
            if message.saved_at is not None and worker.grant is not None:
                worker.saved_at = max(worker.saved_at, message.saved_at)
            self._at(next_beat(self._random, now, self.conditions), self._on_beat, worker)
            self._forget_lost(now, worker, answer)
        elif message is worker.work:
            worker.work = None
            self._begin(now, worker, answer)

    def _forget_lost(self, now: float, worker: Simulated, answer: Any) -> None:
        if worker.lose(answer):
            self.tally.count(now, "grants lost by mistake")
            self.tally.spend(worker.started_at, now, "worked")
            self.tally.spend(worker.saved_at, now, "lost by mistake")
            worker.asked_at = now
            if worker.work is None:
                self._send(worker.ask(now))

    def _begin(self, now: float, worker: Simulated, answer: Any) -> None:
        if worker.result is not None:
            self.tally.count(now, "results refused" if answer.lost else "completed")
        worker.result = None
        if not answer.tasks:
            self._at(now + 1.0, self._on_ask_again, worker)
            return
        self.tally.add(now, self.tally.delays, now - worker.asked_at)
        self.tally.spend(worker.asked_at, now, "idle")
        worker.take(answer.tasks[0], now, self.conditions)
        self._at(worker.done_at, self._on_done, worker)

    def _on_ask_again(self, now: float, worker: Simulated) -> None:
        if worker.died_at is None and worker.grant is None and worker.work is None:
            self._send(worker.ask(now))

    def _on_timeout(self, now: float, message: Message) -> None:
        worker = message.sender
        if worker.died_at is not None or message not in (worker.beat, worker.work):
            return
        self.tally.count(now, "timeouts")
        pause = self._random.uniform(0.5, 1.0)
        if message is worker.beat:
            worker.beat = None
            self._at(now + pause, self._on_beat, worker)
        else:
            worker.work = None
            self._at(now + pause, self._on_ask_again, worker)

    def _on_death(self, now: float, worker: Simulated) -> None:
        worker.died_at = now
        self.tally.count(now, "deaths")
        if worker.grant is not None:
            self.tally.spend(worker.started_at, now, "worked")
            self.tally.spend(worker.saved_at, now, "lost to deaths")
        self._at(now + self.conditions.absence_seconds, self._on_birth, None)

    def _on_birth(self, now: float, _: None) -> None:
        worker = self._newcomer(now)
        worker.asked_at = now
        self._send(worker.ask(now))
        self._send(worker.heartbeat(now, self.conditions))

    def _close_accounts(self, now: float) -> None:
        for worker in self._names.values():
            if worker.died_at is None:
                since, what = (worker.started_at, "worked") if worker.grant else (worker.asked_at, "idle")
                self.tally.spend(since, now, what)
