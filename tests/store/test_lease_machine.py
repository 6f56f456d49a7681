"""Random histories of one dispatcher and three workers, the real ledger against tests/support/model.py.

Every grant ever given is kept, so that late reports keep coming. After each step every
task must stand where the model says; at the end the file must keep the invariants.
"""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from shared import errors
from shared.protocol import ExchangeAnswer, Grant, Holding
from tests.support.builder import Builder
from tests.support.dispatcher import Dispatcher
from tests.support.fake_clock import FakeClock
from tests.support.messages import body, checkpoint, completed, crashed, failed, fence, holding, released
from tests.support.model import ENDED, WINDOW, Model, Task
from tests.support.stores import PostgreSQLStore, SQLiteStore, Store

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
NUMBERS = st.integers(0, 30)
TASKS = st.fixed_dictionaries(
    {
        "type": st.sampled_from("ab"),
        "priority": st.integers(-1, 1),
        "max_retries": st.integers(0, 2),
        "crash_limit": st.integers(1, 3),
        "queue": st.sampled_from(["default", "q"]),
        "limit_key": st.sampled_from([None, "k", "k", "l"]),
    },
    optional={
        "delay_seconds": st.just(5.0),
        "unique_key": st.just("u"),
        "deadline_seconds": st.sampled_from([8.0, 3700.0]),
    },
)
RUN_IF = st.sampled_from(["all_completed", "all_completed", "all_finished"])
NAMES = st.sampled_from([("queue", "q"), ("type", "a"), ("key", "k"), ("key", "k"), ("key", "l")])
MAXIMA = st.sampled_from([(1, None), (1, None), (2, None), (None, 1), (None, 2), (1, 2), (0, None)])
OUTCOMES = st.sampled_from(["crashed", "failed", "released", "completed"])
STANDING = "SELECT task_id, status, attempt, failures, crashes, releases, checkpoint_seq FROM tasks ORDER BY 1"


