"""What goes wrong between a dispatcher and its PostgreSQL, brought about at the right moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from shared.protocol import ExchangeAnswer
from tests.support.builder import Builder
from tests.support.dispatcher import Dispatcher
from tests.support.stores import Store
from tests.support.waiting import LIMIT_SECONDS, Call, wait_until

FEATURES = [
    {"notify", "prepare", "pipeline"},
    {"notify", "prepare"},
    {"prepare", "pipeline"},
    {"notify", "pipeline"},
    set(),
]
ONCE = pytest.mark.parametrize("store", FEATURES[:1], indirect=True, ids=["all"])


def failing(dispatcher: Dispatcher, name: str, act: Callable[[Any], None], times: int = 1) -> list[int]:
    """The statement `name` is preceded by `act(connection)` so many times; gives the calls so far."""
    engine = dispatcher.database.engine
    run = engine.statements[name]
    calls: list[int] = []

    def wrapped(connection: Any, **values: Any) -> Any:
        calls.append(1)
        if len(calls) <= times:
            act(connection)
        return run(connection, **values)

    engine.statements = {**engine.statements, name: wrapped}
    return calls


def losing(race: type[psycopg.Error]) -> Callable[[Any], None]:
    """Fails as a transaction does that lost against another one."""

    def lose(connection: Any) -> None:
        raise race("the other one was faster")

    return lose


def stranger(store: Store) -> psycopg.Connection[Any]:
    return psycopg.connect(store.url, autocommit=True)


def kill_line(store: Store) -> Callable[[Any], None]:
    """Ends the server's process behind a connection."""

    def kill(connection: psycopg.Connection[Any]) -> None:
        with stranger(store) as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", (connection.info.backend_pid,))

    return kill


def parked(tasks: Builder, worker: str = "w1") -> Call:
    database = tasks.dispatcher.database
    before = len(database._parked)
    call = Call(tasks.say, worker, want=1, wait_seconds=LIMIT_SECONDS)
    wait_until(lambda: len(database._parked) > before, "the claim to be parked")
    return call


def ids(answer: ExchangeAnswer) -> list[int]:
    return [grant.task_id for grant in answer.tasks]
