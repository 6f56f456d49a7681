"""How the command line draws flows and writes times and texts."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from shared.cli import drawing, screen, top


def node(key: str, *parents: str, status: str = "pending") -> dict[str, Any]:
    return {"key": key, "task_id": 1, "status": status, "depends_on": list(parents)}


def drawn(*tasks: dict[str, Any], whole: bool = False) -> list[str]:
    return [
        f"{'  ' * line.depth}{line.key}" + (f" (also {', '.join(line.others)})" if line.others else "")
        for line in drawing.lines(tasks, whole)
    ]


def test_children_stand_below_their_parents() -> None:
    assert drawn(node("c", "b"), node("a"), node("b", "a"), node("x")) == ["a", "  b", "    c", "x"]


def test_a_task_with_several_parents_stands_once_below_the_last_of_them() -> None:
    diamond = (node("top"), node("left", "top"), node("right", "top"), node("end", "right", "left"))

    assert drawn(*diamond) == ["top", "  left", "  right", "    end (also left)"]


def test_a_wide_fan_out_is_one_line_with_its_counts() -> None:
    parts = [node(f"parts[{i}]", "split", status="completed" if i < 7 else "failed") for i in range(10)]
    flow = (node("split"), *parts, node("sum", "parts"))

    lines = drawing.lines(flow)

    assert drawn(*flow) == ["split", "  parts[0..9]", "    sum"]
    assert lines[1].status == "7 completed, 3 failed"
    assert len(drawn(*flow, whole=True)) == 12


def test_what_went_wrong_stands_beside_it() -> None:
    failed = {"status": "failed", "error": {"type": "ValueError", "message": "row 17"}}
    parts = [{**node(f"parts[{i}]"), "task_id": i, **(failed if i > 7 else {})} for i in range(10)]
    cancelled = {
        **node("sum", "parts", status="cancelled"),
        "error": {"type": "ParentFailed", "message": "8 failed"},
    }

    many, child = drawing.lines((*parts, cancelled))
    one = drawing.lines((*parts, cancelled), whole=True)[9]

    assert (many.trouble, child.trouble) == ("parts[8] (task 8): ValueError: row 17", "8 failed")
    assert one.trouble == "ValueError: row 17"


def test_a_long_chain_is_drawn_without_walking_off_the_page() -> None:
    chain = [node("0"), *(node(str(i), str(i - 1)) for i in range(1, 5000))]

    lines = drawing.lines(chain)

    assert [line.key for line in lines] == [str(i) for i in range(5000)]
    assert max(line.depth for line in lines) == drawing.INDENT_MAX
    assert lines[4999].others == ["4998"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (0, "0.0s"), (9.94, "9.9s"), (9.96, "10s"), (59.6, "1m00s"), (185, "3m05s"), (7800, "2h10m"),
     (86399.9, "1d0h"), (356400, "4d3h")],
)  # fmt: skip
def test_durations_are_short(seconds: float | None, text: str) -> None:
    assert screen.span(seconds) == text


def test_times_are_told_from_now() -> None:
    now = datetime.now(UTC)

    assert screen.ago((now - timedelta(hours=3, minutes=5)).isoformat()) == "3h05m ago"
    assert screen.ago((now + timedelta(seconds=90)).isoformat()) in ("in 1m30s", "in 1m29s")
    assert screen.age(None) == "–"


def test_a_share_is_100_percent_only_when_all_is_done() -> None:
    assert [screen.percent(share) for share in (None, 0.0, 0.999, 1.0)] == ["–", "0%", "99%", "100%"]


@pytest.mark.parametrize(
    ("useful", "saved", "share"),
    [(0.5, 0.0, " (50.0% of all work)"), (0.5, 49.5, " (1.0% of all work)"), (49.5, 20.0, " (1.0% of all work)")],
)
def test_what_checkpoints_hold_is_work_before_its_task_has_completed(
    useful: float, saved: float, share: str
) -> None:
    work = {"useful_seconds": useful, "saved_seconds": saved, "lost_seconds": 0.5}

    assert top._share(work) == share


def test_a_narrow_terminal_gets_fewer_columns_rather_than_half_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    def printed(columns: int, headers: tuple[str, ...] = ("task", "status", "worker", "note")) -> list[str]:
        out = Console(width=columns, file=io.StringIO())
        monkeypatch.setattr(screen, "console", lambda: out)
        with out.capture() as captured:
            out.print(screen.table(headers, rows, text=("note",)))
        return [line.rstrip() for line in captured.get().splitlines()]

    rows = [(1234567, "in-progress", "worker-1", "it goes on and on")]

    assert printed(80)[1] == "1234567  in-progress  worker-1  it goes on and on"
    assert printed(40)[1] == "1234567  in-progress  worker-1  it goes…"
    assert printed(35) == ["   task  status       worker", "1234567  in-progress  worker-1", "(no room for note)"]
    assert printed(22, ("task", "status", "", "note"))[-1] == "(no room for note)"  # a bar has no name
    assert printed(5)[0] == " task"
