"""The tree: imports go one way, SQL stays in its folder, words and sizes are as agreed."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from shared.settings import ROOT

PACKAGES = {"shared", "dispatcher", "worker", "tasks", "analysis", "examples", "tests"}
MAY_IMPORT = {
    "shared": {"shared"},
    "tasks": {"shared", "tasks"},
    "worker": {"shared", "tasks", "worker"},
    "dispatcher": {"shared", "dispatcher"},
    "analysis": {"shared", "analysis"},  # the others it uses as processes
    "examples": {"tasks"},
}
# Of analysis: the scale model is the real ledger in virtual time, and a limit is the ledger without a server.
RUN_THE_LEDGER = {"simulation.py", "virtual.py", "ledger_alone.py"}
TASK_FILES = {"tasks"}  # what TASK_MODULES may name: loaded by child processes, wherever it lies
FILES = sorted(path for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py"))
SQL = re.compile(
    r"\b(SELECT\s.+\sFROM|INSERT\s+(OR\s+\w+\s+)?INTO|UPDATE\s+\w+\s+SET|DELETE\s+FROM|CREATE\s+(TABLE|INDEX))\b",
    re.IGNORECASE | re.DOTALL,
)
LINES_MAX = 400


def every_file() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))


@every_file()
def test_imports_go_one_way(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    is_loaded_by_children = package == "analysis" and path.name.endswith("_task.py")
    allowed = TASK_FILES if is_loaded_by_children else MAY_IMPORT[package]
    if package == "analysis" and path.name in RUN_THE_LEDGER:
        allowed = allowed | {"dispatcher"}
    assert imported(path) & PACKAGES <= allowed


def test_add_task_is_a_client() -> None:
    assert imported(ROOT / "add_task.py") & PACKAGES == {"shared"}


@every_file()
def test_sql_is_in_its_folder(path: Path) -> None:
    texts = [node.value for node in ast.walk(parsed(path)) if isinstance(node, ast.Constant)]
    assert [text for text in texts if isinstance(text, str) and SQL.search(text)] == []


@every_file()
def test_a_task_is_a_task(path: Path) -> None:
    assert [name for name in identifiers(path) if re.search(r"(?i)(^|_)jobs?(_|$)", name)] == []


@every_file()
def test_no_file_is_too_long_to_read(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LINES_MAX


@every_file()
def test_a_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(parsed(path))


def test_the_scan_sees_what_it_looks_for(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text('from worker.hand import Hand\nimport dispatcher.ledger\njob_id = "DELETE FROM tasks"\n')

    assert imported(wrong) == {"worker", "dispatcher"}
    assert "job_id" in identifiers(wrong)
    assert SQL.search(wrong.read_text())


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imported(path: Path) -> set[str]:
    """The top-level packages that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0] if not node.level else path.parent.name)
    return found


def identifiers(path: Path) -> set[str]:
    """Every name that a file defines or uses."""
    found: set[str] = set()
    for node in ast.walk(parsed(path)):
        for part in ("id", "attr", "name", "arg"):
            name = getattr(node, part, None)
            if isinstance(name, str):
                found.add(name)
    return found
