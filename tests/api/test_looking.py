"""GET routes and what steers a task: show, wait, list, attempts, checkpoint, output, cancel, revive."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.api import Api, error
from tests.support.waiting import LIMIT_SECONDS, Call, wait_until

VIEWS = ["", "/attempts", "/checkpoint", "/output"]


def test_a_task_is_shown_with_what_its_worker_says(api: Api) -> None:
    fence = api.start("w1", type="prime")
    api.exchange(holding=[{**fence, "running": True, "progress": 0.4, "message": "at 400"}])
    api.dispatcher.clock.advance(2.5)

    task = api.json("GET", "/task/1")

    assert (task["status"], task["worker"], task["worker_id"]) == ("in-progress", "w1", "w1")
    assert (task["progress"], task["message"], task["elapsed_seconds"]) == (0.4, "at 400", 2.5)
    assert (task["attempt"], task["started_at"]) == (1, "2027-01-15T08:00:00.000Z")


def test_waiting_for_a_task_answers_when_it_ends(api: Api) -> None:
    fence = api.start()
    call = Call(api.app.test_client().get, f"/task/1?wait_seconds={LIMIT_SECONDS}")
    wait_until(lambda: api.dispatcher.database._ends, "the client to wait")

    api.exchange(results=[{**fence, "outcome": "completed", "result": 7}])

    assert call.result().json["result"] == 7


@pytest.mark.parametrize("seconds", ["0", "0.01"])
def test_a_wait_that_is_over_answers_the_present_state(api: Api, seconds: str) -> None:
    api.submit()

    assert api.json("GET", f"/tasks/1?wait_seconds={seconds}")["status"] == "pending"


@pytest.mark.parametrize("query", ["wait_seconds=-1", "wait_seconds=soon", "wait_seconds=nan", "wait=1"])
def test_a_wrong_wait_is_refused(api: Api, query: str) -> None:
    api.submit()

    error(api.get(f"/task/1?{query}"), 422, "invalid")


def test_attempts_tell_the_history(api: Api) -> None:
    fence = api.start()
    checkpoint = {"seq": 1, "state": {"at": 1}, "elapsed_seconds": 3}
    problem = {"type": "ValueError", "message": "no"}
    failed = {"outcome": "failed", "error": problem, "elapsed_seconds": 4.5, "retry_after_seconds": 0}
    api.exchange(results=[{**fence, **failed, "checkpoint": checkpoint}])
    api.dispatcher.ledger.promote()
    api.exchange("w2", want=1)

    first, second = api.json("GET", "/tasks/1/attempts")["attempts"]

    assert first == {
        "attempt": 1, "worker": "w1", "worker_id": "w1", "outcome": "failed",
        "started_at": "2027-01-15T08:00:00.000Z", "finished_at": "2027-01-15T08:00:00.000Z",
        "elapsed_seconds": 4.5, "resumed_seq": None, "lost_seconds": 1.5, "error": problem,
    }  # fmt: skip
    assert second == {
        "attempt": 2, "worker": "w2", "worker_id": "w2", "outcome": None,
        "started_at": "2027-01-15T08:00:00.000Z", "finished_at": None,
        "elapsed_seconds": None, "resumed_seq": 1, "lost_seconds": None, "error": None,
    }  # fmt: skip


def test_an_answer_from_a_memo_is_marked(api: Api) -> None:
    fence = api.start()

    api.exchange(results=[{**fence, "outcome": "completed", "result": 1, "cached": True}])

    assert api.json("GET", "/tasks/1/attempts")["attempts"][0]["cached"] is True


def test_the_checkpoint_is_shown_while_there_is_one(api: Api) -> None:
    fence = api.start()
    error(api.get("/tasks/1/checkpoint"), 404, "not_found")
    api.exchange(checkpoints=[{**fence, "seq": 3, "state": {"n": 10**30}, "progress": 0.5, "elapsed_seconds": 9}])

    shown = api.json("GET", "/tasks/1/checkpoint")

    assert shown == {
        "task_id": 1, "attempt": 1, "seq": 3, "state": {"n": 10**30}, "progress": 0.5, "elapsed_seconds": 9.0,
        "saved_at": "2027-01-15T08:00:00.000Z",
    }  # fmt: skip


def test_output_is_a_line_a_chunk_and_readable_while_it_runs(api: Api) -> None:
    fence = api.start()
    api.exchange(checkpoints=[{**fence, "seq": 1, "output": [[2, 3], {"a": "\n"}, None]}])

    response = api.get("/tasks/1/output")

    assert (response.status_code, response.mimetype) == (200, "application/x-ndjson")
    assert response.data == b'[2,3]\n{"a":"\\n"}\nnull\n'
    api.submit()
    assert api.get("/tasks/2/output").data == b""


def test_a_task_shows_how_many_chunks_its_output_has(api: Api) -> None:
    fence = api.start()
    api.exchange(checkpoints=[{**fence, "seq": 1, "output": [1, 2]}])
    api.exchange(checkpoints=[{**fence, "seq": 2, "output": [3]}])
    api.submit()

    assert api.json("GET", "/task/1")["output_chunks"] == 3
    assert "output_chunks" not in api.json("GET", "/task/2")


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("task_id", ["999", "0", "-1", "abc", "1.0", "1e3", "9" * 20, "9" * 5000, "%31x"])
def test_what_is_not_there_is_not_found(api: Api, view: str, task_id: str) -> None:
    api.submit()

    error(api.get(f"/tasks/{task_id}{view}"), 404, "not_found")


@pytest.mark.parametrize("task_id", ["999", "0", "-1", "abc", "9" * 20])
def test_nothing_happens_to_what_is_not_there(api: Api, task_id: str) -> None:
    error(api.post(f"/tasks/{task_id}/cancel"), 404, "not_found")
    error(api.post(f"/tasks/{task_id}/revive"), 404, "not_found")
    error(api.call("DELETE", f"/tasks/{task_id}"), 404, "not_found")


def test_lists_are_newest_first_and_filtered(api: Api) -> None:
    api.submit("prime", tags=["x"])
    api.submit("noop", tags=["x", "y"])
    api.submit("prime", delay_seconds=60)
    api.submit("noop")

    ids = {
        query: [task["task_id"] for task in api.json("GET", f"/tasks?{query}")["tasks"]]
        for query in ("", "type=prime", "status=pending", "tag=x", "tag=x&type=noop", "status=scheduled&tag=x")
    }

    assert ids == {
        "": [4, 3, 2, 1], "type=prime": [3, 1], "status=pending": [4, 2, 1], "tag=x": [2, 1],
        "tag=x&type=noop": [2], "status=scheduled&tag=x": [],
    }  # fmt: skip


@pytest.mark.parametrize("filters", ["", "&tag=x", "&status=pending"])
def test_pages_follow_each_other_without_gap_or_repeat(api: Api, filters: str) -> None:
    api.json("POST", "/tasks", {"tasks": [{"type": "noop", "tags": ["x"]}] * 7}, 201)
    seen: list[int] = []
    cursors: list[Any] = [""]
    while cursors[-1] is not None:
        page = api.json("GET", f"/tasks?limit=3{filters}{cursors[-1]}")
        seen += [task["task_id"] for task in page["tasks"]]
        cursors.append(None if page["next"] is None else f"&after={page['next']}")

    assert seen == [7, 6, 5, 4, 3, 2, 1]
    assert len(cursors) == 4


@pytest.mark.parametrize(
    "path", ["/tasks?type=nop", "/tasks?queue=fast&type=noop", "/tasks?type=noop&status=completed"]
)
def test_what_cannot_be_there_is_not_searched_for(api: Api, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten million tasks would be looked through to find none."""
    api.submit()
    statements = api.dispatcher.database.engine.statements
    for name in ("task_ids", "task_ids_dead", "history_completed", "history_others"):
        monkeypatch.setitem(statements, name, _never)

    assert api.json("GET", path)["tasks"] == []
    if "status" not in path:
        assert api.json("GET", path.replace("/tasks", "/history"))["attempts"] == []


