"""/flows over HTTP: both forms, answers, errors that name field or path; depends_on and profiles too."""

from __future__ import annotations

from typing import Any

import pytest

from dispatcher.profiles import Profiles
from tests.support.api import Api, error

PAIR = {"name": "pair", "tasks": [{"key": "a", "type": "noop"}, {"key": "b", "type": "noop", "depends_on": ["a"]}]}


def test_a_flow_is_submitted_and_shown(api: Api) -> None:
    answer = api.json("POST", "/flows", PAIR, 201)
    shown = api.json("GET", "/flows/1")

    assert {**answer, "warning": ""} == {"flow_id": 1, "task_ids": {"a": 1, "b": 2}, "warning": ""}
    assert "noop" in answer["warning"]
    assert shown == {
        "flow_id": 1, "name": "pair", "status": "running", "progress": 0.0, "created_at": shown["created_at"],
        "tasks": [
            {"key": "a", "task_id": 1, "status": "pending", "depends_on": []},
            {"key": "b", "task_id": 2, "status": "blocked", "depends_on": ["a"]},
        ],
    }  # fmt: skip
    listed = {name: value for name, value in shown.items() if name != "tasks"}
    assert api.json("GET", "/flows") == {"flows": [listed], "next": None}


def test_the_other_form_makes_the_same_flow(api: Api) -> None:
    body = {
        "jobId": "17",
        "jobName": "pair",
        "tasks": [
            {"taskId": "a", "command": "echo hello", "retries": 1, "timeout": 5},
            {"taskId": "b", "type": "noop"},
        ],
        "dependencies": {"b": ["a"]},
    }

    answer = api.json("POST", "/flows", body, 201)

    assert answer["task_ids"] == {"a": 1, "b": 2}
    task = api.json("GET", "/tasks/1")
    assert (task["type"], task["payload"]) == ("command", {"argv": ["echo", "hello"]})
    assert (task["max_retries"], task["timeout_seconds"]) == (1, 5.0)
    assert api.json("GET", "/flows/1")["tasks"][1]["depends_on"] == ["a"]


def test_a_worker_gets_what_the_parents_answered(api: Api) -> None:
    api.json("POST", "/flows", PAIR, 201)
    (first,) = api.exchange(want=1)["tasks"]
    result = {name: first[name] for name in ("task_id", "attempt", "lease_id")}

    (second,) = api.exchange(results=[{**result, "outcome": "completed", "result": {"n": 1}}], want=1)["tasks"]

    assert second["parents"] == {"a": {"status": "completed", "result": {"n": 1}, "error": None}}


def test_a_task_says_where_it_belongs(api: Api) -> None:
    api.json("POST", "/flows", PAIR, 201)

    task = api.json("GET", "/tasks/2")

    assert {name: task[name] for name in ("flow_id", "key", "depends_on")} == {
        "flow_id": 1, "key": "b", "depends_on": [1],
    }  # fmt: skip
    api.submit()
    assert "flow_id" not in api.json("GET", "/tasks/3")


def test_cancel_and_revive_answer_with_the_flow(api: Api) -> None:
    api.json("POST", "/flows", PAIR, 201)

    cancelled = api.json("POST", "/flows/1/cancel")
    again = error(api.post("/flows/1/cancel"), 409, "already_ended")
    revived = api.json("POST", "/flows/1/revive")
    unneeded = error(api.post("/flows/1/revive"), 409, "conflict")

    assert (cancelled["status"], cancelled["progress"]) == ("cancelled", 1.0)
    assert again["details"] == {"status": "cancelled"}
    assert [task["status"] for task in revived["tasks"]] == ["pending", "blocked"]
    assert unneeded["details"] == {"status": "running"}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"tasks": []}, "tasks"),
        ({}, "tasks"),
        ({"tasks": [{"key": "a", "type": "noop"}], "nam": "x"}, "nam"),
        ({"tasks": [{"type": "noop"}]}, "tasks[0].key"),
        ({"tasks": [{"key": "a[0]", "type": "noop"}]}, "tasks[0].key"),
        ({"tasks": [{"key": "a", "type": "noop", "depends_on": ["b"]}]}, "tasks[0].depends_on"),
        ({"tasks": [{"key": "a", "type": "noop", "run_if": "never"}]}, "tasks[0].run_if"),
        ({"tasks": [{"key": "a", "type": "noop", "payload": 5}]}, "tasks[0].payload"),
        (
            {"tasks": [{"key": "a", "type": "noop", "map": {"over": {"result_of": "x"}}}]},
            "tasks[0].map.over.result_of",
        ),
        ({"tasks": [{"key": "a", "type": "noop", "profile": "x"}]}, "tasks[0].profile"),
        (
            {"jobId": "1", "tasks": [{"taskId": "a", "type": "noop"}], "dependencies": {"a": ["z"]}},
            "dependencies.a",
        ),
        ({"jobId": "1", "tasks": [{"taskId": "a", "type": "noop", "key": "b"}]}, "tasks[0].key"),
        ({"name": "a\0", "tasks": [{"key": "a", "type": "noop"}]}, "name"),
        ({"jobId": "a\0", "tasks": [{"taskId": "a", "type": "noop"}]}, "jobId"),
    ],
)
def test_a_mistake_is_named_and_nothing_is_stored(api: Api, body: dict[str, Any], field: str) -> None:
    assert error(api.post("/flows", body), 422, "invalid")["details"]["field"] == field
    assert api.json("GET", "/tasks")["tasks"] == []


