"""Whatever is sent to any route: never a 5xx, never an error of another shape."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.api import Api, assert_shape
from tests.support.dispatcher import Dispatcher
from tests.support.fake_clock import FakeClock

FIELD_NAMES = [
    "type", "payload", "priority", "delay_seconds", "run_at", "max_retries", "crash_limit", "timeout_seconds",
    "backoff", "tags", "tasks", "worker_id", "worker", "holding", "checkpoints", "results", "want", "task_id",
    "attempt", "lease_id", "seq", "state", "outcome", "result", "error", "output", "progress", "types", "name",
    "elapsed_seconds", "from_scratch", "running", "task_ids", "retry_after_seconds", "checkpoint", "slots", "pid",
    "key", "depends_on", "run_if", "map", "over", "as", "result_of", "profile", "taskId", "jobId", "dependencies",
    "cron", "every_seconds", "timezone", "task", "flow", "missed", "overlap",
]  # fmt: skip
NUMBERS = st.sampled_from([0, 1, -1, 0.5, 1.7, 2**31, 2**63 - 1, 2**63, -(2**63) - 1, 10**30, 1e308, 1e-320])
WORDS = st.sampled_from(
    ["noop", "w1", "completed", "failed", "crashed", "released", "stopped", "linear", "", "\x00"]
)
SCALARS = st.none() | st.booleans() | NUMBERS | WORDS | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELD_NAMES), inner, max_size=6),
    max_leaves=12,
)
BODIES = st.dictionaries(st.sampled_from(FIELD_NAMES), VALUES, max_size=8)
FENCES = st.fixed_dictionaries({"task_id": NUMBERS, "attempt": NUMBERS, "lease_id": WORDS})
ITEMS = st.builds(lambda fence, more: {**more, **fence}, FENCES, BODIES)
MESSAGES = st.fixed_dictionaries(
    {"worker": st.builds(lambda more: {**more, "worker_id": "w1"}, BODIES) | st.just({"worker_id": "w1"})},
    optional={
        "holding": st.lists(ITEMS, max_size=2),
        "checkpoints": st.lists(ITEMS, max_size=2),
        "results": st.lists(ITEMS, max_size=2),
        "want": NUMBERS,
    },
)
RESULTS = st.builds(lambda item: {**item, "worker_id": "w1"}, ITEMS)
PATHS = [
    "/submit-task", "/tasks", "/task/1", "/tasks/2", "/tasks/1/cancel", "/tasks/2/revive", "/tasks/1/attempts",
    "/tasks/1/checkpoint", "/tasks/1/output", "/exchange", "/get-task", "/heartbeat", "/submit-result", "/workers",
    "/workers/w1", "/stats", "/health", "/flows", "/flows/1", "/flows/1/cancel", "/flows/1/revive", "/schedules",
    "/schedules/s1", "/schedules/s1/run", "/schedules/s1/pause", "/schedules/s1/resume", "/schedules/s1/history",
    "/tasks/99999999999999999999/cancel", "/task/0", "/",
]  # fmt: skip
QUERIES = st.lists(
    st.tuples(
        st.sampled_from(["status", "type", "tag", "limit", "after", "before", "wait_secnds", ""]),
        st.sampled_from(["", "1", "-1", "pending", "noop", "9" * 30, "nan", "1e5", "%00", "%ff", "x%20y"]),
    ),
    max_size=3,
).map(lambda pairs: "&".join(f"{name}={value}" for name, value in pairs))


@pytest.fixture(scope="module")
def anything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One dispatcher for all examples: what they leave behind is part of the test."""
    folder: Path = tmp_path_factory.mktemp("any")
    dispatcher = Dispatcher(folder, FakeClock(), long_poll_seconds=0.0)
    api = Api(dispatcher)
    api.start("w1")
    api.submit()
    yield api
    dispatcher.close()
    dispatcher.store.check()


def _check(response: Any) -> None:
    assert response.status_code < 500, response.data
    if response.status_code >= 400 and response.data:
        assert_shape(response)


COMMON = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@COMMON
@given(
    method=st.sampled_from(["GET", "POST", "DELETE", "HEAD", "PUT", "PATCH"]),
    path=st.sampled_from(PATHS),
    query=QUERIES,
)
def test_any_query_gets_a_proper_answer(anything: Api, method: str, path: str, query: str) -> None:
    _check(anything.call(method, f"{path}?{query}" if query else path))


@COMMON
@given(path=st.sampled_from(PATHS), body=BODIES | VALUES)
def test_any_json_gets_a_proper_answer(anything: Api, path: str, body: Any) -> None:
    _check(anything.post(path, b"null" if body is None else body))


TASKS = st.builds(lambda more, key: {**more, "type": "noop", "key": key}, BODIES, WORDS)
FLOWS = st.builds(lambda more, tasks: {**more, "tasks": tasks}, BODIES, st.lists(TASKS, max_size=3))
SCHEDULES = st.builds(lambda more, task: {**more, "name": "s1", "task": task}, BODIES, TASKS)


@COMMON
@given(path=st.sampled_from(["/flows", "/tasks", "/schedules"]), body=FLOWS | SCHEDULES)
def test_any_flow_or_schedule_gets_a_proper_answer(anything: Api, path: str, body: Any) -> None:
    _check(anything.post(path, body))
    _check(anything.call("PATCH", "/schedules/s1", body))


@COMMON
@given(message=MESSAGES)
def test_any_workers_message_gets_a_proper_answer(anything: Api, message: Any) -> None:
    _check(anything.post("/exchange", message))


@COMMON
@given(path=st.sampled_from(["/submit-result", "/heartbeat", "/get-task"]), message=RESULTS)
def test_any_single_result_gets_a_proper_answer(anything: Api, path: str, message: Any) -> None:
    _check(anything.post(path, message))


@COMMON
@given(path=st.sampled_from(PATHS), body=st.binary(max_size=60))
def test_any_bytes_get_a_proper_answer(anything: Api, path: str, body: bytes) -> None:
    _check(anything.post(path, body))
