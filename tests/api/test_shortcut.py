"""Two calls go past Flask when they ask for nothing unusual: nobody may be able to tell."""

from __future__ import annotations

import io
from typing import Any

import pytest
from werkzeug.test import TestResponse

from dispatcher.shortcut import Shortcut
from shared import errors
from tests.support.api import Api

UNUSUAL = "application/json; charset=utf-8"  # this is for Flask to look at
BODIES = {
    "a task": ("/tasks", b'{"type": "noop"}'),
    "a batch": ("/tasks", b'{"tasks": [{"type": "noop"}, {"type": "noop", "payload": {"a": "\xc3\xa9"}}]}'),
    "no JSON": ("/tasks", b'{"type": "noop"'),
    "nothing": ("/tasks", b""),
    "no object": ("/tasks", b"[]"),
    "not UTF-8": ("/tasks", b'{"type": "\xff"}'),
    "an unknown field": ("/tasks", b'{"type": "noop", "colour": "red"}'),
    "a wrong type": ("/tasks", b'{"tasks": [{"type": "noop", "priority": "high"}]}'),
    "NaN": ("/tasks", b'{"type": "noop", "payload": {"a": NaN}}'),
    "too deep": ("/tasks", b'{"type": "noop", "payload": {"a": %b}}' % (b"[" * 100 + b"]" * 100)),
    "too large": ("/tasks", b'{"type": "noop", "payload": {"a": "%b"}}' % (b"x" * 1_100_000)),
    "a message": ("/exchange", b'{"worker": {"worker_id": "w"}, "want": 1}'),
    "a bad message": ("/exchange", b'{"worker": {"worker_id": 7}}'),
    "no worker": ("/exchange", b"{}"),
    "a bad item": (
        "/exchange",
        b'{"worker": {"worker_id": "w"}, '
        b'"results": [{"task_id": 1, "attempt": 1, "lease_id": "x", "outcome": "?"}]}',
    ),
}


def told(response: TestResponse) -> tuple[int, Any, str | None, str | None]:
    """What of an answer must be the same."""
    body = response.json
    if isinstance(body, dict):
        body = {key: value for key, value in body.items() if key not in ("task_id", "task_ids")}
    return response.status_code, body, response.content_type, response.headers.get("Retry-After")


@pytest.mark.parametrize("name", BODIES)
def test_an_answer_is_the_same_on_both_ways(api: Api, name: str) -> None:
    path, body = BODIES[name]

    short = api.post(path, body)
    long = api.post(path, body, UNUSUAL)

    assert told(short) == told(long)
    assert short.content_length == len(short.data)


def test_a_usual_call_does_not_come_to_flask_and_an_unusual_one_does(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    came: list[str] = []

    def flask(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        came.append(environ["CONTENT_TYPE"])
        start_response("200 OK", [])
        return []

    assert isinstance(api.app.wsgi_app, Shortcut)
    monkeypatch.setattr(api.app.wsgi_app, "_app", flask)
    for content_type in ("application/json", UNUSUAL):
        api.post("/tasks", {"type": "noop"}, content_type)
        api.post("/exchange", {"worker": {"worker_id": "w"}}, content_type)

    assert came == [UNUSUAL, UNUSUAL]


@pytest.mark.parametrize("path", ["/tasks", "/exchange"])
@pytest.mark.parametrize("problem", [errors.Busy(), errors.DatabaseUnavailable("away"), RuntimeError("a mistake")])
def test_a_failure_is_told_the_same_on_both_ways(
    api: Api, path: str, problem: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> None:
        raise problem

    for verb in ("write", "write_and_wait"):
        monkeypatch.setattr(api.dispatcher.database, verb, fail)
    body = {"type": "noop"} if path == "/tasks" else {"worker": {"worker_id": "w"}}

    short, long = api.post(path, body), api.post(path, body, UNUSUAL)

    assert told(short) == told(long)
    assert short.status_code >= 500
    assert len(api.dispatcher.events("internal_error")) == (2 if isinstance(problem, RuntimeError) else 0)


@pytest.mark.parametrize("path", ["/tasks", "/exchange"])
def test_a_body_that_is_cut_short_is_refused(api: Api, path: str) -> None:
    for content_type in ("application/json", UNUSUAL):
        response = api.client.post(
            path,
            input_stream=io.BytesIO(b'{"type": "noop"}'),
            content_type=content_type,
            environ_overrides={"CONTENT_LENGTH": "100"},
        )

        assert (response.status_code, response.json["error"]["code"]) == (400, "malformed")  # type: ignore[index]
    assert api.dispatcher.rows("SELECT * FROM tasks") == []


def test_what_is_unusual_is_still_answered(api: Api) -> None:
    key = {"Idempotency-Key": "k"}
    first, again = (api.client.post("/tasks", json={"type": "noop"}, headers=key) for _ in range(2))

    assert (first.json, again.headers.get("Idempotent-Replay")) == (again.json, "true")
    assert api.post("/tasks?colour=red", {"type": "noop"}).status_code == 422
    assert api.post("/tasks/", {"type": "noop"}).status_code == 201
    assert api.call("PUT", "/tasks", {"type": "noop"}).status_code == 405
    assert api.post("/tasks", b"{}", "text/plain").status_code == 415
