"""PostgreSQL: a transaction that loses against another dispatcher's is run again, and nobody hears of it."""

from __future__ import annotations

import psycopg
import pytest

from dispatcher import database as database_module
from shared import errors
from tests.support.builder import Builder
from tests.support.troubles import ONCE, failing, ids, losing, parked

RACES = [psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure, psycopg.errors.LockNotAvailable]


@ONCE
@pytest.mark.parametrize("race", RACES)
def test_a_lost_race_is_run_again_and_nobody_hears_of_it(tasks: Builder, race: type[psycopg.Error]) -> None:
    calls = failing(tasks.dispatcher, "submit", losing(race), database_module.TRIES - 1)

    task_id = tasks.submit()

    assert len(calls) == database_module.TRIES
    assert tasks.dispatcher.rows("SELECT task_id FROM tasks") == [(task_id,)]
    assert tasks.dispatcher.events("write_failed") == []


@ONCE
def test_a_race_lost_too_often_is_a_503_and_nothing_is_stored(tasks: Builder) -> None:
    failing(tasks.dispatcher, "add_count", losing(RACES[0]), database_module.TRIES)

    with pytest.raises(errors.DatabaseUnavailable, match="nothing was stored") as refused:
        tasks.submit()

    assert type(refused.value) is errors.DatabaseUnavailable
    assert refused.value.retry_after_seconds > 0
    assert tasks.dispatcher.rows("SELECT * FROM tasks") == []
    assert tasks.status(tasks.submit()) == "pending"


def test_a_parked_claim_survives_the_lost_race_of_the_transaction_that_serves_it(tasks: Builder) -> None:
    call = parked(tasks)
    failing(tasks.dispatcher, "claim", losing(RACES[0]))

    task_id = tasks.submit()

    assert ids(call.result()) == [task_id]
    assert tasks.status(task_id) == "in-progress"


def test_a_parked_claim_is_answered_when_the_transaction_that_serves_it_is_given_up(tasks: Builder) -> None:
    call = parked(tasks)
    failing(tasks.dispatcher, "claim", losing(RACES[0]), database_module.TRIES)

    with pytest.raises(errors.DatabaseUnavailable):
        tasks.submit()

    with pytest.raises(errors.DatabaseUnavailable):
        call.result()
    assert tasks.dispatcher.rows("SELECT * FROM tasks") == []
