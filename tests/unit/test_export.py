"""The table of tasks: which columns it has, what stands in a cell, and a file that is whole or not there."""

from __future__ import annotations

import csv
import io
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from shared import exits
from shared.cli import export
from shared.cli.export import whole_file, write_lines, write_table


def task(task_id: int, payload: str = "{}", result: str = "null", **others: Any) -> Raw:
    """A task as the dispatcher shows it."""
    known = {
        "status": "completed", "error": None, "attempt": 1, "worker": "w1", "started_at": "s",
        "finished_at": "f", "elapsed_seconds": 0.5, "tags": [],
    }  # fmt: skip
    bodies = {"payload": Raw(payload.encode()), "result": Raw(result.encode())}
    return Raw(msgspec.json.encode({"task_id": task_id, **known, **bodies, **others}))


def table(*pages: list[Raw]) -> list[dict[str, str]]:
    """The rows, by the header's names."""
    out = io.StringIO()
    count = write_table(pages, out)
    rows = list(csv.DictReader(io.StringIO(out.getvalue())))
    assert len(rows) == count
    return rows


def test_the_columns_are_those_of_all_tasks_and_the_oldest_is_first() -> None:
    rows = table(
        [task(3, '{"rate": 1.50, "on": true}', '{"fit": 1e-3}'), task(2, '{"name": "a, b"}')],
        [task(1, '{"rate": null}', status="failed", error={"type": "ValueError", "message": "row 17 is empty"})],
    )

    assert ",".join(rows[0]) == (
        "task_id,status,rate,on,name,fit,error,attempt,worker,started_at,finished_at,elapsed_seconds"
    )
    assert [",".join(row.values()) for row in rows] == [
        "1,failed,,,,,ValueError: row 17 is empty,1,w1,s,f,0.5",
        "2,completed,,,a, b,,,1,w1,s,f,0.5",
        "3,completed,1.50,true,,1e-3,,1,w1,s,f,0.5",
    ]


def test_what_is_nested_is_json_on_one_line() -> None:
    (row,) = table([task(1, '{"a": [1,\r\n2], "b": {"c": null}}', '{"text": "two\\nlines"}')])

    assert (row["a"], row["b"], row["text"]) == ("[1,  2]", '{"c": null}', "two\nlines")


def test_a_result_that_is_no_object_has_a_column() -> None:
    rows = table([task(4, result="[1]"), task(3, result='"text"'), task(2, result="7"), task(1)])

    assert [row["result"] for row in rows] == ["", "7", "text", "[1]"]
    assert "result" not in table([task(1)])[0]


def test_a_name_that_is_taken_says_where_it_is_from() -> None:
    payload = '{"limit": 21, "worker": 22, "result.limit": 23}'

    (row,) = table([task(1, payload, '{"limit": 31, "elapsed_seconds": 32, "status": 33}')])

    assert {name: value for name, value in row.items() if value in ("21", "22", "23", "31", "32", "33")} == {
        "limit": "21",
        "payload.worker": "22",
        "result.limit": "23",
        "result.result.limit": "31",
        "result.elapsed_seconds": "32",
        "result.status": "33",
    }


def test_letters_that_are_none_do_not_end_the_table() -> None:
    odd = bytes(task(1, result='{"text": "?", "more": ["?"]}')).replace(b"?", b"\xff")

    (row,) = table([Raw(odd)])

    assert (row["text"], row["more"]) == ('"\ufffd"', '["\ufffd"]')


def test_lines_are_as_the_dispatcher_shows_them() -> None:
    out = io.StringIO()
    tasks = [task(2, '{"rate": 1.50,\n "at": 2}'), task(1)]

    assert write_lines([tasks], out) == 2
    assert out.getvalue() == "".join(bytes(one).decode().replace("\n", " ") + "\n" for one in reversed(tasks))


def test_a_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text("before")
    path.chmod(0o600)
    (tmp_path / "link.csv").symlink_to(path)

    with pytest.raises(KeyboardInterrupt), whole_file(path) as out:
        out.write("half")
        raise KeyboardInterrupt
    interrupted = path.read_text()
    with whole_file(tmp_path / "link.csv") as out:
        out.write("whole")

    assert (interrupted, path.read_text(), path.stat().st_mode & 0o777) == ("before", "whole", 0o600)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["link.csv", "results.csv"]


def test_what_is_no_file_is_written_to_and_stays_what_it_is() -> None:
    with whole_file(Path("/dev/null")) as out:
        out.write("nothing")

    assert Path("/dev/null").is_char_device()


def test_a_full_folder_for_temporary_files_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(export.tempfile, "TemporaryFile", partial(Path("/dev/full").open, "w+b", buffering=0))

    with pytest.raises(SystemExit) as caught:
        table([task(1)])

    assert caught.value.code == exits.UNWRITTEN
    told = capsys.readouterr().err
    assert told == (
        f"the folder for temporary files, {tempfile.gettempdir()}, cannot be written: No space left on device; "
        "name another one with TMPDIR\n"
    )