class LeaseMachine(RuleBasedStateMachine):
    # --- how it begins, and what the rules need

    @initialize(
        tasks=st.lists(TASKS, min_size=3, max_size=6),
        want=st.integers(1, 3),
        limits=st.dictionaries(NAMES, MAXIMA, max_size=3),
    )
    def open(self, tasks: list[dict[str, Any]], want: int, limits: dict[Any, Any]) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="baton-machine-")
        self.clock = FakeClock()
        self.dispatcher = Dispatcher(self.store(), self.clock)
        self.builder = Builder(self.dispatcher)
        self.model = Model(self.clock.lease(), self.clock.wall())
        self.given: list[Grant] = []
        self.submit({**tasks.pop(), "delay_seconds": None})  # something to claim at once
        self.claim("w0", 1)
        for name, maxima in limits.items():
            self.limit(name, maxima)
        for fields in tasks:
            self.submit(fields)
        self.claim("w0", want)

    def store(self) -> Store:
        """An empty database."""
        return SQLiteStore(Path(self.folder.name))

    def say(self, worker: str, **parts: Any) -> ExchangeAnswer:
        self.model.heard[worker] = self.model.now
        return self.builder.say(worker, types=TYPES[worker], **parts)

    def pick(self, number: int) -> Grant:
        """A grant: a present one, one whose task has gone on without it, or any that was ever given."""
        present = [grant for grant in self.given if self.model.held(*_fence(grant))]
        tasks = self.model.tasks
        stale = [grant for grant in self.given if tasks[grant.task_id].went_on_without(grant.attempt)]
        pool = (present, stale, self.given)[number % 3] or self.given
        return pool[number // 3 % len(pool)]

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.model.now += seconds
        self.model.wall += seconds
        self.watch()

    def watch(self) -> None:
        """What the monitor does at the very moment."""
        self.dispatcher.ledger.expire()
        self.model.miss_deadlines()
        self.dispatcher.ledger.limits.open_windows()

    # --- clients

    @rule(fields=TASKS)
    def submit(self, fields: dict[str, Any]) -> None:
        fields = dict(fields)
        live = self.model.live_with_key(fields.get("unique_key"))
        within, delay = fields.pop("deadline_seconds", None), fields.pop("delay_seconds", None)
        deadline_at = None if within is None else self.model.wall + within
        deadline = None if deadline_at is None else datetime.fromtimestamp(deadline_at, UTC).isoformat()
        task_id = self.builder.submit(**fields, delay_seconds=delay, deadline=deadline)
        if live is not None:
            assert task_id == live.id
            return
        task = Task(task_id, **fields, deadline_at=deadline_at)
        self.model.tasks[task_id] = task
        if delay is not None:
            task.status, task.run_at = "scheduled", self.model.wall + delay
        self.model.tie(task)
        if self.model.spoilt(task):
            task.status, task.waits_for = "cancelled", set()

    @rule(fields=TASKS, numbers=st.lists(NUMBERS, min_size=1, max_size=3), run_if=RUN_IF)
    def submit_child(self, fields: dict[str, Any], numbers: list[int], run_if: str) -> None:
        ids = list(self.model.tasks)
        parents = [ids[-1 - number % len(ids)] for number in numbers]
        fields = {name: value for name, value in fields.items() if name != "deadline_seconds"}
        self.submit({**fields, "depends_on": parents, "run_if": run_if})

    @rule(number=NUMBERS)
    def cancel(self, number: int) -> None:
        task_id = self.pick(number).task_id
        accepted = self.model.cancel(self.model.tasks[task_id])
        assert _accepted(partial(self.builder.cancel, task_id)) == accepted

    @rule(number=NUMBERS, from_scratch=st.booleans())
    def revive(self, number: int, from_scratch: bool) -> None:
        ended = [task.id for task in self.model.tasks.values() if task.status in ENDED] or [1]
        task_id = ended[number % len(ended)]
        accepted = self.model.revive(self.model.tasks[task_id], from_scratch)
        assert _accepted(partial(self.builder.revive, task_id, from_scratch=from_scratch)) == accepted

    # --- operators

    @rule(name=NAMES, maxima=MAXIMA)
    def limit(self, name: tuple[str, str], maxima: tuple[int | None, int | None]) -> None:
        running, starts = maxima
        window = {} if starts is None else {"max_starts": starts, "per_seconds": WINDOW}
        self.builder.limit(**{name[0]: name[1]}, max_running=running, **window)
        self.model.set_limit(name, running, starts)

    @rule(name=NAMES)
    def lift(self, name: tuple[str, str]) -> None:
        assert _accepted(partial(self.builder.lift, *name)) == self.model.lift(name)

    @rule(name=st.sampled_from([("queue", "q"), ("type", "b")]), paused=st.booleans())
    def pause(self, name: tuple[str, str], paused: bool) -> None:
        self.builder.pause(*name, paused)
        (self.model.paused.add if paused else self.model.paused.discard)(name)

    # --- workers

    @rule(worker=WORKERS, want=st.integers(1, 4))
    def claim(self, worker: str, want: int) -> None:
        self.compare_claim(worker, want, self.say(worker, want=want))

    def compare_claim(self, worker: str, want: int, answer: ExchangeAnswer) -> None:
        expected = self.model.claim(worker, TYPES[worker], want)
        assert [(grant.task_id, grant.attempt) for grant in answer.tasks] == expected
        self.given += answer.tasks
        for grant in answer.tasks:
            task = self.model.tasks[grant.task_id]
            task.lease_id = grant.lease_id
            stored = None if grant.checkpoint is None else (grant.checkpoint.seq, grant.checkpoint.output_chunks)
            assert stored == (None if task.seq is None else (task.seq, len(task.output)))

    @rule(worker=WORKERS, kept=KEPT, late=st.lists(NUMBERS, max_size=2), running=st.booleans())
    def heartbeat(self, worker: str, kept: float, late: list[int], running: bool) -> None:
        held = self.model.holds(worker)
        entries = [Holding(t.lease_id, t.id, t.attempt, running=running) for t in held[: round(len(held) * kept)]]
        self.compare_heartbeat(worker, [*entries, *(holding(self.pick(number), running) for number in late)])

    def compare_heartbeat(self, worker: str, entries: list[Holding]) -> None:
        listed = {entry.task_id or 0: entry for entry in entries}
        facts = {i: (entry.attempt or 0, entry.lease_id, bool(entry.running)) for i, entry in listed.items()}
        answer = self.say(worker, holding=list(listed.values()))
        assert _names(answer) == self.model.renew(worker, facts)

    @rule(worker=WORKERS, running=st.booleans(), newest=st.sampled_from([True, True, False]))
    def come_back(self, worker: str, running: bool, newest: bool) -> None:
        """A worker that was cut off names what it held last (or first), whatever became of it meanwhile."""
        theirs = [grant for grant in self.given if self.model.tasks[grant.task_id].worker == worker]
        named = {grant.task_id: grant for grant in (theirs if newest else theirs[::-1])}
        self.compare_heartbeat(worker, [holding(grant, running) for grant in named.values()])

    @rule(worker=WORKERS)
    def lose_everything(self, worker: str) -> None:
        """Its answers were lost: two complete lists, a heartbeat apart, name nothing."""
        self.compare_heartbeat(worker, [])
        self.pass_time(1.0)
        self.compare_heartbeat(worker, [])

    @rule(worker=WORKERS, number=NUMBERS, step=st.integers(-1, 2), chunks=st.integers(0, 2))
    def save(self, worker: str, number: int, step: int, chunks: int) -> None:
        grant = self.pick(number)
        seq = max(0, (self.model.tasks[grant.task_id].seq or 0) + step)
        output = list(range(seq * 10, seq * 10 + chunks))
        answer = self.say(worker, checkpoints=[checkpoint(grant, seq, seq, output=tuple(output))])
        taken = self.model.checkpoint(_fence(grant), seq, output)
        cancelled = self.model.is_cancelled(*_fence(grant))
        over = [] if taken else [(grant.task_id, grant.attempt)]
        assert answer.refused == []
        assert _names(answer) == (([], over) if cancelled else (over, []))

    @rule(
        worker=WORKERS,
        number=NUMBERS,
        outcome=OUTCOMES,
        body_number=st.integers(1, 2),
        times=st.sampled_from([1, 1, 2]),
        want=st.integers(0, 2),
        saved=st.booleans(),
    )
    def report(
        self, worker: str, number: int, outcome: str, body_number: int, times: int, want: int, saved: bool
    ) -> None:
        grant = self.pick(number)
        seq = (self.model.tasks[grant.task_id].seq or 0) + 1
        last = body(seq, output=(seq,)) if saved else None
        reports = [REPORTS[outcome](grant, body_number, checkpoint=last)] * times
        answer = self.say(worker, results=reports, want=want)
        lost = []
        for _ in reports:
            if saved:
                self.model.checkpoint(_fence(grant), seq, [seq])
            if not self.model.report(_fence(grant), outcome, body_number if outcome in SPEAKING else None):
                lost.append((grant.task_id, grant.attempt))
        assert _names(answer) == (lost, [])
        if want:
            self.compare_claim(worker, want, answer)

    @rule(worker=WORKERS, number=NUMBERS, outcome=OUTCOMES)
    def finish(self, worker: str, number: int, outcome: str) -> None:
        self.report(worker, number, outcome, body_number=1, times=1, want=0, saved=False)

    @rule(worker=WORKERS)
    def goodbye(self, worker: str) -> None:
        self.builder.say(worker, state="stopped")
        for task in self.model.holds(worker):
            self.model.reclaim(task, counts=False)
        self.model.heard.pop(worker, None)

    # --- time and the monitor

    @rule(seconds=st.sampled_from([0.5, 5.0, 11.0]))
    def time_passes(self, seconds: float) -> None:
        self.pass_time(seconds)
        self.dispatcher.ledger.promote()
        self.model.promote()

    @rule(seconds=st.sampled_from([-3600.0, 3600.0]), worker=WORKERS)
    def wall_clock_jumps(self, seconds: float, worker: str) -> None:
        self.clock.jump_wall(seconds)
        self.model.wall += seconds
        self.watch()
        self.claim(worker, 1)
        assert self.dispatcher.ledger.reclaim_silent() == sum(map(self.model.lose, self.model.silent()))
        assert self.dispatcher.ledger.reclaim_expired() == self.model.expire()

    @rule(survivors=st.sets(WORKERS, max_size=2))
    def silence(self, survivors: set[str]) -> None:
        self.pass_time(2.5)
        for worker in sorted(survivors):
            self.say(worker)
        assert self.dispatcher.ledger.reclaim_silent() == sum(map(self.model.lose, self.model.silent()))

    @rule(worker=WORKERS, number=NUMBERS)
    def word_after_suspicion(self, worker: str, number: int) -> None:
        """The monitor has looked; before it takes anything back, a worker is heard."""
        self.pass_time(2.5)
        with self.dispatcher.database.read() as tx:
            suspects = tx.silent_workers(before=tx.lease_now - 2.0).fetchall()
        self.save(worker, number, 1, 0)
        for suspect in suspects:
            silent = self.model.heard.get(suspect[1], self.model.now) < self.model.now - 2.0
            ledger = self.dispatcher.ledger
            taken = ledger._write(lambda tx, ledger=ledger, suspect=suspect: ledger._lose(tx, suspect))
            assert taken == (self.model.lose(suspect[1]) if silent else 0)

    @rule(renewing=st.none() | WORKERS, seconds=st.sampled_from([45.0, 60.0, 101.0]))
    def leases_run_out(self, renewing: str | None, seconds: float) -> None:
        """Everybody is heard, but at most one worker says what it holds."""
        self.pass_time(seconds)
        for worker in TYPES:
            if worker == renewing:
                self.heartbeat(worker, 1.0, [], True)
            else:
                self.say(worker)
        assert self.dispatcher.ledger.reclaim_expired() == self.model.expire()

    @rule()
    def restart(self) -> None:
        self.dispatcher.restart()
        self.model.judging_from = self.model.now + 5.0

    # --- after each step

    @invariant()
    def every_task_stands_where_the_model_says(self) -> None:
        self.watch()
        tasks = self.model.tasks.values()
        expected = [(t.id, t.status, t.attempt, t.failures, t.crashes, t.releases, t.seq) for t in tasks]
        assert self.dispatcher.rows(STANDING) == expected

    def teardown(self) -> None:
        outputs = "SELECT body FROM task_outputs WHERE task_id = ? ORDER BY chunk_index"
        stored = [[int(n) for (n,) in self.dispatcher.rows(outputs, i)] for i in self.model.tasks]
        self.dispatcher.close()
        self.dispatcher.store.check()
        self.folder.cleanup()
        assert stored == [task.output for task in self.model.tasks.values()]


def _accepted(call: Any) -> bool:
    try:
        call()
    except (errors.Conflict, errors.NotFound):
        return False
    return True


def _fence(grant: Grant) -> tuple[int, int, str]:
    return tuple(fence(grant).values())  # type: ignore[return-value]


def _names(answer: ExchangeAnswer) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    lost = [(item.task_id, item.attempt) for item in answer.lost]
    return lost, [(item.task_id, item.attempt) for item in answer.cancel]


class LeaseMachineOnPostgreSQL(LeaseMachine):
    server: ClassVar[tuple[str, str]]

    def store(self) -> Store:
        return PostgreSQLStore(*self.server)

    def teardown(self) -> None:
        super().teardown()
        self.dispatcher.store.drop()  # type: ignore[attr-defined]


@pytest.fixture
def machine_server(postgres: tuple[str, str]) -> None:
    LeaseMachineOnPostgreSQL.server = postgres


TestLeaseMachine = LeaseMachine.TestCase
TestLeaseMachine.settings = settings(max_examples=200, stateful_step_count=25)
TestLeaseMachineOnPostgreSQL = pytest.mark.usefixtures("machine_server")(LeaseMachineOnPostgreSQL.TestCase)
TestLeaseMachineOnPostgreSQL.settings = settings(max_examples=40, stateful_step_count=25)
