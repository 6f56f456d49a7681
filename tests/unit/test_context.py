"""What a running task sees."""

from __future__ import annotations

import contextlib
import math
import signal
from typing import Any

import msgspec
import pytest

from shared.protocol import BODY_BYTES_MAX
from tasks.board import StopReason
from tasks.body import NotSendable
from tasks.context import Interrupted, TaskContext, TaskLog
from tests.support.trial import Trial


def test_a_first_attempt_finds_no_state() -> None:
    assert Trial().state is None


def test_a_resumed_attempt_finds_the_last_state() -> None:
    trial = Trial(state={"done": 3})

    assert trial.state == {"done": 3}
    assert (trial.task_id, trial.attempt) == (7, 2)


def test_the_sequence_of_checkpoints_goes_on_across_attempts() -> None:
    trial = Trial(state={"done": 3})

    trial.checkpoint({"done": 4})
    trial.checkpoint({"done": 5})

    assert [checkpoint.seq for checkpoint in trial.sent] == [5, 6]


def test_the_time_behind_a_checkpoint_counts_all_attempts() -> None:
    trial = Trial(state={})

    trial.checkpoint({})

    assert 10.0 <= trial.sent[0].elapsed_seconds < 15.0


def test_a_signal_between_any_two_steps_leaves_a_state_with_all_its_output() -> None:
    """The handler raises as that of a task that is to stop does, at a moment that nobody chooses."""

    def interrupt(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    ahead: list[tuple[int, int]] = []
    try:
        for microseconds in range(200, 600, 2):
            trial, done = TaskContext(interval_seconds=1e9), 0
            with contextlib.suppress(Interrupted):
                signal.setitimer(signal.ITIMER_REAL, microseconds / 1e6)
                while True:
                    done += 1
                    trial.checkpoint({"done": done}, output=done)
            unsent = trial.unsent()
            if unsent is not None and (state := msgspec.json.decode(unsent.state)["done"]) != len(unsent.output):
                ahead.append((state, len(unsent.output)))
    finally:
        signal.signal(signal.SIGALRM, before)

    assert ahead == []


def test_a_checkpoint_that_is_not_due_is_kept_back() -> None:
    trial = Trial(interval_seconds=3600)

    trial.checkpoint({"done": 1}, progress=0.1)
    trial.checkpoint({"done": 2}, progress=0.2)

    last = trial.unsent()
    assert trial.sent == []
    assert last is not None
    assert (last.seq, msgspec.json.decode(last.state), last.progress) == (1, {"done": 2}, 0.2)
    assert trial.unsent() is None


def test_a_kept_back_state_is_as_it_was_at_the_call() -> None:
    trial = Trial(interval_seconds=3600)
    state = {"done": 1}

    trial.checkpoint(state)
    state["done"] = 2

    last = trial.unsent()
    assert last is not None
    assert msgspec.json.decode(last.state) == {"done": 1}


def test_a_large_state_is_written_down_only_when_due() -> None:
    trial = Trial(interval_seconds=3600)
    trial.checkpoint({"numbers": list(range(1000))})

    trial.checkpoint({"numbers": []})

    last = trial.unsent()
    assert last is not None
    assert len(msgspec.json.decode(last.state)["numbers"]) == 1000


def test_output_is_written_down_with_its_state_however_large_that_is() -> None:
    trial = Trial(interval_seconds=3600)
    trial.checkpoint({"numbers": list(range(1000))})

    trial.checkpoint({"numbers": []}, output=["a"])
    trial.checkpoint({"numbers": [1]}, output=["b"])

    last = trial.unsent()
    assert last is not None
    assert msgspec.json.decode(last.state) == {"numbers": [1]}
    assert [msgspec.json.decode(chunk) for chunk in last.output] == [["a"], ["b"]]


def test_much_output_is_sent_before_it_is_due() -> None:
    trial = Trial(interval_seconds=3600)

    for number in range(7):
        trial.checkpoint(number, output="x" * 900_000)

    assert [len(checkpoint.output) for checkpoint in trial.sent] == [6]


def test_a_stop_interrupts_at_the_next_checkpoint_and_keeps_its_state() -> None:
    trial = Trial(interval_seconds=3600)
    trial.checkpoint({"done": 1})
    trial.board.stop(1, StopReason.DRAIN)

    with pytest.raises(Interrupted):
        trial.checkpoint({"done": 2})

    last = trial.unsent()
    assert trial.stopping
    assert last is not None
    assert msgspec.json.decode(last.state) == {"done": 2}


def test_an_interruption_passes_through_a_handler_of_exceptions() -> None:
    assert not issubclass(Interrupted, Exception)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"state": "x" * BODY_BYTES_MAX}, "the checkpoint's state has 1048578 bytes"),
        ({"state": {"mean": math.nan}}, "the checkpoint's state cannot be sent as JSON: state.mean is nan"),
        ({"state": 1, "output": [math.inf]}, r"an output chunk cannot be sent as JSON: chunk\[0\] is inf"),
    ],
)
def test_a_checkpoint_that_cannot_be_sent_is_refused_and_the_one_before_is_kept(
    given: dict[str, Any], named: str
) -> None:
    trial = Trial(interval_seconds=3600)
    trial.checkpoint("before")

    with pytest.raises(NotSendable, match=named):
        trial.checkpoint(**given)

    last = trial.unsent()
    assert last is not None
    assert (msgspec.json.decode(last.state), last.output) == ("before", [])


