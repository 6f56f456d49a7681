"""How tasks are spoken of on a terminal."""

from __future__ import annotations

from typing import Any

import pytest

from shared.progress import ids_in_words, outcome


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ([7], "task 7"),
        ([1, 2], "tasks 1, 2"),
        ([4, 5, 6], "tasks 4 to 6"),
        ([1, 5, 6], "tasks 1, 5, 6"),
        ([3, 2, 1], "tasks 3, 2, 1"),
        ([1, 5, 2**63 - 1], "tasks 1, 5, 9223372036854775807"),  # far apart: nothing is counted out
    ],
)
def test_ids_are_a_range_only_if_they_follow_each_other(ids: list[int], words: str) -> None:
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
