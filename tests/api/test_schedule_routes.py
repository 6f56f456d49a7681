"""/schedules over HTTP: answers, changes, errors that name the field."""

from __future__ import annotations

from typing import Any

import pytest

from dispatcher.profiles import Profiles
from tests.support.api import Api, error

HOURLY = {"name": "hourly", "cron": "0 * * * *", "task": {"type": "noop"}}


def test_a_schedule_is_added_and_tells_its_next_five_runs(api: Api) -> None:
    answer = api.json("POST", "/schedules", {**HOURLY, "timezone": "Europe/Berlin"}, 201)

    assert answer.pop("warning")
    assert answer == {
        "name": "hourly", "cron": "0 * * * *", "every_seconds": None, "timezone": "Europe/Berlin",
        "missed": "once", "overlap": "allow", "paused": False, "created_at": "2027-01-15T08:00:00.000Z",
        "next_runs": [f"2027-01-15T{hour:02}:00:00.000Z" for hour in range(9, 14)], "task": {"type": "noop"},
    }  # fmt: skip
    assert api.json("GET", "/schedules/hourly") == answer
    assert api.json("GET", "/schedules") == {"schedules": [answer], "next": None}


def test_it_can_be_changed_paused_resumed_run_and_removed(api: Api) -> None:
    api.json("POST", "/schedules", HOURLY, 201)

    changed = api.json("PATCH", "/schedules/hourly", {"every_seconds": 30, "missed": "all"})
    paused = api.json("POST", "/schedules/hourly/pause")
    resumed = api.json("POST", "/schedules/hourly/resume")
    fired = api.json("POST", "/schedules/hourly/run", status=201)
    history = api.json("GET", "/schedules/hourly/history")
    removed = api.json("DELETE", "/schedules/hourly")

    assert (changed["cron"], changed["every_seconds"], changed["missed"]) == (None, 30.0, "all")
    assert (paused["paused"], paused["next_runs"]) == (True, [])
    assert (resumed["paused"], len(resumed["next_runs"])) == (False, 5)
    assert fired == {"task_id": 1}
    at = "2027-01-15T08:00:00.000Z"
    slot = {"slot_at": at, "fired_at": at, "outcome": "fired", "by_hand": True, "task_id": 1}
    assert history == {"history": [slot], "next": None}
    assert removed["last_task_id"] == 1
    error(api.get("/schedules/hourly"), 404, "not_found")


def test_a_flow_can_be_scheduled_in_either_form(api: Api) -> None:
    ours = {"tasks": [{"key": "a", "type": "noop"}]}
    theirs = {"jobId": "1", "tasks": [{"taskId": "a", "command": "true"}], "dependencies": {}}

    for name, flow in (("ours", ours), ("theirs", theirs)):
        api.json("POST", "/schedules", {"name": name, "every_seconds": 5, "flow": flow}, 201)
        assert "flow_id" in api.json("POST", f"/schedules/{name}/run", status=201)


