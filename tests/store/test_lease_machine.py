"""Random histories of one dispatcher and three workers, the real ledger against tests/support/model.py.

Every grant ever given stays in the bundle, so that late reports keep coming. After each step every
task must stand where the model says; at the end the file must keep the invariants.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import apsw
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from shared import errors
from shared.protocol import ExchangeAnswer, Grant, Holding
from tests.support.builder import Builder
from tests.support.dispatcher import Dispatcher
from tests.support.fake_clock import FakeClock
from tests.support.invariants import check_invariants
from tests.support.messages import body, checkpoint, completed, crashed, failed, fence, holding, released
from tests.support.model import Model, Task

WORKERS = st.sampled_from(["w0", "w1", "w2"])
TYPES: dict[str, list[str] | None] = {"w0": None, "w1": ["a"], "w2": ["a", "b"]}
REPORTS: dict[str, Any] = {
    "completed": completed,
    "failed": lambda grant, number, **more: failed(grant, str(number), **more),
    "crashed": lambda grant, number, **more: crashed(grant, **more),
    "released": lambda grant, number, **more: released(grant, **more),
}
KEPT = st.sampled_from([1.0, 1.0, 0.5, 0.0])  # how much of what it holds a worker still names
SPEAKING = ("completed", "failed")  # outcomes whose reports differ by their bodies
STANDING = "SELECT task_id, status, attempt, failures, crashes, releases, checkpoint_seq FROM tasks ORDER BY 1"


class LeaseMachine(RuleBasedStateMachine):
    grants = Bundle("grants")
    suspicions = Bundle("suspicions")

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="baton-machine-")
        self.clock = FakeClock()
        self.dispatcher = Dispatcher(Path(self.folder.name), self.clock)
        self.builder = Builder(self.dispatcher)
        self.model = Model(self.clock.lease(), self.clock.wall())
        self.reader = apsw.Connection(str(self.dispatcher.path), flags=apsw.SQLITE_OPEN_READONLY)

    def say(self, worker: str, **parts: Any) -> ExchangeAnswer:
        self.model.heard[worker] = self.model.now
        return self.builder.say(worker, types=TYPES[worker], **parts)

    # --- clients

    @rule(
        count=st.integers(1, 3),
        type=st.sampled_from("ab"),
        priority=st.integers(-1, 1),
        max_retries=st.integers(0, 2),
        crash_limit=st.integers(1, 3),
        delay=st.sampled_from([None, None, 5.0]),
    )
    def submit(self, count: int, delay: float | None, **fields: Any) -> None:
        for task_id in self.builder.submit_many(count, delay_seconds=delay, **fields):
            task = self.model.tasks[task_id] = Task(task_id, **fields)
            if delay is not None:
                task.status, task.run_at = "scheduled", self.model.wall + delay

    @rule(grant=grants)
    def cancel(self, grant: Grant) -> None:
        accepted = self.model.cancel(self.model.tasks[grant.task_id])
        assert _accepted(partial(self.builder.cancel, grant.task_id)) == accepted

    @rule(grant=grants, from_scratch=st.booleans())
    def revive(self, grant: Grant, from_scratch: bool) -> None:
        accepted = self.model.revive(self.model.tasks[grant.task_id], from_scratch)
        call = partial(self.builder.revive, grant.task_id, from_scratch=from_scratch)
        assert _accepted(call) == accepted

    # --- workers

    @rule(target=grants, worker=WORKERS, want=st.integers(1, 4))
    def claim(self, worker: str, want: int) -> Any:
        return multiple(*self.compare_claim(worker, want, self.say(worker, want=want)))

    def compare_claim(self, worker: str, want: int, answer: ExchangeAnswer) -> list[Grant]:
        expected = self.model.claim(worker, TYPES[worker], want)
        assert [(grant.task_id, grant.attempt) for grant in answer.tasks] == expected
        for grant in answer.tasks:
            task = self.model.tasks[grant.task_id]
            task.lease_id = grant.lease_id
            stored = None if grant.checkpoint is None else (grant.checkpoint.seq, grant.checkpoint.output_chunks)
            assert stored == (None if task.seq is None else (task.seq, len(task.output)))
        return answer.tasks

    @rule(
        worker=WORKERS,
        kept=st.sampled_from([1.0, 1.0, 0.5, 0.0]),
        late=st.lists(grants, max_size=2),
        running=st.booleans(),
    )
    def heartbeat(self, worker: str, kept: float, late: list[Grant], running: bool) -> None:
        held = self.model.holds(worker)
        entries = [Holding(t.lease_id, t.id, t.attempt, running=running) for t in held[: round(len(held) * kept)]]
        entries += [holding(grant, running) for grant in late]
        listed = {entry.task_id: entry for entry in entries}
        facts = {task_id: (entry.attempt, entry.lease_id, running) for task_id, entry in listed.items()}
        answer = self.say(worker, holding=list(listed.values()))
        assert _names(answer) == self.model.renew(worker, facts)  # type: ignore[arg-type]

    @rule(worker=WORKERS, grant=grants, step=st.integers(-1, 2), chunks=st.integers(0, 2))
    def save(self, worker: str, grant: Grant, step: int, chunks: int) -> None:
        seq = max(0, (self.model.tasks[grant.task_id].seq or 0) + step)
        output = list(range(seq * 10, seq * 10 + chunks))
        answer = self.say(worker, checkpoints=[checkpoint(grant, seq, seq, output=tuple(output))])
        taken = self.model.checkpoint(_fence(grant), seq, output)
        cancelled = self.model.is_cancelled(*_fence(grant))
        over = [] if taken else [(grant.task_id, grant.attempt)]
        assert answer.refused == []
        assert _names(answer) == (([], over) if cancelled else (over, []))

    @rule(
        target=grants,
        worker=WORKERS,
        grant=grants,
        outcome=st.sampled_from(sorted(REPORTS)),
        number=st.integers(1, 2),
        times=st.sampled_from([1, 1, 2]),
        want=st.integers(0, 2),
        saved=st.booleans(),
    )
    def report(
        self, worker: str, grant: Grant, outcome: str, number: int, times: int, want: int, saved: bool
    ) -> Any:
        seq = (self.model.tasks[grant.task_id].seq or 0) + 1
        last = body(seq, output=(seq,)) if saved else None
        answer = self.say(worker, results=[REPORTS[outcome](grant, number, checkpoint=last)] * times, want=want)
        lost = []
        for _ in range(times):
            if saved:
                self.model.checkpoint(_fence(grant), seq, [seq])
            if not self.model.report(_fence(grant), outcome, number if outcome in SPEAKING else None):
                lost.append((grant.task_id, grant.attempt))
        assert _names(answer) == (lost, [])
        return multiple(*(self.compare_claim(worker, want, answer) if want else []))

    @rule(worker=WORKERS)
    def goodbye(self, worker: str) -> None:
        self.builder.say(worker, state="stopped")
        for task in self.model.holds(worker):
            self.model.reclaim(task, counts=False)
        self.model.heard.pop(worker, None)

    # --- time and the monitor

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.5, 2.5, 11.0, 101.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.model.now += seconds
        self.model.wall += seconds

    @rule(seconds=st.sampled_from([-3600.0, 3600.0]))
    def wall_clock_jumps(self, seconds: float) -> None:
        self.clock.jump_wall(seconds)
        self.model.wall += seconds

    @rule()
    def reclaim_silent(self) -> None:
        assert self.dispatcher.ledger.reclaim_silent() == sum(map(self.model.lose, self.model.silent()))

    @rule(target=suspicions)
    def suspect(self) -> Any:
        """The first half of reclaim_silent; other steps fall between it and the second."""
        with self.dispatcher.database.read() as tx:
            rows = tx.silent_workers(before=tx.lease_now - 2.0).fetchall()
        return multiple(*rows)

    @rule(suspicion=consumes(suspicions))
    def lose(self, suspicion: tuple[Any, ...]) -> None:
        worker = suspicion[1]
        silent = self.model.heard.get(worker, self.model.now) < self.model.now - 2.0
        taken = self.dispatcher.database.write(partial(self.dispatcher.ledger._lose, suspicion))
        assert taken == (self.model.lose(worker) if silent else 0)

    @rule()
    def reclaim_expired(self) -> None:
        assert self.dispatcher.ledger.reclaim_expired() == self.model.expire()

    @rule()
    def promote(self) -> None:
        self.dispatcher.ledger.promote()
        self.model.promote()

    @rule()
    def restart(self) -> None:
        self.dispatcher.restart()
        self.model.judging_from = self.model.now + 5.0

    # --- after each step

    @invariant()
    def every_task_stands_where_the_model_says(self) -> None:
        expected = [
            (t.id, t.status, t.attempt, t.failures, t.crashes, t.releases, t.seq)
            for t in self.model.tasks.values()
        ]
        assert list(self.reader.execute(STANDING)) == expected

    def teardown(self) -> None:
        if hasattr(self, "dispatcher"):
            outputs = "SELECT CAST(body AS TEXT) + 0 FROM task_outputs WHERE task_id = ? ORDER BY chunk_index"
            stored = [[n for (n,) in self.reader.execute(outputs, (i,))] for i in self.model.tasks]
            self.reader.close()
            self.dispatcher.close()
            check_invariants(self.dispatcher.path)
            self.folder.cleanup()
            assert stored == [task.output for task in self.model.tasks.values()]


def _accepted(call: Any) -> bool:
    try:
        call()
    except errors.Conflict:
        return False
    return True


def _fence(grant: Grant) -> tuple[int, int, str]:
    return tuple(fence(grant).values())  # type: ignore[return-value]


def _names(answer: ExchangeAnswer) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    lost = [(item.task_id, item.attempt) for item in answer.lost]
    return lost, [(item.task_id, item.attempt) for item in answer.cancel]


TestLeaseMachine = LeaseMachine.TestCase
TestLeaseMachine.settings = settings(max_examples=300, stateful_step_count=25)
