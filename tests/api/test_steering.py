"""What operators and clients steer: limits, pauses, orders, many tasks, repeated requests, explanations."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.api import Api, error


def reason(api: Api, task_id: int = 1) -> str:
    return str(api.json("GET", f"/tasks/{task_id}/explain")["reason"])


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"max_running": 1}, "queue"),
        ({"queue": "q", "type": "t", "max_running": 1}, "queue"),
        ({"queue": "q"}, "max_running"),
        ({"queue": "q", "max_starts": 1}, "per_seconds"),
        ({"queue": "q", "per_seconds": 1}, "max_starts"),
        ({"queue": "q", "max_running": -1}, "max_running"),
        ({"queue": "Q", "max_running": 1}, "queue"),
        ({"key": "", "max_running": 1}, "key"),
        ({"key": "a\0b", "max_running": 1}, "key"),
        ({"key": "k", "max_run": 1}, "max_run"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused_naming_the_field(api: Api, body: Any, field: str) -> None:
    assert error(api.call("PUT", "/limits", body), 422, "invalid")["details"]["field"] == field
    assert api.json("GET", "/limits") == {"limits": []}


@pytest.mark.parametrize("query", ["", "?queue=q&type=t", "?name=q"])
def test_lifting_names_one_limit(api: Api, query: str) -> None:
    error(api.call("DELETE", f"/limits{query}"), 422, "invalid")


def test_a_pause_of_what_nobody_knows_is_taken_with_a_warning(api: Api) -> None:
    api.json("POST", "/exchange", {"worker": {"worker_id": "w1", "types": ["prime"], "queues": ["night"]}})
    api.submit("fit")

    slips = {path: api.json("POST", path) for path in ("/types/prine/pause", "/queues/nope/resume")}

    assert slips["/types/prine/pause"] == {
        "type": "prine",
        "paused": True,
        "warning": "nothing is known of a type 'prine' yet; did you mean 'prime'?",
    }
    assert slips["/queues/nope/resume"]["warning"] == "nothing is known of a queue 'nope' yet"
    for known in ("types/prime", "types/fit", "queues/night", "queues/default"):
        assert "warning" not in api.json("POST", f"/{known}/pause")
    assert "warning" not in api.json("POST", "/types/prine/resume")


@pytest.mark.parametrize("path", ["/queues/Night/pause", "/types/a%20b/resume"])
def test_a_name_that_no_task_can_have_is_not_paused(api: Api, path: str) -> None:
    error(api.post(path), 422, "invalid")


def test_a_worker_takes_orders_by_its_name(api: Api) -> None:
    api.exchange("w1")

    paused = api.json("POST", "/workers/w1/pause", {})
    told = api.exchange("w1")["directive"]
    resumed = api.json("POST", "/workers/w1/resume")

    assert (paused["state"], told, resumed["state"]) == ("paused", "pause", "alive")
    error(api.post("/workers/nobody/pause"), 404, "not_found")


def test_a_name_with_a_nul_registers_nobody(api: Api) -> None:
    error(api.post("/exchange", {"worker": {"worker_id": "a\0b"}}), 422, "invalid")
    error(api.post("/exchange", {"worker": {"worker_id": "a", "name": "\0"}}), 422, "invalid")
    assert api.json("GET", "/workers") == {"workers": []}


def test_a_delayed_task_in_other_words(api: Api) -> None:
    body = {"type": "noop", "payload": {"n": 1}, "delaySeconds": 5, "retries": 2}

    answer = api.json("POST", "/tasks/schedule", body, 201)
    task = api.json("GET", f"/tasks/{answer['task_id']}")

    assert (answer["status"], task["max_retries"], task["payload"]) == ("scheduled", 2, {"n": 1})
    assert task["run_at"] == "2027-01-15T08:00:05.000Z"
    error(api.post("/tasks/schedule", {"type": "noop", "delay_seconds": 5}), 422, "invalid")
    error(api.post("/tasks/schedule", {"type": "noop", "delaySeconds": -1}), 422, "invalid")


def test_a_repeated_request_is_answered_with_the_same_bytes(api: Api) -> None:
    def send(path: str, body: bytes, key: str = "k") -> Any:
        headers = {"Idempotency-Key": key}
        return api.client.post(path, data=body, content_type="application/json", headers=headers)

    batch = b'{"tasks": [{"type": "noop"}, {"type": "noop"}]}'
    first, again = send("/tasks", batch), send("/tasks", batch)
    other, long, empty = (
        send("/tasks", b'{"type": "noop"}'),
        send("/tasks", batch, "x" * 201),
        send("/tasks", batch, ""),
    )

    assert (first.status_code, first.data) == (again.status_code, again.data) == (201, first.data)
    assert (first.headers.get("Idempotent-Replay"), again.headers["Idempotent-Replay"]) == (None, "true")
    assert [response.status_code for response in (other, long, empty)] == [422, 422, 422]
    assert api.json("GET", "/stats")["tasks"]["total"] == 2


def test_a_live_key_is_answered_with_its_task(api: Api) -> None:
    api.submit(unique_key="k")

    again = api.json("POST", "/submit-task", {"type": "noop", "unique_key": "k"}, 200)

    assert (again["task_id"], again["status"], again["existing"]) == (1, "pending", True)


@pytest.mark.parametrize("path", ["/tasks/revive", "/tasks/drop"])
@pytest.mark.parametrize("body", [{}, {"ids": []}, {"status": "pending"}, {"tags": ["a"]}, {"ids": [0]}])
def test_a_filter_that_says_nothing_or_nonsense_is_refused(api: Api, path: str, body: Any) -> None:
    error(api.post(path, body), 422, "invalid")


@pytest.mark.parametrize("path", ["/tasks/9/logs", "/tasks/9/explain"])
def test_what_is_not_there_has_no_log_and_needs_no_explanation(api: Api, path: str) -> None:
    error(api.get(path), 404, "not_found")


@pytest.mark.parametrize("query", ["since=yesterday", "outcome=lost", "limit=0", "after=x", "color=red"])
def test_history_refuses_what_it_does_not_know(api: Api, query: str) -> None:
    error(api.get(f"/history?{query}"), 422, "invalid")


def test_an_explanation_follows_a_task_through_its_life(api: Api) -> None:
    api.submit("prime", delay_seconds=5, limit_key="k", queue="q")
    told = [reason(api)]
    api.dispatcher.clock.advance(5)
    api.dispatcher.ledger.promote()
    told.append(reason(api))
    api.exchange("w1")
    api.post("/workers/w1/pause")
    told.append(reason(api))
    api.post("/workers/w1/resume")
    api.post("/queues/q/pause")
    told.append(reason(api))
    api.post("/queues/q/resume")
    api.call("PUT", "/limits", {"key": "k", "max_running": 0})
    told.append(reason(api))
    api.call("DELETE", "/limits?key=k")
    told.append(reason(api))
    api.exchange("w1", want=1)
    told.append(reason(api))
    api.call("DELETE", "/tasks/1")
    told.append(reason(api))

    assert told == [
        "not_due",
        "no_worker",
        "workers_paused",
        "paused",
        "limit",
        "next",
        "running",
        "cancelled",
    ]


def test_an_explanation_says_which_worker_is_missing(api: Api) -> None:
    worker = {"worker_id": "w1", "name": "w1"}
    api.submit("prime")
    told = [api.json("GET", "/tasks/1/explain")["message"]]
    api.exchange("w1", worker={**worker, "types": ["noop"]})
    told.append(api.json("GET", "/tasks/1/explain")["message"])
    api.exchange("w1", worker={**worker, "types": []})
    told.append(api.json("GET", "/tasks/1/explain")["message"])
    api.exchange("w1", worker={**worker, "types": ["noop", "prime"], "queues": ["night"]})
    told.append(api.json("GET", "/tasks/1/explain")["message"])

    assert told == [
        "no worker is alive for type 'prime'; start one, for example with ./start_worker.sh worker-1",
        "none of the workers that are alive knows type 'prime'; its file belongs into their TASK_MODULES",
        "the task processes of w1 do not start; the worker's log says why",
        "no worker is alive for queue 'default' and type 'prime'; start one, for example with "
        "./start_worker.sh worker-1",
    ]


def test_a_command_is_told_to_need_a_worker_that_may_run_its_program(api: Api) -> None:
    api.submit("command")
    told = [api.json("GET", "/tasks/1/explain")["message"]]
    api.exchange("w1", worker={"worker_id": "w1", "name": "w1", "types": ["noop"]})
    told.append(api.json("GET", "/tasks/1/explain")["message"])

    assert told == [
        "no worker is alive for type 'command'; start one, for example with "
        "COMMAND_PROGRAMS=PROGRAM ./start_worker.sh worker-1",
        "none of the workers that are alive may run programs; its program belongs into their COMMAND_PROGRAMS",
    ]


def test_an_explanation_says_why_a_task_has_ended(api: Api) -> None:
    fence = api.start("w1", max_retries=0)
    api.submit(depends_on=[1])
    api.exchange(
        "w1", results=[{**fence, "outcome": "failed", "error": {"type": "KeyError", "message": "no row 7"}}]
    )
    api.submit("prime", queue="closed")
    api.call("PUT", "/limits", {"queue": "closed", "max_running": 0})
    api.exchange("w1")

    told = [api.json("GET", f"/tasks/{task_id}/explain")["message"] for task_id in (1, 2, 3)]

    assert told[0].endswith(": no row 7")
    assert told[1].endswith(": task 1, which this one depends on, failed")
    assert told[2] == "the limit of queue 'closed' is 0: none may run until it is raised"


def test_a_forecast_counts_those_ahead_and_the_mean_duration(api: Api) -> None:
    fence = api.start("w1")
    api.exchange("w1", results=[{**fence, "outcome": "completed", "elapsed_seconds": 4.0}])
    for _ in range(3):
        api.submit()

    explained = api.json("GET", "/tasks/4/explain")

    assert (explained["reason"], explained["details"]["ahead"]) == ("in_line", 2)
    assert explained["estimated_start_seconds"] == 8.0


def test_a_forecast_counts_only_what_runs_on_workers_that_could_take_the_task(api: Api) -> None:
    busy = {"worker_id": "w1", "name": "w1", "types": ["prime"], "slots": 9}
    idle = {"worker_id": "w2", "name": "w2", "types": ["noop"], "slots": 1}
    for _ in range(9):
        api.submit("prime")
    api.exchange(worker=busy, want=9)
    api.submit()
    (grant,) = api.exchange(worker=idle, want=1)["tasks"]
    fence = {name: grant[name] for name in ("task_id", "attempt", "lease_id")}
    api.exchange(worker=idle, results=[{**fence, "outcome": "completed", "elapsed_seconds": 600.0}])

    explained = api.json("GET", f"/tasks/{api.submit()}/explain")

    assert (explained["reason"], explained["estimated_start_seconds"]) == ("next", 0.0)


def test_a_forecast_counts_nobody_ahead_who_may_not_start(api: Api) -> None:
    api.json("POST", "/tasks", {"tasks": [{"type": "noop", "queue": "night", "priority": 1}] * 9}, 201)
    api.json("POST", "/tasks", {"tasks": [{"type": "gpu", "priority": 1}] * 9}, 201)
    task_id = api.submit()
    api.call("POST", "/queues/night/pause")
    api.call("PUT", "/limits", {"type": "gpu", "max_running": 1})
    api.exchange("w1", want=1)

    with_a_slot_for_gpus_alone = api.json("GET", f"/tasks/{task_id}/explain")
    api.exchange("w2")
    explained = api.json("GET", f"/tasks/{task_id}/explain")

    assert with_a_slot_for_gpus_alone["details"]["ahead"] == 8
    assert (explained["reason"], explained["details"]["ahead"]) == ("next", 0)


def test_a_forecast_counts_all_of_its_limit_key_that_come_first(api: Api) -> None:
    api.call("PUT", "/limits", {"key": "k", "max_running": 1000})
    api.json("POST", "/tasks", {"tasks": [{"type": "noop", "limit_key": "k"}] * 250}, 201)
    api.exchange("w1")

    told = [api.json("GET", f"/tasks/{task_id}/explain")["details"]["ahead"] for task_id in (51, 250)]

    assert told == [50, 249]


def test_the_forecast_under_a_lowered_limit_waits_for_all_that_must_leave_its_window(api: Api) -> None:
    api.call("PUT", "/limits", {"type": "noop", "max_starts": 3, "per_seconds": 60})
    for _ in range(3):
        api.start("w1")
        api.dispatcher.clock.advance(10)
    task_id = api.submit()
    api.call("PUT", "/limits", {"type": "noop", "max_starts": 1, "per_seconds": 60})
    api.exchange("w1")

    assert api.json("GET", f"/tasks/{task_id}/explain")["estimated_start_seconds"] == 50.0


def test_lists_are_filtered_by_queue_and_error_type(api: Api) -> None:
    fence = api.start("w1", queue="q", max_retries=0)
    failure = {"type": "KeyError", "message": "x"}
    api.exchange("w1", results=[{**fence, "outcome": "failed", "error": failure}])
    api.submit()

    def ids(query: str) -> list[int]:
        return [task["task_id"] for task in api.json("GET", f"/tasks?{query}")["tasks"]]

    assert (ids("queue=q"), ids("queue=default"), ids("error_type=KeyError")) == ([1], [2], [1])
    assert (ids("error_type=KeyError&status=cancelled"), ids("error_type=ValueError")) == ([], [])