def test_a_cycle_is_named_by_its_path(api: Api) -> None:
    tasks = [{"key": key, "type": "noop", "depends_on": [parent]} for key, parent in ("ab", "bc", "ca")]

    refused = error(api.post("/flows", {"tasks": tasks}), 422, "invalid")

    assert refused["details"]["path"] == ["a", "b", "c", "a"]
    assert "a -> b -> c -> a" in refused["message"]


@pytest.mark.parametrize("path", ["/flows/7", "/flows/99999999999999999999", "/flows/0"])
def test_an_unknown_flow_is_not_found(api: Api, path: str) -> None:
    for method, target in (("GET", path), ("POST", f"{path}/cancel"), ("POST", f"{path}/revive")):
        error(api.call(method, target), 404, "not_found")


def test_pages_go_on_from_their_cursor(api: Api) -> None:
    for _ in range(3):
        api.json("POST", "/flows", PAIR, 201)

    first = api.json("GET", "/flows?limit=2")

    assert ([flow["flow_id"] for flow in first["flows"]], first["next"]) == ([3, 2], 2)
    assert [flow["flow_id"] for flow in api.json("GET", "/flows?after=2")["flows"]] == [1]
    error(api.get("/flows?limit=0"), 422, "invalid")


# --- plain tasks


def test_a_plain_task_can_wait_for_others(api: Api) -> None:
    parent = api.submit()

    answer = api.json("POST", "/tasks", {"type": "noop", "depends_on": [parent]}, 201)

    assert answer["status"] == "blocked"
    assert api.json("GET", "/tasks?status=blocked")["tasks"][0]["depends_on"] == [parent]


def test_of_many_the_one_with_an_unknown_parent_is_named(api: Api) -> None:
    body = {"tasks": [{"type": "noop"}, {"type": "noop", "depends_on": [99]}]}

    refused = error(api.post("/tasks", body), 422, "invalid")

    assert refused["details"]["field"] == "tasks[1].depends_on[0]"
    assert api.json("GET", "/stats")["tasks"]["total"] == 0


# --- profiles


@pytest.fixture
def profiled(api: Api) -> Api:
    api.dispatcher.ledger.profiles = Profiles({"batch": {"priority": -10, "max_retries": 9, "tags": ["b"]}})
    return api


WAYS = pytest.mark.parametrize(
    ("path", "around"),
    [
        ("/submit-task", lambda task: task),
        ("/tasks", lambda task: task),
        ("/tasks", lambda task: {"tasks": [task]}),
        ("/flows", lambda task: {"tasks": [{**task, "key": "a"}]}),
    ],
)


@WAYS
def test_a_profile_is_what_a_task_does_not_say_itself(profiled: Api, path: str, around: Any) -> None:
    profiled.json("POST", path, around({"type": "noop", "profile": "batch", "max_retries": 2}), 201)

    task = profiled.json("GET", "/tasks/1")
    assert (task["priority"], task["max_retries"], task["tags"]) == (-10, 2, ["b"])


def test_an_unknown_profile_is_refused_with_those_known(profiled: Api) -> None:
    refused = error(profiled.post("/tasks", {"type": "noop", "profile": "nightly"}), 422, "invalid")

    assert refused["details"] == {"field": "profile", "allowed": ["batch"]}


@WAYS
@pytest.mark.parametrize("options", [{"batch": {"priority": 1}}, {}], ids=["changed", "gone"])
def test_a_request_that_comes_again_is_answered_as_then_whatever_became_of_its_profile(
    profiled: Api, path: str, around: Any, options: dict[str, Any]
) -> None:
    def send() -> Any:
        body = around({"type": "noop", "profile": "batch"})
        return profiled.client.post(path, json=body, headers={"Idempotency-Key": "k"})

    first = send()
    profiled.dispatcher.ledger.profiles = Profiles(options)
    again = send()

    assert (again.status_code, again.data) == (first.status_code, first.data) == (201, first.data)
    assert again.headers["Idempotent-Replay"] == "true"


def test_a_flow_that_comes_again_with_its_key_is_answered_as_then(api: Api) -> None:
    headers = {"Idempotency-Key": "nightly"}
    first = api.client.post("/flows", json=PAIR, headers=headers)
    again = api.client.post("/flows", json=PAIR, headers=headers)
    other = api.client.post("/flows", json={**PAIR, "name": "other"}, headers=headers)

    assert (first.status_code, again.status_code) == (201, 201)
    assert again.data == first.data
    assert "Idempotent-Replay" not in first.headers
    assert again.headers["Idempotent-Replay"] == "true"
    assert other.status_code == 422
    assert len(api.json("GET", "/flows")["flows"]) == 1


def test_a_blocked_task_names_those_it_waits_for(api: Api) -> None:
    parents = [{"key": str(number), "type": "noop"} for number in range(7)]
    child = {"key": "child", "type": "noop", "depends_on": [parent["key"] for parent in parents]}
    api.json("POST", "/flows", {"tasks": [*parents, {**child, "run_if": "all_finished"}]}, 201)
    api.json("POST", "/tasks/1/cancel")

    explained = api.json("GET", "/tasks/8/explain")

    assert explained["details"] == {"waits_for": [2, 3, 4, 5, 6], "waiting_for": 6}
    assert explained["message"].endswith(": 2, 3, 4, 5, 6 and 1 more")
