"""Api: the dispatcher's HTTP face through Flask's test client, with the one error shape checked."""

from __future__ import annotations

from functools import cache
from typing import Any, ClassVar

import msgspec
from flask import Flask
from werkzeug.local import LocalProxy
from werkzeug.test import TestResponse

from dispatcher.app import create_app
from shared.errors import BY_CODE
from tests.support.dispatcher import Dispatcher

JSON = "application/json"


class Api:
    """Calls answer Flask's response; `json()` decodes one, `error()` asserts the shape of an error."""

    latest: ClassVar[Dispatcher]

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.dispatcher = Api.latest = dispatcher
        self.app = _app()
        self.client = self.app.test_client()

    def call(self, method: str, path: str, body: Any = None, content_type: str | None = JSON) -> TestResponse:
        """`body`: bytes as they are, None for none, anything else as JSON."""
        data = body if isinstance(body, bytes) or body is None else msgspec.json.encode(body)
        options: dict[str, Any] = {} if data is None else {"data": data, "content_type": content_type}
        return self.client.open(path, method=method, **options)

    def get(self, path: str) -> TestResponse:
        return self.call("GET", path)

    def post(self, path: str, body: Any = None, content_type: str | None = JSON) -> TestResponse:
        return self.call("POST", path, body, content_type)

    def json(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        response = self.call(method, path, body)
        assert response.status_code == status, response.get_data(as_text=True)
        assert response.mimetype == JSON
        return msgspec.json.decode(response.data)

    def submit(self, type: str = "noop", **fields: Any) -> int:
        return int(self.json("POST", "/tasks", {"type": type, **fields}, 201)["task_id"])

    def exchange(self, worker_id: str = "w1", **parts: Any) -> Any:
        worker = {"worker_id": worker_id, "name": worker_id}
        return self.json("POST", "/exchange", {"worker": worker, **parts})

    def start(self, worker_id: str = "w1", **fields: Any) -> dict[str, Any]:
        """Submit and claim a task; returns its fence."""
        self.submit(**fields)
        (grant,) = self.exchange(worker_id, want=1)["tasks"]
        return {name: grant[name] for name in ("task_id", "attempt", "lease_id")}


@cache
def _app() -> Flask:
    """The face of whichever dispatcher is the latest: a new one for each would take longer than most tests."""
    ledger, records, monitor, log = map(_part, ("ledger", "records", "monitor", "log"))
    return create_app(ledger, records, monitor, log)


def _part(name: str) -> Any:
    return LocalProxy(lambda: getattr(Api.latest, name))


def error(response: TestResponse, status: int, code: str) -> dict[str, Any]:
    """Assert that this is such an error in the one shape; returns the inner object."""
    assert response.status_code == status, response.get_data(as_text=True)
    body = assert_shape(response)
    assert body["code"] == code, body
    return body


def assert_shape(response: TestResponse) -> dict[str, Any]:
    """The one shape of every error; returns the inner object."""
    assert response.mimetype == JSON
    answer = msgspec.json.decode(response.data)
    assert set(answer) == {"error"}
    body: dict[str, Any] = answer["error"]
    assert set(body) == {"code", "message", "details"}
    assert body["code"] in BY_CODE
    assert isinstance(body["message"], str) and body["message"]
    assert isinstance(body["details"], dict)
    return body
