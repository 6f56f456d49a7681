"""The memory that a child and its worker share."""

from __future__ import annotations

import tempfile
import time

from tasks.board import BOARD_BYTES, Board, StopReason


def test_both_sides_see_the_same_board() -> None:
    with tempfile.TemporaryFile() as memory:
        memory.truncate(BOARD_BYTES)
        child, worker = Board(memory.fileno()), Board(memory.fileno())

        child.start(3)
        worker.stop(3, StopReason.TIMEOUT)

        assert worker.running == 3
        assert abs(worker.started_at - time.monotonic()) < 5
        assert child.stop_reason(3) == StopReason.TIMEOUT


def test_a_task_runs_from_its_start_to_its_end() -> None:
    board = Board()

    before = board.running
    board.start(1)
    during = board.running
    board.end(1)

    assert (before, during, board.running) == (0, 1, 0)


def test_a_stop_is_for_one_task_only() -> None:
    board = Board()

    board.stop(5, StopReason.DRAIN)

    assert board.stop_reason(5) == StopReason.DRAIN
    assert board.stop_reason(4) == board.stop_reason(6) == StopReason.NONE


def test_progress_and_message_belong_to_the_task_that_showed_them() -> None:
    board = Board()

    board.tell(1, 0.25, "a quarter, … naïve")
    board.tell(1, 0.5, None)

    assert board.told(1) == (0.5, "a quarter, … naïve")
    assert board.told(2) == (None, None)


def test_a_long_message_is_cut_between_characters() -> None:
    board = Board()

    board.tell(1, None, "x" + "…" * 2000)

    _, message = board.told(1)
    assert message == "x" + "…" * 1365


def test_a_withdrawn_task_is_not_started() -> None:
    board = Board()
    board.start(1)

    board.take(last=3)

    assert board.taken() == 2
    assert not board.start(2)


def test_a_task_started_in_the_same_moment_is_not_taken() -> None:
    board = Board()
    board.start(1)

    board.take(last=3)
    board.start(2)  # announced before it looked: the child leaves it out and says so

    assert board.taken() == 3


def test_tasks_sent_after_a_withdrawal_are_started() -> None:
    board = Board()
    board.start(1)
    board.take(last=3)

    started = board.start(4)

    assert started


def test_a_second_withdrawal_covers_the_first() -> None:
    board = Board()
    board.start(1)
    board.take(last=3)

    board.take(last=6)

    assert board.taken() == 2
    assert not board.start(6)
    assert board.start(7)
