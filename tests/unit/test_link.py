"""One message out, its answer taken in: nothing is lost on the way, and everything is logged once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from shared import errors
from shared.protocol import Exchange, ExchangeAnswer, Grant, Refusal, TaskAttempt
from tests.support.desk import Desk
from tests.support.messages import checkpoint, completed

AWAY = errors.Unreachable("nobody there")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.outbox.close()


def test_results_are_gone_when_they_are_answered_for(desk: Desk) -> None:
    desk.finish(1, 2)

    desk.exchange()

    assert [r.task_id for r in desk.dispatcher.messages[0].results] == [1, 2]
    assert desk.hand.is_empty
    assert desk.events() == []


def test_while_no_child_can_be_started_the_worker_says_that_it_can_run_nothing(desk: Desk) -> None:
    desk.link.worker.types = ["noop"]
    for slots, state in ((1, "running"), (0, "running"), (0, "stopped"), (1, "running")):
        desk.executor.slots = slots
        desk.link.worker.state = state  # type: ignore[assignment]
        desk.exchange()

    assert [message.worker.types for message in desk.dispatcher.messages] == [["noop"], [], ["noop"], ["noop"]]


def test_results_go_to_disk_while_nobody_answers_and_leave_it_after(desk: Desk) -> None:
    desk.finish(1)

    desk.exchange(AWAY, AWAY)
    kept = len(desk.kept())
    desk.exchange()

    assert kept == 1
    assert desk.kept() == []
    assert desk.hand.is_empty
    assert desk.events() == ["dispatcher_away", "results_kept", "dispatcher_back", "results_delivered"]


def test_a_result_that_took_long_is_on_disk_before_it_is_sent(desk: Desk) -> None:
    desk.finish(1, seconds=0.1)
    desk.finish(2, seconds=1.5)
    on_disk: list[int] = []
    exchange = desk.dispatcher.exchange

    def look_and_exchange(message: Exchange) -> ExchangeAnswer:
        on_disk.append(len(desk.kept()))
        return exchange(message)

    desk.dispatcher.exchange = look_and_exchange  # type: ignore[method-assign]
    desk.exchange()

    assert on_disk == [1]
    assert desk.kept() == []
    assert desk.events() == []


def test_what_an_earlier_worker_left_is_held_and_delivered(desk: Desk, tmp_path: Path) -> None:
    desk.finish(1)
    desk.exchange(AWAY)
    desk.outbox.close()
    later = Desk(tmp_path)

    later.link.restore()
    later.exchange(holding=True)

    (message,) = later.dispatcher.messages
    assert message.holding is not None
    assert [entry.task_ids for entry in message.holding] == [[1]]
    assert [r.task_id for r in message.results] == [1]
    assert later.events() == ["results_delivered"]
    later.outbox.close()


def test_a_lost_grant_is_dropped_with_a_line(desk: Desk) -> None:
    desk.hand.add([Grant(1, 1, "lease", 100.0, "noop")])
    desk.finish(2)

    desk.exchange(ExchangeAnswer(lost=[TaskAttempt(1, 1), TaskAttempt(2, 1), TaskAttempt(9, 1)]))

    assert desk.hand.is_empty
    assert desk.events() == ["task_lost", "task_lost"]
    assert desk.executor.rung == 1


def test_what_was_kept_and_comes_back_lost_or_refused_is_not_called_delivered(desk: Desk) -> None:
    desk.finish(1, 2, 3)
    lost, refused = TaskAttempt(1, 1), Refusal(2, 1, {"code": "too_large", "message": "no"})

    desk.exchange(AWAY, ExchangeAnswer(lost=[lost], refused=[refused]))

    delivered = [line for line in desk.log.getvalue().splitlines() if "results_delivered" in line]
    assert ["1 kept result(s)" in line for line in delivered] == [True]
    assert desk.kept() == []


def test_a_cancelled_grant_is_dropped_with_a_line(desk: Desk) -> None:
    desk.hand.add([Grant(1, 1, "lease", 100.0, "noop")])

    desk.exchange(ExchangeAnswer(cancel=[TaskAttempt(1, 1)]))
    desk.exchange(ExchangeAnswer(cancel=[TaskAttempt(1, 1)]))

    assert desk.hand.is_empty
    assert desk.events() == ["task_cancelled"]


def test_a_refused_result_is_set_aside_and_reported_as_failed(desk: Desk) -> None:
    desk.finish(1, 2)
    refused = Refusal(1, 1, {"code": "too_large", "message": "2 MiB, 1 MiB allowed"})

    desk.exchange(ExchangeAnswer(refused=[refused]), ExchangeAnswer())

    (report,) = desk.dispatcher.messages[1].results
    assert (report.task_id, report.outcome, report.retryable) == (1, "failed", False)
    assert "2 MiB, 1 MiB allowed" in bytes(report.error).decode()
    assert b"too_large" in (desk.outbox.folder / "refused" / "1-1.json").read_bytes()
    assert desk.events() == ["result_refused"]
    assert desk.hand.is_empty


def test_a_report_that_is_refused_again_is_not_sent_for_ever(desk: Desk) -> None:
    desk.finish(1)
    refusal = ExchangeAnswer(refused=[Refusal(1, 1, {"code": "invalid", "message": "no"})])

    desk.exchange(refusal, refusal)

    assert desk.hand.is_empty
    assert desk.events() == ["result_refused", "result_refused"]


def test_a_refused_checkpoint_fails_its_attempt(desk: Desk) -> None:
    grant = Grant(1, 1, "lease", 100.0, "noop")
    desk.hand.add([grant])
    desk.hand.save(checkpoint(grant, seq=1, progress=1.7))

    desk.exchange(ExchangeAnswer(refused=[Refusal(1, 1, {"code": "invalid", "message": "1.7"})]))
    desk.exchange()

    assert (1, 1) not in desk.hand
    assert [r.outcome for r in desk.dispatcher.messages[1].results] == ["failed"]


def test_one_bad_item_in_a_message_is_found_and_the_others_get_through(desk: Desk) -> None:
    desk.finish(1, 2, 3)
    bad = errors.Invalid("something is wrong")

    desk.exchange(bad, ExchangeAnswer(), bad, bad, ExchangeAnswer(), ExchangeAnswer())

    sent = [[(r.task_id, r.outcome) for r in message.results] for message in desk.dispatcher.messages]
    assert sent == [
        [(1, "completed"), (2, "completed"), (3, "completed")],
        [(1, "completed")],
        [(2, "completed"), (3, "completed")],
        [(2, "completed")],
        [(3, "completed"), (2, "failed")],
        [],
    ]
    assert desk.hand.is_empty
    assert desk.events() == ["result_refused"]


def test_a_refused_message_is_tried_without_its_log_lines_first(desk: Desk) -> None:
    grant = Grant(2, 1, "lease", 100.0, "noop")
    desk.hand.add([grant])
    desk.hand.say(grant, [(0.0, "info", "hello")])
    desk.finish(1)

    desk.exchange(errors.TooLarge("too large"), ExchangeAnswer(), logs=True)

    assert [(len(m.logs), len(m.results)) for m in desk.dispatcher.messages] == [(1, 1), (0, 1)]
    assert desk.events() == ["logs_refused"]


def test_log_lines_wait_for_the_dispatcher_to_come_back(desk: Desk) -> None:
    grant = Grant(2, 1, "lease", 100.0, "noop")
    desk.hand.add([grant])
    desk.hand.say(grant, [(0.0, "info", "hello")])

    desk.exchange(AWAY, ExchangeAnswer(), logs=True)

    assert [[line.message for log in m.logs for line in log.lines] for m in desk.dispatcher.messages] == [
        ["hello"],
        ["hello"],
    ]


def test_an_answer_that_is_not_batons_counts_as_none(desk: Desk) -> None:
    desk.finish(1)

    desk.exchange(msgspec.DecodeError("JSON is malformed"), errors.Internal())

    assert not desk.hand.is_empty
    assert desk.events() == ["dispatcher_away", "results_kept"]


def test_after_a_long_silence_any_message_lists_what_is_held(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.exchange()
    monkeypatch.setattr(desk.link, "_spoke_at", desk.link._spoke_at - 100)

    desk.exchange(want=1)
    desk.exchange(want=1)

    assert [message.holding for message in desk.dispatcher.messages] == [None, [], None]


def test_an_answer_found_on_waking_does_not_end_the_silence(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = time.clock_gettime

    def frozen_until_later(message: Exchange) -> ExchangeAnswer:
        monkeypatch.setattr(time, "clock_gettime", lambda which: clock(which) + 100)
        return ExchangeAnswer()

    with monkeypatch.context() as while_frozen:
        while_frozen.setattr(desk.dispatcher, "exchange", frozen_until_later)
        desk.exchange()
    desk.exchange(want=1)

    assert [message.holding for message in desk.dispatcher.messages] == [[]]


def test_a_pure_task_is_answered_without_being_run(desk: Desk) -> None:
    desk.memo.types = frozenset({"noop"})
    known = Grant(1, 1, "lease", 100.0, "noop")
    desk.memo.learn([(known, completed(known, "from memory"))])

    desk.exchange(ExchangeAnswer(tasks=[Grant(2, 1, "lease", 100.0, "noop")]), ExchangeAnswer())

    (result,) = desk.dispatcher.messages[1].results
    assert (result.task_id, bytes(result.result), result.cached) == (2, b'"from memory"', True)
    assert desk.hand.empty_queue() == []


def test_directives_are_handed_on(desk: Desk) -> None:
    desk.exchange(ExchangeAnswer(directive="pause"))
    paused = desk.link.is_paused
    desk.exchange(ExchangeAnswer(directive="run"), ExchangeAnswer(directive="drain"))

    assert paused
    assert not desk.link.is_paused
    assert desk.directives == ["drain"]


def test_at_the_end_everything_undelivered_is_on_disk(desk: Desk) -> None:
    desk.finish(1)
    desk.exchange(AWAY)
    desk.finish(2)

    desk.link.keep_all()

    kept = b"".join(path.read_bytes() for path in desk.kept())
    assert b'"task_id":1' in kept
    assert b'"task_id":2' in kept
    assert desk.events() == ["dispatcher_away", "results_kept", "results_kept"]
