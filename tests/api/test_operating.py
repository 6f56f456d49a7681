"""/workers, /stats, /health, /ready; and what every route has in common: methods, slashes, errors."""

from __future__ import annotations

import re
from typing import Any

import pytest

from dispatcher.database import Database
from shared import errors
from tests.support.api import Api, error

ROUTES = {
    "/": {"GET"},
    "/submit-task": {"POST"},
    "/tasks": {"GET", "POST"},
    "/task/1": {"GET", "DELETE"},
    "/tasks/1": {"GET", "DELETE"},
    "/tasks/1/cancel": {"POST"},
    "/tasks/1/revive": {"POST"},
    "/tasks/schedule": {"POST"},
    "/tasks/revive": {"POST"},
    "/tasks/drop": {"POST"},
    "/tasks/1/logs": {"GET"},
    "/tasks/1/explain": {"GET"},
    "/history": {"GET"},
    "/limits": {"GET", "PUT", "DELETE"},
    "/queues": {"GET"},
    "/queues/night/pause": {"POST"},
    "/queues/night/resume": {"POST"},
    "/types/night/pause": {"POST"},
    "/types/night/resume": {"POST"},
    "/workers/w1/pause": {"POST"},
    "/workers/w1/resume": {"POST"},
    "/workers/w1/drain": {"POST"},
    "/tasks/1/attempts": {"GET"},
    "/tasks/1/checkpoint": {"GET"},
    "/tasks/1/output": {"GET"},
    "/flows": {"GET", "POST"},
    "/flows/1": {"GET"},
    "/flows/1/cancel": {"POST"},
    "/flows/1/revive": {"POST"},
    "/schedules": {"GET", "POST"},
    "/schedules/s1": {"GET", "PATCH", "DELETE"},
    "/schedules/s1/pause": {"POST"},
    "/schedules/s1/resume": {"POST"},
    "/schedules/s1/run": {"POST"},
    "/schedules/s1/history": {"GET"},
    "/exchange": {"POST"},
    "/get-task": {"POST"},
    "/heartbeat": {"POST"},
    "/submit-result": {"POST"},
    "/workers": {"GET"},
    "/workers/w1": {"GET", "DELETE"},
    "/stats": {"GET"},
    "/health": {"GET"},
    "/ready": {"GET"},
}
METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE"}


@pytest.fixture
def furnished(api: Api) -> Api:
    """With something behind every route: a task with a checkpoint, a worker, a flow, a schedule."""
    fence = api.start("w1")
    api.exchange("w1", checkpoints=[{**fence, "seq": 1, "output": [1]}])
    api.json("POST", "/flows", {"tasks": [{"key": "a", "type": "noop"}]}, 201)
    api.json("POST", "/schedules", {"name": "s1", "every_seconds": 5, "task": {"type": "noop"}}, 201)
    api.dispatcher.monitor.start()
    return api


@pytest.fixture(autouse=True)
def _stop_the_monitor(api: Api) -> Any:
    yield
    api.dispatcher.monitor.stop()


def test_these_are_all_the_routes(api: Api) -> None:
    served = {
        re.sub(r"<.*?worker>", "w1", re.sub(r"<int:.*?>", "1", str(rule)))
        .replace("/schedules/<name>", "/schedules/s1")
        .replace("<name>", "night")
        for rule in api.app.url_map.iter_rules()
    }

    assert served == set(ROUTES)


@pytest.mark.parametrize("path", ROUTES)
def test_another_method_is_refused_with_those_allowed(furnished: Api, path: str) -> None:
    for method in sorted(METHODS - ROUTES[path]):
        response = furnished.call(method, path)

        error(response, 405, "method_not_allowed")
        assert set(response.headers["Allow"].split(", ")) - {"HEAD", "OPTIONS"} == ROUTES[path]


