"""One commit for many: what one operation's failure, a full disk or the end of the process does to others."""

from __future__ import annotations

import threading
from typing import Any

import apsw
import pytest

from dispatcher import company, sqlite
from dispatcher import database as database_module
from dispatcher.database import Database
from dispatcher.transaction import Transaction
from shared import errors
from shared.protocol import Revival, Submission
from tests.support.builder import Builder
from tests.support.dispatcher import Dispatcher
from tests.support.messages import holding, raw
from tests.support.waiting import LIMIT_SECONDS, Call, wait_until
from tests.support.writer_held import WriterHeld

LARGE = b'"' + b"x" * 200_000 + b'"'


def test_one_refused_operation_spoils_nothing_for_its_group(tasks: Builder) -> None:
    ledger = tasks.dispatcher.ledger
    with WriterHeld(tasks.dispatcher.database) as held:
        calls = [
            Call(tasks.submit),
            Call(ledger.cancel, 999),
            Call(ledger.revive, 999, Revival()),
            Call(tasks.submit),
        ]
        held.wait_for_queued(4)

    with pytest.raises(errors.NotFound):
        calls[1].result()
    with pytest.raises(errors.NotFound):
        calls[2].result()
    assert sorted([calls[0].result(), calls[3].result()]) == [1, 2]
    assert tasks.dispatcher.rows("SELECT COUNT(*) FROM tasks") == [(2,)]


def test_what_a_failed_operation_did_before_is_undone(tasks: Builder) -> None:
    def run(tx: Transaction) -> None:
        tx.fresh_task_ids(n=10).fetchall()
        tx.add_payload(task_id=[7], payload=b"{}")
        raise RuntimeError("a mistake of ours")

    with pytest.raises(RuntimeError):
        tasks.dispatcher.database.write(run)

    assert tasks.dispatcher.rows("SELECT * FROM task_payloads") == []
    assert bytes(tasks.view(tasks.submit()).payload) == b"{}"


def test_a_batch_is_stored_whole_or_not_at_all(tasks: Builder) -> None:
    good, bad = Submission("noop"), Submission("noop", raw([1]))

    with pytest.raises(errors.Invalid, match=r"tasks\[1\]\.payload"):
        tasks.dispatcher.ledger.submit([good, bad])

    assert tasks.dispatcher.rows("SELECT COUNT(*) FROM tasks") == [(0,)]


# The server's disk is not ours to fill; how its errors are taken is in postgresql/test_broken_lines.py.
ON_SQLITE = pytest.mark.parametrize("store", ["sqlite"], indirect=True)


def _limit_pages(database: Database, spare: int) -> int:
    """The file may grow by so many pages and no more: what a full disk looks like to SQLite."""

    def run(tx: Transaction) -> int:
        present = tx._connection.execute("PRAGMA page_count").get
        return int(tx._connection.execute(f"PRAGMA max_page_count = {present + spare}").get)

    return int(database.write(run))


