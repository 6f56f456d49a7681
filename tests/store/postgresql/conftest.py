"""The store of these tests: a PostgreSQL, used with and without what poolers and likenesses lack."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.stores import PostgreSQLStore, Store
from tests.support.troubles import FEATURES


@pytest.fixture(params=FEATURES, ids=lambda features: "+".join(sorted(features)) or "neither")
def store(request: pytest.FixtureRequest, postgres: tuple[str, str]) -> Iterator[Store]:
    """A database on PostgreSQL, used with and without what poolers and likenesses lack."""
    made = PostgreSQLStore(*postgres, frozenset(request.param))
    yield made
    made.drop()
