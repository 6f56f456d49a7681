"""Following many tasks is a burden to nobody: who needs long for a look does not look often."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from shared import follow
from shared.client import DispatcherClient
from shared.follow import LOOK_SECONDS, Follower


class SlowDispatcher:
    """Needs three seconds for a page, and ends a task with each; its time is the clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.paused: list[float] = []
        self.ended = 0

    def tasks(self, after: int, limit: int) -> dict[str, Any]:
        self.now += 3.0
        self.ended += 1
        states = {
            task_id: "completed" if task_id <= self.ended else "pending" for task_id in range(after - 1, 0, -1)
        }
        return {"tasks": [{"task_id": task_id, "status": status} for task_id, status in states.items()][:limit]}

    def sleep(self, seconds: float) -> None:
        self.paused.append(seconds)
        self.now += seconds


@pytest.fixture
def dispatcher(monkeypatch: pytest.MonkeyPatch) -> SlowDispatcher:
    made = SlowDispatcher()
    monkeypatch.setattr(follow, "time", SimpleNamespace(monotonic=lambda: made.now, sleep=made.sleep))
    return made


def test_the_pause_is_as_long_as_the_look_before_it(dispatcher: SlowDispatcher) -> None:
    follower = Follower(cast(DispatcherClient, dispatcher), [1, 2, 3])

    looks = follower.until_ended()
    for _ in range(2):
        next(looks)

    assert dispatcher.paused == [3.0]
    assert follower.open == {3}
    assert LOOK_SECONDS < 3.0


def test_the_pause_ends_when_time_is_up(dispatcher: SlowDispatcher) -> None:
    follower = Follower(cast(DispatcherClient, dispatcher), range(1, 100))

    looks = len(list(follower.until_ended(timeout_seconds=5.0)))

    assert (looks, dispatcher.paused) == (2, [2.0])
