"""Payloads from a file: what a cell says, and what is told of a row that cannot be one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from msgspec import Raw

from shared.cli.rows import payloads, value
from shared.protocol import BODY_BYTES_MAX


def read(folder: Path, content: str | bytes, name: str = "params.csv", **common: Any) -> list[bytes]:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    shared = {field: Raw(msgspec.json.encode(what)) for field, what in common.items()}
    return [bytes(body) for body in payloads(str(path), shared)]


def complaint(folder: Path, content: str | bytes, name: str = "params.csv") -> str:
    with pytest.raises(click.UsageError) as caught:
        read(folder, content, name)
    return caught.value.message.removeprefix(f"{folder}/")


@pytest.mark.parametrize(
    ("cell", "json"),
    [
        ("7", "7"),
        ("-0.50", "-0.50"),
        ("1E5", "1E5"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        (".5", "0.5"),
        ("-5.", "-5.0"),
        (" 7 ", " 7 "),
        ("true", "true"),
        ("False", "false"),
        ("TRUE", "true"),
        ("null", "null"),
        ('{"a":[1]}', '{"a":[1]}'),
        ('"7"', '"7"'),
        ("lab 7", '"lab 7"'),
        ("007", '"007"'),
        ("+49", '"+49"'),
        ("nan", '"nan"'),
        ("2027-01-15", '"2027-01-15"'),
        ("{a", '"{a"'),
        ("[" * 5000, f'"{"[" * 5000}"'),
    ],
)
def test_a_cell_is_json_as_it_stands_or_else_text(cell: str, json: str) -> None:
    assert bytes(value(cell)).decode() == json


def test_a_row_is_a_payload_over_what_all_have_in_common(tmp_path: Path) -> None:
    table = '\ufeffrate, name ,pair\r\n0.10,"a\r\nb","[1,2]"\r\n\r\n7,,\r\n'

    assert read(tmp_path, table, rate=1, seed=4) == [
        b'{"rate":0.10,"seed":4,"name":"a\\r\\nb","pair":[1,2]}',
        b'{"rate":7,"seed":4}',
    ]


def test_a_line_of_json_is_a_payload(tmp_path: Path) -> None:
    lines = '{"rate": 1.50, "at": {"x": 1}}\r\n\n{}\n'

    assert read(tmp_path, lines, "params.jsonl", seed=4) == [
        b'{"seed":4,"rate":1.50,"at":{"x": 1}}',
        b'{"seed":4}',
    ]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "params.csv is empty: its first line must name the columns"),
        ("a,b\n", "params.csv has no rows: there is nothing to submit"),
        ("a,b\n1,2\n3\n", "params.csv line 3: 1 cell(s), and the header names 2"),
        ('a,b\n"x\ny",1\n1,2,3\n', "params.csv line 4: 3 cell(s), and the header names 2"),
        ('a,b\n1,2\n3,"4\n5,6\n', "params.csv line 3: this is no CSV: unexpected end of data"),
        ("a,b,a\n1,2,3\n", "params.csv line 1: two columns are named 'a'"),
        (",a\n0,1\n", "params.csv line 1: column 1 has no name; with pandas write to_csv(…, index=False)"),
        ("a;b\n1;2\n", "params.csv line 1: there is one column, 'a;b'; separate columns by commas"),
        (b"a\n1\n\xe9\n", "params.csv line 3: this is not UTF-8; save the file as that"),
        (f"a\n1\n{'[' * 70}{']' * 70}\n", "params.csv line 3: its payload is nested deeper than 64 levels"),
        (
            f"a\n1\n{'x' * BODY_BYTES_MAX}\n",
            f"params.csv line 3: its payload has {BODY_BYTES_MAX + 8} bytes; the limit is {BODY_BYTES_MAX}",
        ),
    ],
)
def test_a_table_that_cannot_be_submitted_is_told_with_its_line(
    tmp_path: Path, content: str | bytes, told: str
) -> None:
    assert complaint(tmp_path, content) == told


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"a":1}\n\n[1]\n', "params.jsonl line 3: this is no JSON object: a line is a payload, as {…}"),
        ('{"a":1}\n{"a":,}\n', "params.jsonl line 2: this is not JSON: JSON is malformed"),
        ('{"a":1e999}\n', "params.jsonl line 1: its payload cannot be kept: Number out of range"),
    ],
)
def test_a_line_that_is_no_payload_is_told(tmp_path: Path, content: str, told: str) -> None:
    assert complaint(tmp_path, content, "params.jsonl").startswith(told)


def test_the_ending_says_what_is_in_a_file(tmp_path: Path) -> None:
    assert complaint(tmp_path, "a\n1\n", "params.txt").startswith("params.txt must end in .csv or .jsonl")
    with pytest.raises(click.UsageError, match="cannot be read: No such file"):
        payloads(str(tmp_path / "absent.csv"), {})
