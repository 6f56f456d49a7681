"""POST /submit-task and /tasks: what is accepted, what is refused, and that bodies come back exactly."""

from __future__ import annotations

import math
from typing import Any

import pytest

from dispatcher import views
from tests.support.api import Api, error

FIELDS: dict[str, Any] = {
    "type": "prime", "payload": {"limit": 7}, "priority": -5, "max_retries": 0, "crash_limit": 9,
    "timeout_seconds": 1.5, "tags": ["a", "b"],
    "backoff": {"kind": "linear", "base_seconds": 2, "factor": 3, "cap_seconds": 9, "jitter": False},
}  # fmt: skip


@pytest.mark.parametrize("path", ["/submit-task", "/tasks", "/submit-task/", "/tasks/"])
def test_a_task_is_submitted_and_shown_as_it_was_described(api: Api, path: str) -> None:
    answer = api.json("POST", path, FIELDS, 201)

    task = api.json("GET", "/task/1")
    assert (answer["task_id"], answer["status"]) == (1, "pending")
    shown = {name: value for name, value in FIELDS.items() if name != "backoff"}
    assert shown.items() <= task.items()


def test_a_task_has_defaults(api: Api) -> None:
    api.submit("noop")

    task = api.json("GET", "/tasks/1")

    assert task == {
        "task_id": 1, "type": "noop", "payload": {}, "status": "pending", "queue": "default",
        "priority": 0, "tags": [], "attempt": 0, "failures": 0, "crashes": 0, "releases": 0,
        "max_retries": 3, "crash_limit": 5,
        "timeout_seconds": None, "stall_seconds": None, "unique_key": None, "limit_key": None,
        "worker": None, "worker_id": None, "progress": None, "message": None,
        "result": None, "error": None, "created_at": "2027-01-15T08:00:00.000Z", "run_at": None,
        "deadline": None, "started_at": None, "finished_at": None, "elapsed_seconds": None,
    }  # fmt: skip


def test_a_batch_gets_its_ids_in_order(api: Api) -> None:
    answer = api.json("POST", "/tasks", {"tasks": [{"type": "a"}, {"type": "b", "delay_seconds": 9}]}, 201)

    assert answer["task_ids"] == [1, 2]
    assert [api.json("GET", f"/task/{i}")["status"] for i in (1, 2)] == ["pending", "scheduled"]


def test_ten_thousand_tasks_fit_into_one_batch_and_no_more(api: Api) -> None:
    tasks = [{"type": "noop"}] * 10_000

    assert len(api.json("POST", "/tasks", {"tasks": tasks}, 201)["task_ids"]) == 10_000
    error(api.post("/tasks", {"tasks": [*tasks, {"type": "noop"}]}), 422, "invalid")


def test_a_payload_with_a_field_named_tasks_is_no_batch(api: Api) -> None:
    assert api.json("POST", "/tasks", {"type": "noop", "payload": {"tasks": 3}}, 201)["task_id"] == 1


@pytest.mark.parametrize(
    "payload",
    [
        b'{"nul":"\\u0000","large":1000000000000000000000000000000,"precise":0.1000000000000000055511151231257827}',
        '{"unicode":"žluťoučký 🐎","escaped":"\\u00e9"}'.encode(),
        b'{"twice":1,"twice":2}',
        b'{ "spaces" : [ 1 ,\n\t2 ] }',
        b'{"-0":-0.0,"1e5":1e5,"pair":"\\ud83d\\ude00"}',
        b"{" + b'"a":{' * 63 + b"}" * 64,
    ],
)
def test_a_payload_comes_back_byte_for_byte(api: Api, payload: bytes) -> None:
    body = b'{"type":"noop","payload":' + payload + b"}"

    assert api.post("/tasks", body).status_code == 201

    assert b'"payload":' + payload + b"," in api.get("/task/1").data
    assert b'"payload":' + payload in api.post("/get-task", {"worker_id": "w1"}).data