@pytest.mark.parametrize("path", ROUTES)
def test_options_tells_the_methods(furnished: Api, path: str) -> None:
    for place in (path, path.rstrip("/") + "/"):
        response = furnished.call("OPTIONS", place)

        assert (response.status_code, response.data) == (200, b"")
        assert set(response.headers["Allow"].split(", ")) - {"HEAD", "OPTIONS"} == ROUTES[path]


@pytest.mark.parametrize("path", [path for path, methods in ROUTES.items() if "GET" in methods])
def test_a_trailing_slash_and_head_answer_like_get(furnished: Api, path: str) -> None:
    plain, slashed, head = furnished.get(path), furnished.get(path.rstrip("/") + "/"), furnished.call("HEAD", path)

    assert [response.status_code for response in (plain, slashed, head)] == [200, 200, 200]
    assert plain.mimetype == slashed.mimetype == head.mimetype
    assert head.data == b""
    assert plain.data


@pytest.mark.parametrize(
    "path", ["/nothing", "/task", "/task/", "/tasks//1", "/tasks/1/cancel/now", "/favicon.ico"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_another_page_is_not_found(api: Api, method: str, path: str) -> None:
    error(api.call(method, path), 404, "not_found")


def test_workers_are_shown(api: Api) -> None:
    worker = {
        "worker_id": "id-1",
        "name": "worker-1",
        "host": "lab-3",
        "pid": 4711,
        "slots": 2,
        "types": ["prime"],
        "queues": ["default"],
        "threads": 4,
    }
    api.json("POST", "/exchange", {"worker": worker})
    api.submit("prime")
    api.json("POST", "/exchange", {"worker": worker, "want": 1})
    api.dispatcher.clock.advance(1.5)

    (shown,) = api.json("GET", "/workers")["workers"]

    assert shown == {
        **worker, "queues": ["default"], "threads": 4, "state": "alive", "running": 1,
        "last_heartbeat_at": "2027-01-15T08:00:00.000Z",
        "seconds_since_heartbeat": 1.5,
    }  # fmt: skip
    assert api.json("GET", "/workers/id-1") == api.json("GET", "/workers/worker-1") == shown


def test_a_name_that_several_workers_have_needs_an_id(api: Api) -> None:
    for worker_id in ("id-1", "id-2"):
        api.json("POST", "/exchange", {"worker": {"worker_id": worker_id, "name": "twin"}})

    problem = error(api.get("/workers/twin"), 409, "conflict")

    assert "id-1, id-2" in problem["message"]
    assert api.json("GET", "/workers/id-2")["worker_id"] == "id-2"


def test_of_workers_with_one_name_the_living_is_meant(api: Api) -> None:
    for worker_id, state in (("id-1", "stopped"), ("id-2", "running")):
        api.json("POST", "/exchange", {"worker": {"worker_id": worker_id, "name": "twin", "state": state}})

    assert api.json("GET", "/workers/twin")["worker_id"] == "id-2"


def test_of_workers_with_one_name_the_one_that_is_gone_is_removed(api: Api) -> None:
    for worker_id, state in (("id-1", "stopped"), ("id-2", "running")):
        api.json("POST", "/exchange", {"worker": {"worker_id": worker_id, "name": "twin", "state": state}})

    assert api.json("DELETE", "/workers/twin")["worker_id"] == "id-1"
    error(api.call("DELETE", "/workers/twin"), 409, "conflict")


@pytest.mark.parametrize(
    ("said", "shown"), [("running", "alive"), ("draining", "draining"), ("stopped", "stopped")]
)
def test_a_worker_says_its_state(api: Api, said: str, shown: str) -> None:
    api.json("POST", "/exchange", {"worker": {"worker_id": "w1", "state": said}})

    assert api.json("GET", "/workers/w1")["state"] == shown


def test_only_a_worker_that_is_gone_can_be_removed(api: Api) -> None:
    api.start("w1")
    error(api.call("DELETE", "/workers/w1"), 409, "conflict")
    api.dispatcher.clock.advance(3)
    api.dispatcher.ledger.reclaim_silent()

    removed = api.json("DELETE", "/workers/w1")

    assert removed["state"] == "dead"
    error(api.get("/workers/w1"), 404, "not_found")
    error(api.call("DELETE", "/workers/w1"), 404, "not_found")


@pytest.mark.parametrize("worker", ["nobody", "%00", "%ff", "a%2fb", "x" * 3000, "ž"])
def test_an_unknown_worker_is_not_found(api: Api, worker: str) -> None:
    error(api.get(f"/workers/{worker}"), 404, "not_found")


def test_the_address_alone_says_what_this_is_and_where_to_look(api: Api) -> None:
    told = api.json("GET", "/")

    assert (told["name"], told["version"]) == ("Baton", "0.1.0")
    assert {"/stats", "/tasks"} <= set(told["look"]) and "docs/protocol.md" in told["docs"]
    assert [api.get(path).status_code for path in told["look"]] == [200] * len(told["look"])
    error(api.get("/?verbose=1"), 422, "invalid")


def test_stats_name_what_is_paused(api: Api) -> None:
    for what in ("/queues/night", "/types/fit", "/types/draw"):
        api.json("POST", f"{what}/pause")
    api.json("POST", "/types/fit/resume")

    assert api.json("GET", "/stats")["paused"] == {"queues": ["night"], "types": ["draw"]}


def test_stats_count_tasks_workers_and_work(api: Api) -> None:
    fence = api.start("w1")
    api.exchange("w1", results=[{**fence, "outcome": "completed", "elapsed_seconds": 2.5}])
    api.submit()

    stats = api.json("GET", "/stats")

    assert stats.pop("uptime_seconds") >= 0
    if api.dispatcher.database.engine.shared:  # a server has more to tell
        assert (stats.pop("oldest_transaction_seconds") >= 0, stats.pop("dead_rows") >= 0) == (True, True)
    assert stats == {
        "tasks": {"blocked": 0, "scheduled": 0, "pending": 1, "in-progress": 0, "completed": 1, "failed": 0,
                  "cancelled": 0, "total": 2},
        "workers": {"alive": 1, "paused": 0, "draining": 0, "dead": 0, "stopped": 0},
        "paused": {"queues": [], "types": []},
        "completed_last_minute": 1,
        "work": {"useful_seconds": 2.5, "saved_seconds": 0.0, "lost_seconds": 0.0},
        "version": "0.1.0",
    }  # fmt: skip


def test_ready_needs_the_monitor(api: Api) -> None:
    before = api.get("/ready")
    api.dispatcher.monitor.start()

    assert (before.status_code, before.headers["Retry-After"]) == (503, "1")
    assert before.json is not None and before.json["monitor"] == "not running"
    assert api.json("GET", "/ready")["status"] == "ok"


def test_ready_needs_a_database_that_can_be_written(furnished: Api) -> None:
    furnished.dispatcher.close()

    response = furnished.get("/ready")

    assert response.status_code == 503
    assert furnished.json("GET", "/health")["status"] == "ok"


def test_what_cannot_be_stored_now_is_to_be_tried_again(api: Api) -> None:
    api.dispatcher.close()

    response = api.post("/tasks", {"type": "noop"})

    error(response, 503, "database_unavailable")
    assert int(response.headers["Retry-After"]) >= 1


def test_a_mistake_of_ours_has_the_same_shape(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def mistake(*_: Any) -> None:
        raise ZeroDivisionError("private details")

    monkeypatch.setattr(Database, "write", mistake)

    problem = error(api.post("/tasks", {"type": "noop"}), 500, "internal")

    assert "private" not in problem["message"]
    assert "private details" in api.dispatcher.events("internal_error")[0]["message"]


def test_every_error_of_the_tree_has_a_code_of_its_own() -> None:
    kinds = set(errors.BY_CODE.values())

    assert len(kinds) == len(errors.BY_CODE)
    for code, kind in errors.BY_CODE.items():
        again = errors.from_body(kind.http_status, kind("a message", field="x").body())
        assert (type(again), again.message, again.details) == (kind, "a message", {"field": "x"}), code
