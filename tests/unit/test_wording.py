"""Every pattern that a message or a setting must match is told in words."""

from __future__ import annotations

import re
from types import ModuleType
from typing import Annotated

import msgspec
import pytest

from shared import flows, operating, protocol, schedules, settings
from shared.wording import clean, counted, in_words, spelled

MODULES = (flows, operating, protocol, schedules, settings)
TAKEN_APART = re.compile(r"Meta\([^)]*pattern=")


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_no_pattern_is_without_its_words(module: ModuleType) -> None:
    with open(module.__file__ or "", encoding="utf-8") as source:
        assert TAKEN_APART.findall(source.read()) == []


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (protocol.TypeName, "1 to 100 of a-z 0-9 _ . -"),
        (flows.Key, "1 to 100 characters, no brackets, no line ends"),
        (schedules.ScheduleName, "1 to 100 of A-Z a-z 0-9 _ . -"),
        (Annotated[str, spelled(r"^'[\"\\]+$", "quotes")], "quotes"),
    ],
)
def test_what_does_not_match_is_told_in_words(kind: object, words: str) -> None:
    with pytest.raises(msgspec.ValidationError) as complaint:
        msgspec.convert("a [\x00]", kind)

    assert in_words(str(complaint.value)) == f"expected {words}"


def test_other_complaints_stay_as_they_are() -> None:
    assert in_words("Expected `int`, got `str`") == "expected `int`, got `str`"


def test_only_one_of_a_thing_is_told_without_an_s() -> None:
    assert [counted(n, "task") for n in (0, 1, 2)] == ["0 tasks", "1 task", "2 tasks"]


def test_texts_lose_what_moves_a_cursor() -> None:
    assert clean("a\x1b[2J\tb\r\nc\u202e") == "a�[2J b c�"
    assert clean("ä text of 1 line") == "ä text of 1 line"
