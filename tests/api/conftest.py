"""The API tests' fixture: a Flask client on a real dispatcher."""

from __future__ import annotations

import pytest

from tests.support.api import Api
from tests.support.dispatcher import Dispatcher


@pytest.fixture
def api(dispatcher: Dispatcher) -> Api:
    return Api(dispatcher)
