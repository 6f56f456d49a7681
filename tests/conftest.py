"""Fixtures of the tests that open a database; whatever a test did, it must keep the invariants."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings

from tests.support.builder import Builder
from tests.support.dispatcher import Dispatcher
from tests.support.fake_clock import FakeClock
from tests.support.stores import PostgreSQLStore, SQLiteStore, Store, migrated, server

# No deadline: a loaded machine is no failure. The blob lets anybody replay what was found.
hypothesis_settings.register_profile("baton", deadline=None, print_blob=True)
hypothesis_settings.load_profile("baton")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def dispatcher_settings() -> dict[str, Any]:
    """Settings other than the defaults; a test overrides this by parametrizing it."""
    return {}


@pytest.fixture(scope="session")
def postgres() -> Iterator[tuple[str, str]]:
    """A PostgreSQL server, started when first needed, and a migrated database on it, by name."""
    with server() as url, migrated(url) as template:
        yield url, template


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty database on each engine in turn."""
    if request.param == "sqlite":
        yield SQLiteStore(tmp_path)
        return
    made = PostgreSQLStore(*request.getfixturevalue("postgres"))
    yield made
    made.drop()


@pytest.fixture
def dispatcher(store: Store, clock: FakeClock, dispatcher_settings: dict[str, Any]) -> Iterator[Dispatcher]:
    opened = Dispatcher(store, clock, **dispatcher_settings)
    yield opened
    opened.close()
    store.check()


@pytest.fixture
def pair(store: Store, clock: FakeClock) -> Iterator[tuple[Builder, Builder]]:
    """Two dispatchers on one PostgreSQL, whatever `store` a test makes of that; the first leads."""
    dispatchers = [Dispatcher(store, clock), Dispatcher(store, clock)]
    yield Builder(dispatchers[0]), Builder(dispatchers[1])
    for opened in dispatchers:
        opened.close()
    store.check()


@pytest.fixture
def tasks(dispatcher: Dispatcher) -> Builder:
    return Builder(dispatcher)