@pytest.mark.parametrize(
    ("given", "shown"), [(0.3, 0.3), (-1, 0.0), (7, 1.0), (math.inf, 1.0), (math.nan, None), (None, None)]
)
def test_progress_is_shown_within_zero_and_one(given: float | None, shown: float | None) -> None:
    trial = Trial()

    trial.progress(given, "so far")

    assert trial.board.told(1) == (shown, "so far")


def test_a_resumed_loop_repeats_and_skips_nothing() -> None:
    first = Trial(stop_after=3, interval_seconds=3600)
    seen: list[int] = []
    state = {"sum": 0}
    with pytest.raises(Interrupted):
        _add_up(first, seen, state)
    last = first.unsent()
    assert last is not None

    second = Trial(state=msgspec.json.decode(last.state))
    _add_up(second, seen, {"sum": -1})

    assert seen == list(range(10, 30, 2))


def test_a_resumed_loop_gets_its_state_back() -> None:
    trial = Trial(state={"position": 9, "state": {"sum": 162}})
    state = {"sum": 0, "stale": True}

    _add_up(trial, [], state)

    assert state == {"sum": sum(range(10, 30, 2))}


def test_a_context_without_arguments_serves_for_a_trial() -> None:
    ctx = TaskContext()

    ctx.checkpoint({"done": 1}, progress=0.5)

    assert (ctx.state, ctx.stopping, ctx.attempt) == (None, False, 1)


def test_a_task_can_log_a_line(capfd: pytest.CaptureFixture[str]) -> None:
    ctx = TaskContext()

    ctx.log("100 % done")
    ctx.log.warning("%d of %d", 3, 4)

    assert capfd.readouterr().err == "100 % done\n3 of 4\n"


def test_a_task_logs_at_a_level() -> None:
    said: list[tuple[str, str]] = []
    log = TaskLog(lambda text, level: said.append((text, level)))

    log("a", "debug")
    log.error("%s", "b")

    assert said == [("a", "debug"), ("b", "error")]


def test_a_level_that_does_not_exist_is_named_with_those_that_do() -> None:
    with pytest.raises(ValueError, match="level 'loud': expected one of debug, info, warning, error"):
        TaskContext().log("a", "loud")  # type: ignore[arg-type]


def test_every_call_is_a_sign_of_life() -> None:
    trial = Trial(interval_seconds=3600)
    shown_at = []

    for show in (lambda: trial.progress(0.5), lambda: trial.checkpoint({}), lambda: trial.checkpoint({}, 0.5)):
        show()
        shown_at.append(trial.board.shown_at)

    assert 0 < shown_at[0] < shown_at[1] < shown_at[2]


def _add_up(ctx: TaskContext, seen: list[int], state: dict[str, Any]) -> None:
    for number in ctx.resume(range(10, 30, 2), state):
        seen.append(number)
        state["sum"] += number
