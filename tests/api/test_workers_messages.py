"""POST /exchange and its three parts for curl: shapes, refusals per item, lost grants, goodbyes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.support.api import Api, error

LARGE = b'"' + b"x" * (1024 * 1024) + b'"'


def test_an_exchange_answers_with_everything_a_worker_needs(api: Api) -> None:
    api.submit("prime", payload={"limit": 10}, timeout_seconds=5)

    answer = api.exchange(want=1)

    (task,) = answer.pop("tasks")
    assert answer == {
        "lost": [], "cancel": [], "refused": [], "directive": "run", "heartbeat_seconds": 1.0,
        "poll_after_seconds": 0.0,
    }  # fmt: skip
    assert len(task.pop("lease_id")) >= 22
    assert task == {
        "task_id": 1, "attempt": 1, "lease_seconds": 100.0, "type": "prime", "payload": {"limit": 10},
        "timeout_seconds": 5.0, "checkpoint": None, "parents": {},
    }  # fmt: skip


def test_a_worker_fits_into_three_calls_of_curl(api: Api) -> None:
    api.submit("prime")
    (task,) = api.json("POST", "/get-task", {"worker_id": "curl", "types": ["prime"]})["tasks"]
    fence = {name: task[name] for name in ("task_id", "attempt", "lease_id")}
    beat = api.json("POST", "/heartbeat/", {"worker_id": "curl", "holding": [{**fence, "running": True}]})

    result = {"worker_id": "curl", **fence, "outcome": "completed", "result": {"count": 4}}
    answers = [api.json("POST", "/submit-result", result) for _ in range(2)]

    assert beat["lost"] == []
    assert answers[0] == answers[1]
    assert api.json("GET", "/task/1")["result"] == {"count": 4}
    assert api.json("POST", "/get-task", {"worker_id": "curl"})["tasks"] == []


def test_a_single_stale_result_is_a_conflict(api: Api) -> None:
    fence = api.start()
    stale = {"worker_id": "w1", **fence, "attempt": 2, "outcome": "completed"}

    problem = error(api.post("/submit-result", stale), 409, "lease_lost")

    assert problem["details"] == {"task_id": 1, "attempt": 2}


def test_several_results_name_the_lost_ones(api: Api) -> None:
    first, second = api.start(), api.start()
    results = [{**first, "outcome": "completed"}, {**second, "lease_id": "old", "outcome": "completed"}]

    answer = api.json("POST", "/submit-result", {"worker_id": "w1", "results": results})

    assert answer["lost"] == [{"task_id": 2, "attempt": 1}]
    assert api.json("GET", "/task/1")["status"] == "completed"


@pytest.mark.parametrize(
    "bad",
    [
        {"outcome": "exploded"},
        {"outcome": "completed", "elapsed_seconds": -1},
        {"outcome": "completed", "elapsed_seconds": "long"},
        {"outcome": "completed", "checkpoint": {"seq": 1, "progress": 1.7}},
        {"outcome": "completed", "checkpoint": {"seq": -1}},
        {"outcome": "failed", "retry_after_seconds": -5},
        {"outcome": "failed", "error": "x" * 65 * 1024},
        {},
    ],
)
def test_one_bad_result_is_refused_by_name_and_the_rest_stands(api: Api, bad: dict[str, Any]) -> None:
    first, second, third = api.start(), api.start(), api.start()
    results = [{**first, "outcome": "completed"}, {**second, **bad}, {**third, "outcome": "released"}]

    answer = api.exchange(results=results)

    (refused,) = answer["refused"]
    assert (refused["task_id"], refused["attempt"]) == (2, 1)
    assert set(refused["error"]) == {"code", "message", "details"}
    assert [api.json("GET", f"/task/{i}")["status"] for i in (1, 2, 3)] == ["completed", "in-progress", "pending"]


@pytest.mark.parametrize(
    "bad",
    [{"seq": 1, "progress": 1.7}, {"seq": "one"}, {"seq": 2**63}, {}, {"seq": 1, "elapsed_seconds": -1}],
)
def test_one_bad_checkpoint_is_refused_by_name_and_the_rest_stands(api: Api, bad: dict[str, Any]) -> None:
    first, second = api.start(), api.start()

    answer = api.exchange(checkpoints=[{**first, **bad}, {**second, "seq": 1, "state": "kept"}])

    assert [refused["task_id"] for refused in answer["refused"]] == [1]
    assert api.json("GET", "/tasks/2/checkpoint")["state"] == "kept"
    error(api.get("/tasks/1/checkpoint"), 404, "not_found")


def test_a_result_that_is_too_large_is_refused(api: Api) -> None:
    fence = api.start()
    body = api_bytes({**fence, "worker_id": "w1", "outcome": "completed"}, result=LARGE)

    many = api.json("POST", "/exchange", b'{"worker":{"worker_id":"w1"},"results":[' + body + b"]}")

    assert [refused["error"]["code"] for refused in many["refused"]] == ["too_large"]
    error(api.post("/submit-result", body), 413, "too_large")


def api_bytes(fields: dict[str, Any], **raw: bytes) -> bytes:
    """A JSON object whose last members are given as bytes."""
    members = b"".join(b',"' + name.encode() + b'":' + value for name, value in raw.items())
    return msgspec.json.encode(fields)[:-1] + members + b"}"


@pytest.mark.parametrize("part", ["state", "output", "result", "error"])
@pytest.mark.parametrize("value", [b'"\\ud800"', b'{"a":["\\udc00x"]}', b"NaN", b'{"a":-Infinity}'])
def test_a_workers_body_that_cannot_come_back_exactly_is_refused(api: Api, part: str, value: bytes) -> None:
    fence = api.start()
    checkpoint = {"state": b'{"seq":1,"state":' + value + b"}", "output": b'{"seq":1,"output":[' + value + b"]}"}
    kind = {"outcome": "failed" if part == "error" else "completed"}
    member = {"checkpoint": checkpoint[part]} if part in checkpoint else {part: value}
    bad = api_bytes({**fence, **kind}, **member)

    error(api.post("/exchange", b'{"worker":{"worker_id":"w1"},"results":[' + bad + b"]}"), 422, "invalid")

    assert api.json("GET", "/task/1")["status"] == "in-progress"


@pytest.mark.parametrize(
    "value", [b'{"nul":"\\u0000","n":1000000000000000000000000000000}', b'"\xc5\xbe"', b" [1, 2] "]
)
def test_workers_bodies_come_back_byte_for_byte(api: Api, value: bytes) -> None:
    first, second = api.start(), api.start()
    results = [
        api_bytes({**first, "outcome": "completed"}, result=value),
        api_bytes({**second, "outcome": "failed", "retryable": False}, error=value),
    ]
    checkpoint = api_bytes({**second, "seq": 1}, state=value, output=b"[" + value + b"]")
    message = b'{"worker":{"worker_id":"w1"},"checkpoints":[' + checkpoint + b'],"results":[' + b",".join(results)

    api.json("POST", "/exchange", message + b"]}")

    assert b'"result":' + value.strip() + b"," in api.get("/task/1").data
    assert b'"error":' + value.strip() + b"," in api.get("/task/2").data
    assert b'"state":' + value.strip() + b"," in api.get("/tasks/2/checkpoint").data
    assert api.get("/tasks/2/output").data == value.strip() + b"\n"


def test_unknown_fields_of_a_worker_are_ignored(api: Api) -> None:
    fence = api.start()
    worker = {"worker_id": "w1", "gpu": True}
    message = {
        "worker": worker,
        "mood": "good",
        "holding": [{**fence, "temperature": 40}],
        "checkpoints": [{**fence, "seq": 1, "hint": 1}],
        "results": [{**fence, "outcome": "completed", "speed": 9}],
    }

    answer = api.json("POST", "/exchange", message)

    assert (answer["lost"], answer["refused"]) == ([], [])
    for path in ("/get-task", "/heartbeat"):
        api.json("POST", path, {"worker_id": "w1", "mood": "good"})


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"worker": {}},
        {"worker": {"worker_id": ""}},
        {"worker": {"worker_id": "x" * 101}},
        {"worker": {"worker_id": 7}},
        {"worker": {"worker_id": "w", "slots": 0}},
        {"worker": {"worker_id": "w", "state": "tired"}},
        {"worker": {"worker_id": "w", "types": ["Prime"]}},
        {"worker": {"worker_id": "w"}, "want": -1},
        {"worker": {"worker_id": "w"}, "want": 1.5},
        {"worker": {"worker_id": "w"}, "wait_seconds": -1},
        {"worker": {"worker_id": "w"}, "holding": {}},
        {"worker": {"worker_id": "w"}, "holding": [{"task_id": 1}]},
        {"worker": {"worker_id": "w"}, "results": [7]},
        {"worker": {"worker_id": "w"}, "results": [{"outcome": "completed"}]},
        {"worker": {"worker_id": "w"}, "results": "none"},
        {"worker": {"worker_id": "w"}, "checkpoints": None},
        [],
    ],
)
def test_a_message_that_cannot_be_understood_is_refused_whole(api: Api, message: Any) -> None:
    error(api.post("/exchange", message), 422, "invalid")

    assert api.json("GET", "/workers")["workers"] == []


@pytest.mark.parametrize("path", ["/get-task", "/heartbeat", "/submit-result"])
@pytest.mark.parametrize("body", [{}, {"worker_id": ""}, {"worker_id": None}, [], 3])
def test_a_nameless_worker_is_refused(api: Api, path: str, body: Any) -> None:
    error(api.post(path, body), 422, "invalid")


def test_a_cancelled_task_is_named_to_its_worker(api: Api) -> None:
    fence = api.start()
    api.post("/tasks/1/cancel")

    answer = api.exchange(holding=[{**fence, "running": True}])

    assert (answer["cancel"], answer["lost"]) == ([{"task_id": 1, "attempt": 1}], [])


def test_a_want_beyond_reason_is_no_error(api: Api) -> None:
    api.submit()

    assert len(api.exchange(want=2**63 - 1)["tasks"]) == 1


def test_a_grant_resumes_from_its_checkpoint(api: Api) -> None:
    fence = api.start()
    checkpoint = {"seq": 4, "state": {"at": 4}, "progress": 0.4, "elapsed_seconds": 12.5, "output": [1, 2, 3]}
    api.exchange(results=[{**fence, "outcome": "released", "checkpoint": checkpoint}])

    (task,) = api.exchange("w2", want=1)["tasks"]

    assert task["checkpoint"] == {
        "seq": 4, "state": {"at": 4}, "progress": 0.4, "elapsed_seconds": 12.5, "output_chunks": 3,
    }  # fmt: skip
    assert (task["task_id"], task["attempt"]) == (1, 2)


def test_a_lease_that_nobody_was_given_is_lost_whatever_its_name(api: Api) -> None:
    odd = {"task_id": 1, "attempt": 1, "lease_id": "a\0b"}
    api.start()

    answer = api.exchange(
        results=[{**odd, "outcome": "completed"}], checkpoints=[{**odd, "seq": 1}], logs=[odd], holding=[odd]
    )

    assert answer["lost"] == [{"task_id": 1, "attempt": 1}] * 4
    assert api.json("GET", "/task/1")["status"] == "in-progress"


def test_a_line_of_a_worker_with_a_broken_clock_can_be_read(api: Api) -> None:
    fence = api.start()
    lines = [{"message": "long ago", "age_seconds": 1e300}, {"message": "now"}]

    api.exchange(logs=[{**fence, "lines": lines}])

    shown = api.json("GET", f"/tasks/{fence['task_id']}/logs")["lines"]
    assert sorted(line["message"] for line in shown) == ["long ago", "now"]
