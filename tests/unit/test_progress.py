"""How tasks are spoken of on a terminal."""

from __future__ import annotations

from typing import Any

import pytest

from shared.cli import screen
from shared.cli.progress import ids_in_words, outcome, results


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ([7], "task 7"),
        ([1, 2], "tasks 1, 2"),
        ([4, 5, 6], "tasks 4 to 6"),
        ([1, 5, 6], "tasks 1, 5, 6"),
        ([1, 2, 3, 7, 10, 11, 12], "tasks 1 to 3, 7, 10 to 12"),
        ([3, 2, 1], "tasks 3, 2, 1"),
        ([1, 5, 2**63 - 1], "tasks 1, 5, 9223372036854775807"),  # far apart: nothing is counted out
    ],
)
def test_ids_are_a_range_only_where_they_follow_each_other(ids: list[int], words: str) -> None:
    assert ids_in_words(ids) == words


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ({"type": "ValueError", "message": "no luck"}, "ValueError: no luck"),
        ("out of luck", '"out of luck"'),
        ([1, 2], "[1,2]"),
        ({"reason": "no luck"}, '{"reason":"no luck"}'),
        (None, ""),
    ],
)
def test_whatever_a_worker_calls_an_error_can_be_shown(error: Any, words: str) -> None:
    assert outcome({"status": "failed", "error": error}) == words


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ({"n": 100000}, "n 100000"),
        ({"n": 100000, "elapsed_seconds": 0.5}, "n 100000, elapsed_seconds 0.5"),
        ({"n": 100000, "sum": 7}, "sum 7"),
        ({}, "{}"),
    ],
)
def test_a_result_hides_what_the_payload_says_only_behind_something_new(result: Any, words: str) -> None:
    assert outcome({"status": "completed", "payload": {"n": 100000}, "result": result}) == words


def test_results_are_whole_in_a_pipe(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    ended = {"status": "failed", "worker": "worker-1", "attempt": 1, "elapsed_seconds": 12.3}
    error = {"type": "ValueError", "message": "word " * 40 + "end"}

    screen.show(results([{**ended, "task_id": task_id, "error": error} for task_id in range(1, 26)]))

    header, *rows, last = capsys.readouterr().out.splitlines()
    assert header.split() == ["task", "status", "worker", "attempts", "seconds", "result"]
    assert len(rows) == 20 and all(row.endswith("word end") for row in rows)
    assert last.split() == ["…", "5", "more", "--json", "shows", "all"]