def test_of_repeated_keys_the_last_counts(api: Api) -> None:
    api.post("/tasks", b'{"type":"first","type":"second","payload":{"a":1},"payload":{"b":2}}')

    task = api.json("GET", "/task/1")

    assert (task["type"], task["payload"]) == ("second", {"b": 2})


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"typ": "noop"}, "typ"),
        ({"queue": "Fast"}, "queue"),
        ({"queue": ""}, "queue"),
        ({"deadline": "2027-01-16"}, "deadline"),
        ({"deadline": 7}, "deadline"),
        ({"stall_seconds": 0}, "stall_seconds"),
        ({"unique_key": ""}, "unique_key"),
        ({"unique_key": "x" * 201}, "unique_key"),
        ({"unique_key": "a\0b"}, "unique_key"),
        ({"limit_key": "a\0b"}, "limit_key"),
        ({"tags": ["a\0b"]}, "tags[0]"),
        ({"delaySeconds": 5}, "delaySeconds"),
        ({"type": ""}, "type"),
        ({"type": "Prime"}, "type"),
        ({"type": "x" * 101}, "type"),
        ({"type": 7}, "type"),
        ({"payload": [1]}, "payload"),
        ({"payload": None}, "payload"),
        ({"priority": 32768}, "priority"),
        ({"priority": -32769}, "priority"),
        ({"priority": 1.5}, "priority"),
        ({"priority": 10**40}, "priority"),
        ({"delay_seconds": -1}, "delay_seconds"),
        ({"delay_seconds": 10 * 365 * 86400 + 1}, "delay_seconds"),
        ({"delay_seconds": 1, "run_at": "2027-01-16T00:00:00Z"}, "run_at"),
        ({"run_at": "2027-01-16T00:00:00"}, "run_at"),
        ({"run_at": "2027-01-16"}, "run_at"),
        ({"run_at": "tomorrow"}, "run_at"),
        ({"run_at": "2099-01-16T00:00:00Z"}, "run_at"),
        ({"run_at": "9999-12-31T23:59:59-23:59"}, "run_at"),
        ({"run_at": 1800000000}, "run_at"),
        ({"max_retries": -1}, "max_retries"),
        ({"max_retries": 1001}, "max_retries"),
        ({"crash_limit": 0}, "crash_limit"),
        ({"crash_limit": 1001}, "crash_limit"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
        ({"timeout_seconds": 1e7 + 1}, "timeout_seconds"),
        ({"backoff": {"kind": "random"}}, "backoff.kind"),
        ({"backoff": {"factor": 0.5}}, "backoff.factor"),
        ({"backoff": {"base": 1}}, "backoff.base"),
        ({"tags": ["x" * 65]}, "tags[0]"),
        ({"tags": [""]}, "tags[0]"),
        ({"tags": ["t"] * 21}, "tags"),
        ({"tags": "t"}, "tags"),
    ],
)
def test_what_does_not_fit_is_refused_naming_the_field(api: Api, fields: dict[str, Any], field: str) -> None:
    good, bad = {"type": "noop"}, {"type": "noop", **fields}

    single = error(api.post("/tasks", bad), 422, "invalid")
    of_a_batch = error(api.post("/tasks", {"tasks": [good, bad]}), 422, "invalid")
    of_a_batch_of_one = error(api.post("/tasks", {"tasks": [bad]}), 422, "invalid")

    assert single["details"]["field"].replace("[...]", "[0]") == field
    assert of_a_batch["details"]["field"].startswith(("tasks[1].", "tasks[...]."))
    assert of_a_batch_of_one["details"]["field"].startswith(("tasks[0].", "tasks[...]."))
    assert api.json("GET", "/stats")["tasks"]["total"] == 0


def test_the_error_in_a_batch_names_the_index(api: Api) -> None:
    tasks: list[dict[str, Any]] = [{"type": "noop"}] * 5
    bad_type = [*tasks, {"type": "noop", "priority": "high"}]
    bad_value = [*tasks, {"type": "noop", "payload": 7}]

    for batch in (bad_type, bad_value):
        problem = error(api.post("/tasks", {"tasks": batch}), 422, "invalid")
        assert problem["details"]["field"].startswith("tasks[5].")
        assert "tasks[5]" in problem["message"]


@pytest.mark.parametrize("body", [{"tasks": []}, {"tasks": None}, {"tasks": [1]}, {}, [], 7, "text", None])
def test_what_is_no_task_at_all_is_refused(api: Api, body: Any) -> None:
    data = b"null" if body is None else body

    error(api.post("/tasks", data), 422, "invalid")
    error(api.post("/submit-task", data), 422, "invalid")


@pytest.mark.parametrize(
    "payload",
    [b'{"a":NaN}', b'{"a":Infinity}', b'{"a":-Infinity}', b'{"a":"\\ud800"}', b"{" + b'"a":{' * 64 + b"}" * 65],
)
def test_what_cannot_come_back_exactly_is_refused(api: Api, payload: bytes) -> None:
    problem = error(api.post("/tasks", b'{"type":"noop","payload":' + payload + b"}"), 422, "invalid")

    assert problem["message"]