def test_a_profile_is_filled_in_when_the_schedule_is_made(api: Api) -> None:
    api.dispatcher.ledger.profiles = Profiles({"batch": {"priority": -10}})

    api.json("POST", "/schedules", {**HOURLY, "task": {"type": "noop", "profile": "batch"}}, 201)
    api.json("POST", "/schedules/hourly/run", status=201)

    assert api.json("GET", "/tasks/1")["priority"] == -10


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": "a b"}, "name"),
        ({"name": ""}, "name"),
        ({"cron": "61 * * * *"}, "cron"),
        ({"cron": "0 0 30 2 *"}, "cron"),
        ({"cron": None}, "cron"),
        ({"every_seconds": 5}, "cron"),
        ({"cron": None, "every_seconds": 0.5}, "every_seconds"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"timezone": "../../etc/passwd"}, "timezone"),
        ({"missed": "twice"}, "missed"),
        ({"overlap": "queue"}, "overlap"),
        ({"task": None}, "task"),
        ({"flow": {"tasks": [{"key": "a", "type": "noop"}]}}, "task"),
        ({"task": {"type": "noop", "run_at": "2030-01-01T00:00:00Z"}}, "task.run_at"),
        ({"task": {"type": "noop", "depends_on": [1]}}, "task.depends_on"),
        ({"task": {"type": "noop", "prio": 1}}, "task.prio"),
        ({"task": {"type": "noop", "payload": []}}, "task.payload"),
        ({"task": None, "flow": {"tasks": []}}, "flow.tasks"),
        ({"task": None, "flow": {"tasks": [{"key": "a", "type": "noop", "depends_on": ["a"]}]}}, "flow.tasks"),
        ({"task": None, "flow": 5}, "flow"),
        ({"crom": "x"}, "crom"),
    ],
)
def test_a_mistake_is_named_by_its_field(api: Api, change: dict[str, Any], field: str) -> None:
    body = {name: value for name, value in {**HOURLY, **change}.items() if value is not None}

    assert error(api.post("/schedules", body), 422, "invalid")["details"]["field"] == field
    assert api.json("GET", "/schedules")["schedules"] == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"cron": "0 0 * * *", "every_seconds": 5}, "every_seconds"),
        ({"cron": "x"}, "cron"),
        ({"timezone": "x"}, "timezone"),
        ({"task": {"type": "noop"}, "flow": {"tasks": []}}, "task"),
        ({"name": "other"}, "name"),
    ],
)
def test_a_wrong_change_changes_nothing(api: Api, change: dict[str, Any], field: str) -> None:
    api.json("POST", "/schedules", HOURLY, 201)
    before = api.json("GET", "/schedules/hourly")

    assert error(api.call("PATCH", "/schedules/hourly", change), 422, "invalid")["details"]["field"] == field
    assert api.json("GET", "/schedules/hourly") == before


def test_a_name_that_is_taken_conflicts(api: Api) -> None:
    api.json("POST", "/schedules", HOURLY, 201)

    error(api.post("/schedules", HOURLY), 409, "conflict")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/pause"), ("POST", "/resume"), ("POST", "/run"),
     ("GET", "/history")],
)  # fmt: skip
def test_an_unknown_schedule_is_not_found(api: Api, method: str, path: str) -> None:
    error(api.call(method, f"/schedules/none{path}", {} if method == "PATCH" else None), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/schedules/%00", 404, "not_found"),
        ("DELETE", "/schedules/%00", 404, "not_found"),
        ("GET", "/schedules/%00/history", 404, "not_found"),
        ("GET", "/schedules?after=%00", 422, "invalid"),
    ],
)
def test_a_name_that_no_database_holds_is_no_failure(
    api: Api, method: str, path: str, status: int, code: str
) -> None:
    error(api.call(method, path), status, code)


def test_a_cursor_that_is_no_time_is_refused(api: Api) -> None:
    api.json("POST", "/schedules", HOURLY, 201)

    assert error(api.get("/schedules/hourly/history?before=x"), 422, "invalid")["details"]["field"] == "before"


def test_a_changed_schedule_is_warned_of_a_type_that_nobody_announced(api: Api) -> None:
    api.exchange("w1", worker={"worker_id": "w1", "name": "w1", "types": ["prime"]})
    api.json("POST", "/schedules", {"name": "s", "every_seconds": 60, "task": {"type": "prime"}}, 201)

    warned = api.json("PATCH", "/schedules/s", {"task": {"type": "prmie"}})
    later = api.json("PATCH", "/schedules/s", {"overlap": "skip"})

    assert warned["warning"].startswith("no worker has announced type 'prmie' (did you mean 'prime'?)")
    assert "warning" not in later


@pytest.mark.parametrize("dispatcher_settings", [{"unknown_types": "refuse"}])
def test_a_change_to_a_type_that_nobody_announced_can_be_refused(api: Api) -> None:
    api.exchange("w1", worker={"worker_id": "w1", "name": "w1", "types": ["prime"]})
    api.json("POST", "/schedules", {"name": "s", "every_seconds": 60, "task": {"type": "prime"}}, 201)

    api.json("PATCH", "/schedules/s", {"flow": {"tasks": [{"key": "a", "type": "prmie"}]}}, 422)

    assert api.json("GET", "/schedules/s")["task"] == {"type": "prime"}