@ON_SQLITE
def test_a_full_disk_stores_nothing_and_loses_nothing(tasks: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dispatcher.database.FULL_SECONDS", 0)
    grant = tasks.start()
    database = tasks.dispatcher.database
    _limit_pages(database, 5)

    with pytest.raises(errors.DatabaseUnavailable, match="nothing was stored"):
        tasks.submit_many(10, payload={"large": "x" * 200_000})
    in_between = (database.trouble, tasks.dispatcher.clock.judging())
    _limit_pages(database, 10_000)
    after = tasks.submit()

    assert (in_between, database.trouble) == (("database or disk is full", False), None)
    assert (after, tasks.status(grant.task_id)) == (2, "in-progress")
    assert [len(tasks.dispatcher.events(name)) for name in ("write_failed", "write_recovered")] == [1, 1]
    assert tasks.dispatcher.fatal == []


@ON_SQLITE
def test_a_disk_that_has_room_for_small_writes_only_counts_as_full(tasks: Builder) -> None:
    database = tasks.dispatcher.database
    _limit_pages(database, 5)

    for _ in range(2):
        with pytest.raises(errors.DatabaseUnavailable, match="nothing was stored"):
            tasks.submit_many(10, payload={"large": "x" * 200_000})
        tasks.submit()

    with pytest.raises(errors.DatabaseUnavailable, match=r"a write failed within the last 5 s: .* full"):
        database.probe(3.0)
    assert [len(tasks.dispatcher.events(name)) for name in ("write_failed", "write_recovered")] == [1, 0]


@ON_SQLITE
def test_after_a_full_disk_nobody_is_judged_silent_for_a_while(tasks: Builder) -> None:
    grant = tasks.start()
    _limit_pages(tasks.dispatcher.database, 5)
    tasks.advance(3)
    with pytest.raises(errors.DatabaseUnavailable):
        tasks.submit_many(10, payload={"large": "x" * 200_000})

    reclaimed = tasks.dispatcher.ledger.reclaim_silent()
    tasks.hold(holding(grant))
    tasks.advance(1.9)

    assert (reclaimed, tasks.dispatcher.ledger.reclaim_silent()) == (0, 0)


@ON_SQLITE
def test_everybody_in_a_failed_commit_is_told(tasks: Builder) -> None:
    database = tasks.dispatcher.database
    _limit_pages(database, 5)
    with WriterHeld(database) as held:
        calls = [Call(tasks.submit), Call(tasks.submit_many, 10, payload={"large": "x" * 200_000})]
        held.wait_for_queued(2)

    for call in calls:
        with pytest.raises(errors.DatabaseUnavailable):
            call.result()
    assert tasks.dispatcher.rows("SELECT COUNT(*) FROM tasks") == [(0,)]


@ON_SQLITE
def test_a_disk_that_fills_while_a_parked_claim_is_served_answers_everybody(
    tasks: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The submission fits, the grant of it does not: the parked caller must not be forgotten."""
    database = tasks.dispatcher.database
    call = Call(tasks.say, "w1", want=1, wait_seconds=1.0)
    wait_until(lambda: database._parked, "the claim to be parked")
    full = {**database.engine.statements, "claim": _disk_full}
    monkeypatch.setattr(database.engine, "statements", full)

    with pytest.raises(errors.DatabaseUnavailable):
        tasks.submit()

    assert _answered(call)
    assert tasks.dispatcher.rows("SELECT COUNT(*) FROM tasks") == [(0,)]


def _count_commits(database: Database, monkeypatch: pytest.MonkeyPatch) -> list[None]:
    commits: list[None] = []
    commit = database.engine.commit

    def counted(*facts: Any) -> None:
        commits.append(None)
        commit(*facts)

    monkeypatch.setattr(database.engine, "commit", counted)
    return commits


def _disk_full(connection: apsw.Connection, **values: object) -> None:
    connection.execute(f"PRAGMA max_page_count = {connection.execute('PRAGMA page_count').get}")
    connection.execute("INSERT INTO task_payloads VALUES (999, zeroblob(1000000))")


def _answered(call: Call) -> bool:
    """With an answer or with an error that says to come back: both are fine, silence is not."""
    try:
        call.result(5.0)
    except errors.Unavailable:
        return True
    return True


def test_too_many_waiting_operations_are_told_to_come_back(
    tasks: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "QUEUE_MAX", 2)
    with WriterHeld(tasks.dispatcher.database) as held:
        calls = [Call(tasks.submit) for _ in range(2)]
        held.wait_for_queued(2)
        with pytest.raises(errors.Busy):
            tasks.submit()

    assert sorted(call.result() for call in calls) == [1, 2]


def test_a_mistake_outside_any_operation_answers_everybody(
    tasks: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = tasks.dispatcher.database
    monkeypatch.setattr(database._company, "_expected", 2)
    monkeypatch.setattr(database._company, "_saves_seconds", LIMIT_SECONDS)
    monkeypatch.setattr(database.engine, "commit", _mistake)

    calls = [Call(tasks.submit), Call(tasks.submit)]

    for call in calls:
        with pytest.raises((errors.DatabaseUnavailable, ZeroDivisionError)):
            call.result()
    assert len(tasks.dispatcher.fatal) == 1
    assert "ZeroDivisionError" in tasks.dispatcher.fatal.pop()


def _mistake(*facts: object) -> None:
    raise ZeroDivisionError


@ON_SQLITE
def test_a_damaged_file_stops_the_dispatcher(tasks: Builder) -> None:
    def run(tx: Transaction) -> None:
        raise apsw.CorruptError("database disk image is malformed")

    with pytest.raises(errors.DatabaseUnavailable):
        tasks.dispatcher.database.write(run)

    assert tasks.dispatcher.fatal == ["database disk image is malformed"]


def test_what_waits_is_carried_out_before_the_database_closes(tasks: Builder) -> None:
    with WriterHeld(tasks.dispatcher.database) as held:
        calls = [Call(tasks.submit) for _ in range(5)]
        held.wait_for_queued(5)
        closing = Call(tasks.dispatcher.database.close)
        held.wait_for_closing()

    closing.result()
    assert sorted(call.result() for call in calls) == [1, 2, 3, 4, 5]


def test_a_write_that_comes_while_the_database_closes_gets_an_answer(tasks: Builder) -> None:
    with WriterHeld(tasks.dispatcher.database) as held:
        closing = Call(tasks.dispatcher.database.close)
        held.wait_for_closing()
        late = Call(tasks.submit)
        wait_until(lambda: late.done, "the late write")

    closing.result()
    assert _answered(late)


def test_a_closed_database_says_so(dispatcher: Dispatcher) -> None:
    dispatcher.close()

    with pytest.raises(errors.DatabaseUnavailable, match="stopping"):
        dispatcher.ledger.submit([Submission("noop")])


def test_who_meets_nobody_writes_in_its_own_thread_and_who_must_wait_does_not(tasks: Builder) -> None:
    database = tasks.dispatcher.database
    alone = database.write(lambda tx: threading.current_thread().name)
    with WriterHeld(database) as held:
        waiting = Call(database.write, lambda tx: threading.current_thread().name)
        held.wait_for_queued(1)

    assert (alone, waiting.result()) == (threading.current_thread().name, "writer")


def test_callers_that_met_share_the_next_commit_too(tasks: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    database = tasks.dispatcher.database
    with WriterHeld(database) as held:
        together = [Call(database.write, lambda tx: None) for _ in range(2)]
        held.wait_for_queued(2)
    for call in together:
        call.result()
    monkeypatch.setattr(database._company, "_saves_seconds", LIMIT_SECONDS)
    commits = _count_commits(database, monkeypatch)

    first = Call(tasks.submit)
    held.wait_for_queued(1)
    second = Call(tasks.submit)

    assert sorted([first.result(), second.result()]) == [1, 2]
    assert commits == [None]


def test_who_comes_back_alone_is_not_waited_for_again(tasks: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    database = tasks.dispatcher.database
    monkeypatch.setattr(database._company, "_expected", 2)
    monkeypatch.setattr(database._company, "_saves_seconds", 0.001)
    tasks.submit()
    monkeypatch.setattr(database._company, "_saves_seconds", 10 * LIMIT_SECONDS)

    assert Call(tasks.submit).result() == 2


@pytest.mark.parametrize(
    ("work", "commit", "operations", "seconds"),
    [
        (0.0002, 0.0003, 1, 0.0003),  # small writes: the commit is most of it
        (0.0008, 0.0003, 4, 0.0003),
        (0.0060, 0.0010, 1, 0.0),  # hundreds of results: nobody should wait for company
        (0.0002, 0.0300, 1, 0.005),  # a slow disk
    ],
)
def test_a_transaction_waits_for_company_as_long_as_that_saves(
    work: float, commit: float, operations: int, seconds: float
) -> None:
    assert company.saves(work, commit, operations) == seconds


@ON_SQLITE
def test_the_log_is_moved_into_the_file_though_one_caller_never_pauses(
    tasks: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "LOG_PAGES", 20)
    monkeypatch.setattr(sqlite, "LOG_PAGES_BUSY", 20)
    engine = tasks.dispatcher.database.engine
    assert isinstance(engine, sqlite.SQLite)
    longest = 0

    for _ in range(200):
        tasks.submit()
        longest = max(longest, engine._log_pages)

    assert longest < 200  # it would be some 800 otherwise


def test_many_writers_at_once_lose_nothing(tasks: Builder) -> None:
    calls = [Call(tasks.submit_many, 5) for _ in range(20)]

    ids = [task_id for call in calls for task_id in call.result(LIMIT_SECONDS)]

    assert sorted(ids) == list(range(1, 101))


def test_many_claimers_at_once_share_the_tasks(tasks: Builder) -> None:
    ids = tasks.submit_many(100)
    calls = [Call(tasks.claim, f"w{number}", 5) for number in range(20)]

    granted = [grant.task_id for call in calls for grant in call.result()]

    assert sorted(granted) == ids