@pytest.mark.parametrize("levels", [65, 1000, 100_000])
def test_a_payload_deeper_than_64_is_refused(api: Api, levels: int) -> None:
    payload = b'{"a":' * (levels - 1) + b"{}" + b"}" * (levels - 1)

    error(api.post("/tasks", b'{"type":"noop","payload":' + payload + b"}"), 422, "invalid")


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"type":"noop"', b"{'type': 'noop'}", b'{"type":"noop"} x', b"\x00"]
)
def test_what_is_not_json_is_malformed(api: Api, body: bytes) -> None:
    error(api.post("/tasks", body), 400, "malformed")


@pytest.mark.parametrize("body", [b'{"type":"\xff"}', b'{"type":"noop","payload":{"a":"\xc3("}}'])
def test_what_is_not_utf8_is_malformed(api: Api, body: bytes) -> None:
    problem = error(api.post("/tasks", body), 400, "malformed")

    assert "UTF-8" in problem["message"]


@pytest.mark.parametrize("path", ["/tasks", "/submit-task", "/exchange", "/get-task", "/heartbeat"])
@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "text/plain", None])
def test_another_content_type_is_refused_with_the_header_to_add(
    api: Api, path: str, content_type: str | None
) -> None:
    problem = error(api.post(path, b'{"type":"noop"}', content_type), 415, "unsupported_media_type")

    assert "Content-Type: application/json" in problem["message"]


def test_a_content_type_may_name_its_charset(api: Api) -> None:
    assert api.post("/tasks", {"type": "noop"}, "application/json; charset=utf-8").status_code == 201


def test_a_payload_over_a_mebibyte_is_too_large(api: Api) -> None:
    limit = 1024 * 1024
    fits = b'{"a":"' + b"x" * (limit - 8) + b'"}'
    too_much = b'{"a":"' + b"x" * (limit - 7) + b'"}'

    assert api.post("/tasks", b'{"type":"noop","payload":' + fits + b"}").status_code == 201
    problem = error(api.post("/tasks", b'{"type":"noop","payload":' + too_much + b"}"), 413, "too_large")
    assert problem["details"]["field"] == "payload"


@pytest.mark.parametrize("path", ["/tasks", "/submit-task", "/exchange", "/heartbeat"])
def test_a_request_over_sixteen_mebibytes_is_too_large(api: Api, path: str) -> None:
    error(api.post(path, b" " * (16 * 1024 * 1024 + 1)), 413, "too_large")


def test_a_type_that_nobody_announced_is_accepted_with_a_warning(api: Api) -> None:
    nobody = api.json("POST", "/tasks", {"type": "prmie"}, 201)
    api.json("POST", "/get-task", {"worker_id": "w1", "types": ["prime", "noop"]})
    mistyped = api.json("POST", "/tasks", {"type": "prmie"}, 201)
    unlike = api.json("POST", "/tasks", {"type": "render"}, 201)
    announced = api.json("POST", "/tasks", {"type": "prime"}, 201)

    assert nobody["warning"] == "no worker has announced type 'prmie'; announced so far: none"
    assert mistyped["warning"] == (
        "no worker has announced type 'prmie' (did you mean 'prime'?); announced so far: noop, prime"
    )
    assert unlike["warning"] == "no worker has announced type 'render'; announced so far: noop, prime"
    assert "warning" not in announced


def test_a_worker_that_takes_every_type_silences_the_warning(api: Api) -> None:
    api.exchange("w1")

    assert "warning" not in api.json("POST", "/tasks", {"type": "anything"}, 201)


@pytest.mark.parametrize("dispatcher_settings", [{"unknown_types": "refuse"}])
def test_a_type_that_nobody_announced_can_be_refused(api: Api) -> None:
    api.json("POST", "/get-task", {"worker_id": "w1", "types": ["prime"]})

    problem = error(api.post("/tasks", {"type": "prmie"}), 422, "invalid")

    assert (problem["details"]["field"], problem["details"]["allowed"]) == ("type", ["prime"])
    assert api.json("POST", "/tasks", {"type": "prime"}, 201)["task_id"] == 1


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("9999-12-31T23:59:59-14:00", "9999-12-31T23:59:59.000Z"),
        ("0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00.000Z"),
    ],
)
def test_a_deadline_beyond_the_calendar_is_its_edge(api: Api, given: str, shown: str) -> None:
    api.submit(deadline=given)

    (listed,) = api.json("GET", "/tasks")["tasks"]
    assert (listed["deadline"], api.json("GET", "/task/1")["deadline"]) == (shown, shown)


def test_a_time_that_is_stored_beyond_the_calendar_is_shown_as_its_edge() -> None:
    day = 86400.0

    assert views.iso(views.LATEST + day) == views.iso(math.inf) == "9999-12-31T23:59:59.000Z"
    assert views.iso(views.EARLIEST - day) == "0001-01-01T00:00:00.000Z"
