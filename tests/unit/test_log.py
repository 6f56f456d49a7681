"""Log lines: JSON for machines, plain for people, never a reason to stop."""

from __future__ import annotations

import io

import msgspec
import pytest

from shared.log import EVENTS, Log


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_machine_gets_one_json_object_a_line() -> None:
    stream = io.StringIO()

    Log("dispatcher", stream)("fail", task_id=7, attempt=2, next="scheduled", reason="no\nluck")

    (line,) = stream.getvalue().splitlines()
    record = msgspec.json.decode(line)
    assert record["message"] == "task 7 attempt 2 failed (scheduled): no | luck"
    assert (record["level"], record["who"], record["event"]) == ("info", "dispatcher", "fail")
    assert (record["task_id"], record["reason"]) == (7, "no\nluck")


def test_a_terminal_gets_a_plain_line() -> None:
    stream = _Terminal()

    Log("worker-1", stream)("results_delivered", count=3)

    assert stream.getvalue().endswith(" worker-1     3 kept result(s) delivered\n")


def test_a_terminal_obeys_nothing_that_others_have_said() -> None:
    stream = _Terminal()

    Log("dispatcher", stream)("fail", task_id=7, attempt=2, next="scheduled", reason="no\x1b[2J\nluck\x9b2J")

    assert stream.getvalue().endswith(" (scheduled): no�[2J | luck�2J\n")


def test_whoever_read_the_log_may_leave() -> None:
    stream = io.StringIO()
    log = Log("dispatcher", stream)
    stream.close()

    log("dispatcher_stopped")


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_is_one_lower_case_sentence(event: str) -> None:
    _, wording = EVENTS[event]

    assert event == event.lower()
    assert not wording.endswith(".")
    assert "\n" not in wording
