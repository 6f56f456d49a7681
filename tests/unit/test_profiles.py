"""Profiles: defaults that a task's own fields override, and a file whose mistakes are found at start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from dispatcher import profiles
from dispatcher.profiles import Profiles, ProfilesProblem
from shared import errors
from shared.settings import ROOT

BATCH = Profiles({"batch": {"priority": -10, "max_retries": 9}, "plain": {}})


def filled(body: Any) -> Any:
    return msgspec.json.decode(BATCH.fill(msgspec.json.encode(body)))


def test_a_profiles_options_are_defaults() -> None:
    task = {"type": "noop", "profile": "batch", "priority": 0}

    assert filled(task) == {"type": "noop", "profile": "batch", "priority": 0, "max_retries": 9}


def test_a_task_that_says_when_is_not_delayed_by_its_profile() -> None:
    late = Profiles({"late": {"delay_seconds": 60, "priority": -1}})
    task = {"type": "noop", "profile": "late", "run_at": "2027-01-31T12:00:00Z"}

    assert msgspec.json.decode(late.fill(msgspec.json.encode(task))) == {**task, "priority": -1}


@pytest.mark.parametrize(
    "around",
    [
        lambda task: {"tasks": [{"type": "noop"}, task]},
        lambda task: {"name": "s", "task": task},
        lambda task: {"name": "s", "flow": {"tasks": [task]}},
    ],
)
def test_wherever_a_task_is_it_can_have_one(around: Any) -> None:
    plain = {"type": "noop", "profile": "batch"}

    assert filled(around(plain)) == around({**plain, "priority": -10, "max_retries": 9})


def test_a_payload_is_nobodys_profile_and_stays_as_it_is() -> None:
    body = b'{"type": "noop", "payload": {"profile": "unknown",  "n": 1.0}}'

    assert msgspec.json.decode(BATCH.fill(body)) == msgspec.json.decode(body)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"type": "noop", "profile": "x"}, "profile"),
        ({"tasks": [{"type": "noop"}, {"type": "noop", "profile": "x"}]}, "tasks[1].profile"),
        ({"flow": {"tasks": [{"profile": "x"}]}}, "flow.tasks[0].profile"),
    ],
)
def test_an_unknown_one_is_refused_with_those_that_are_known(body: Any, field: str) -> None:
    with pytest.raises(errors.Invalid, match="there are: batch, plain") as refusal:
        filled(body)

    assert refusal.value.details == {"field": field, "allowed": ["batch", "plain"]}


@pytest.mark.parametrize("body", [b'{"profile"', b'["profile"]', b'{"profile": 5}', b'{"tasks": [5, "profile"]}'])
def test_what_is_no_submission_is_left_to_whoever_decodes_it(body: bytes) -> None:
    assert BATCH.fill(body).replace(b" ", b"") == body.replace(b" ", b"")


# --- the file


def problem(tmp_path: Path, text: str) -> str:
    path = tmp_path / "profiles.toml"
    path.write_text(text)
    with pytest.raises(ProfilesProblem) as refusal:
        profiles.read(path, required=False)
    assert str(path) in str(refusal.value)
    return str(refusal.value).replace(str(path), "FILE")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[batch]\npriority = 5\nretries = 3\n", "FILE, line 3: batch.retries: no such option"),
        ("[a]\npriority = 1\n\n[batch]\n# so\npriority = 99999\n", "FILE, line 6: batch.priority: expected"),
        (
            '[batch]\nbackoff = {kind = "square"}\n',
            "FILE, line 2: batch.backoff.kind: 'square' is none of exponential, fixed, linear",
        ),
        (
            '[batch]\n[batch.backoff]\nkind = "square"\n',
            "FILE, line 2: batch.backoff.kind: 'square' is none of exponential, fixed, linear",
        ),
        ("batch = 5\n", "FILE, line 1: batch: expected a table"),
        ("[batch\n", "FILE: "),
        ('[batch]\ntype = "noop"\n', "FILE, line 2: batch.type: no such option"),
    ],
)
def test_a_mistake_is_named_with_file_line_and_key(tmp_path: Path, text: str, said: str) -> None:
    assert said in problem(tmp_path, text)


def test_a_mistake_of_the_notation_has_its_line_too(tmp_path: Path) -> None:
    assert "line 2" in problem(tmp_path, "[batch]\npriority = \n")


def test_all_mistakes_are_named_together(tmp_path: Path) -> None:
    said = problem(tmp_path, "[a]\nx = 1\n[b]\ny = 2\n")

    assert said.splitlines()[0].startswith("FILE, line 2") and said.splitlines()[1].startswith("FILE, line 4")


def test_no_file_is_no_mistake_unless_one_was_named(tmp_path: Path) -> None:
    assert profiles.read(tmp_path / "none.toml", required=False).fill(b"{}") == b"{}"
    with pytest.raises(ProfilesProblem, match="PROFILES_FILE"):
        profiles.read(tmp_path / "none.toml", required=True)


def test_the_example_is_right() -> None:
    example = profiles.read(ROOT / "examples" / "profiles.toml", required=True)

    assert b'"priority"' in example.fill(b'{"type": "noop", "profile": "batch"}')