def _never(connection: object, **values: object) -> None:
    raise AssertionError("walked through the tasks")


def test_a_page_of_large_tasks_ends_early(api: Api) -> None:
    for _ in range(3):
        large = {"type": "noop", "payload": {"x": "x" * 1_000_000}}
        api.json("POST", "/tasks", {"tasks": [large] * 4}, 201)

    page = api.json("GET", "/tasks")
    rest = api.json("GET", f"/tasks?after={page['next']}")

    assert (len(page["tasks"]), len(rest["tasks"]), rest["next"]) == (9, 3, None)


@pytest.mark.parametrize(
    "query",
    [
        *("limit=0", "limit=501", "limit=x", "limit=1.5", "Limit=1", "offset=3"),
        *("after=0", "after=-1", "after=" + "9" * 30, "status=running", "type=A", "tag="),
    ],
)
def test_a_wrong_query_is_refused(api: Api, query: str) -> None:
    error(api.get(f"/tasks?{query}"), 422, "invalid")


@pytest.mark.parametrize("path", ["/task/1", "/tasks/1/attempts", "/tasks/1/checkpoint", "/tasks/1/output"])
@pytest.mark.parametrize("prefix", ["/stats", "/health", "/ready", "/workers"])
def test_an_unknown_query_parameter_is_refused_everywhere(api: Api, path: str, prefix: str) -> None:
    api.submit()

    for place in (path, prefix):
        problem = error(api.get(f"{place}?verbose=1"), 422, "invalid")
        assert problem["details"]["field"] == "verbose"


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/tasks/1/cancel"), ("POST", "/tasks/1/cancel/"), ("DELETE", "/tasks/1"), ("DELETE", "/task/1/")],
)
def test_a_task_is_cancelled_once(api: Api, method: str, path: str) -> None:
    api.submit()

    task = api.json(method, path)

    assert (task["status"], task["error"]["type"]) == ("cancelled", "Cancelled")
    error(api.call(method, path), 409, "already_ended")


@pytest.mark.parametrize("body", [None, b"", {}, {"from_scratch": False}, {"payload": {"n": 2}}])
def test_a_cancelled_task_is_revived_once(api: Api, body: Any) -> None:
    api.submit(payload={"n": 1})
    api.post("/tasks/1/cancel", {})

    task = api.json("POST", "/tasks/1/revive/", body)

    payload = body["payload"] if body and "payload" in body else {"n": 1}
    assert (task["status"], task["error"], task["payload"]) == ("pending", None, payload)
    error(api.post("/tasks/1/revive", body), 409, "conflict")


@pytest.mark.parametrize(
    "body", [{"scratch": True}, {"from_scratch": "yes"}, {"payload": 3}, {"payload": None}, []]
)
def test_a_wrong_revival_is_refused(api: Api, body: Any) -> None:
    api.submit()
    api.post("/tasks/1/cancel")

    error(api.post("/tasks/1/revive", body), 422, "invalid")


def test_cancel_takes_no_fields(api: Api) -> None:
    api.submit()

    error(api.post("/tasks/1/cancel", {"reason": "tired"}), 422, "invalid")
    error(api.post("/tasks/1/cancel", b"{", "application/json"), 400, "malformed")
