"""Fixtures of the tests that open a database; whatever a test did, its file must keep the invariants."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings

from tests.support.builder import Builder
from tests.support.dispatcher import Dispatcher
from tests.support.fake_clock import FakeClock
from tests.support.invariants import check_invariants

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


@pytest.fixture
def dispatcher(tmp_path: Path, clock: FakeClock, dispatcher_settings: dict[str, Any]) -> Iterator[Dispatcher]:
    opened = Dispatcher(tmp_path, clock, **dispatcher_settings)
    yield opened
    opened.close()
    check_invariants(opened.path)


@pytest.fixture
def tasks(dispatcher: Dispatcher) -> Builder:
    return Builder(dispatcher)
