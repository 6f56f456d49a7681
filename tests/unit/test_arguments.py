"""From a payload to a function's arguments, and from a file to a task type."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from msgspec import Meta, Raw

from tasks import REGISTRY, DiscoveryError, TaskContext, discover, task
from tasks.arguments import Arguments, BadPayload


def example(
    ctx: TaskContext,
    limit: Annotated[int, Meta(ge=0)],
    *,
    names: list[str] = [],  # noqa: B006
    scale: float = 1.5,
    **more: Any,
) -> None:
    """A task with every kind of argument."""


def strict(ctx: TaskContext, limit: int, mode: str = "fast") -> None:
    """A task without surplus arguments."""


@pytest.fixture
def registry() -> Iterator[dict[str, Any]]:
    """The registry, as it was afterwards."""
    before = dict(discover())  # a module is imported once, and declares its tasks then
    yield REGISTRY
    REGISTRY.clear()
    REGISTRY.update(before)


def test_a_payload_becomes_keyword_arguments_with_defaults() -> None:
    assert Arguments(strict).decode(Raw(b'{"limit": 3}')) == {"limit": 3, "mode": "fast"}


def test_surplus_arguments_arrive_where_they_are_taken() -> None:
    given = Arguments(example).decode(Raw(b'{"limit": 3, "color": "red"}'))

    assert given == {"limit": 3, "names": [], "scale": 1.5, "color": "red"}


def test_a_default_list_is_a_new_one_for_each_call() -> None:
    arguments = Arguments(example)

    arguments.decode(Raw(b'{"limit": 3}'))["names"].append("x")

    assert arguments.decode(Raw(b'{"limit": 3}'))["names"] == []


@pytest.mark.parametrize(
    ("payload", "complaint"),
    [
        ("{}", "the payload lacks the argument `limit`"),
        ('{"limit": "3"}', "argument `limit`: expected `int`, got `str`"),
        ('{"limit": 3, "limt": 4}', "the payload has an unknown argument `limt`"),
        ('{"limit": 3, "mode": 4}', "argument `mode`: expected `str`, got `int`"),
        ("[]", "the payload cannot be used: Expected `object`, got `array`"),
    ],
)
def test_what_does_not_fit_is_named_with_what_would(payload: str, complaint: str) -> None:
    with pytest.raises(BadPayload) as caught:
        Arguments(strict).decode(Raw(payload.encode()))

    assert str(caught.value) == f"{complaint}; the task takes (limit, mode='fast')"


def test_a_range_in_an_annotation_is_checked() -> None:
    with pytest.raises(BadPayload, match="`limit`: expected `int` >= 0"):
        Arguments(example).decode(Raw(b'{"limit": -1}'))


def test_a_task_without_arguments_takes_an_empty_payload_only() -> None:
    arguments = Arguments(lambda ctx: None)

    assert arguments.decode(Raw(b"{}")) == arguments.decode(Raw(b" { } ")) == {}
    with pytest.raises(BadPayload, match="unknown argument `x`"):
        arguments.decode(Raw(b'{"x": 1}'))


def test_a_function_that_cannot_be_called_by_name_is_no_task() -> None:
    with pytest.raises(TypeError, match="'values' of positional cannot be given by name"):
        Arguments(positional)
    with pytest.raises(TypeError, match="must take the context"):
        Arguments(lambda: None)


def positional(ctx: TaskContext, *values: int) -> None:
    """Not a task."""


def test_a_declaration_is_remembered_and_the_function_stays_as_it_is(registry: dict[str, Any]) -> None:
    declared = task("unit.strict", timeout_seconds=5, max_retries=1, pure=True)(strict)

    kind = registry["unit.strict"]
    assert declared is strict
    assert (kind.function, kind.timeout_seconds, kind.max_retries, kind.pure) == (strict, 5, 1, True)


def test_two_functions_cannot_share_a_name(registry: dict[str, Any]) -> None:
    task("unit.strict")(strict)

    with pytest.raises(ValueError, match=r"'unit.strict' is declared in .*test_arguments already"):
        task("unit.strict")(example)


def test_a_name_that_the_protocol_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="'Großer Wurf'"):
        task("Großer Wurf")


def test_a_file_outside_can_declare_tasks(registry: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "unit_outside.py"
    path.write_text("from tasks import task\n@task('unit.outside')\ndef run(ctx): return 1\n")

    found = discover([str(path)])

    assert found["unit.outside"].function(TaskContext()) == 1


def test_a_module_that_declares_no_task_is_told(registry: dict[str, Any], tmp_path: Path) -> None:
    declaring = tmp_path / "unit_declaring.py"
    declaring.write_text("from tasks import task\n@task('unit.declaring')\ndef run(ctx): return 1\n")
    importing = tmp_path / "unit_importing.py"
    importing.write_text("import unit_declaring\n")
    bare = tmp_path / "unit_bare.py"
    bare.write_text("def run(ctx): return 1\n")
    told: list[str] = []

    discover([str(importing), str(declaring), str(bare)], on_empty=told.append)

    assert told == [str(bare)]


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("no_such_module", "task module no_such_module cannot be imported: ModuleNotFoundError"),
        ("/no/such/file.py", "task module /no/such/file.py cannot be imported: FileNotFoundError"),
    ],
)
def test_a_module_that_cannot_be_imported_is_named(module: str, reason: str) -> None:
    with pytest.raises(DiscoveryError, match=reason):
        discover([module])


def test_a_module_that_fails_while_it_is_imported_is_named(tmp_path: Path) -> None:
    path = tmp_path / "unit_failing.py"
    path.write_text("import os\n1 / 0\n")

    with pytest.raises(
        DiscoveryError, match=r"unit_failing\.py cannot be imported: ZeroDivisionError: .* \(line 2\)"
    ):
        discover([str(path)])


@pytest.mark.parametrize(
    ("declaration", "reason"),
    [
        ("@task\ndef bare(ctx): ...", r'give it a name: @task\("bare"\)'),
        ('@task("unit.noctx")\ndef run(n: int): ...', "run must take the context as its first parameter"),
        ('@task("unit.async")\nasync def run(ctx): ...', "run is async or yields"),
        ('@task("unit.yield")\ndef run(ctx): yield', "run is async or yields"),
    ],
)
def test_a_slip_in_a_declaration_is_named(tmp_path: Path, declaration: str, reason: str) -> None:
    path = tmp_path / f"unit_slip_{len(declaration)}.py"  # a module is imported once
    path.write_text(f"from tasks import task\n{declaration}\n")

    with pytest.raises(DiscoveryError, match=reason):
        discover([str(path)])


@pytest.mark.parametrize("name", ["json", "mailbox", "itertools"])  # imported before, only to be had, built in
def test_a_file_named_like_another_module_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.py"
    path.write_text("")

    with pytest.raises(DiscoveryError, match=f"another module is called {name}"):
        discover([str(path)])


@pytest.mark.parametrize(
    "import_of", ["import unit_beside", "from unit_beside import who", "import unit_beside as u"]
)
def test_what_stands_beside_two_files_under_one_name_is_refused(
    registry: dict[str, Any], tmp_path: Path, import_of: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "unit_beside", raising=False)
    files = [tmp_path / folder / f"unit_{folder}_{len(import_of)}.py" for folder in ("first", "second")]
    for file in files:
        file.parent.mkdir()
        file.write_text(f"{import_of}\n")
        (file.parent / "unit_beside.py").write_text(f"who = {file.stem!r}\n")

    discover([str(files[0])])
    with pytest.raises(DiscoveryError, match=r"another module is called unit_beside; give unit_beside\.py beside"):
        discover([str(files[1])])


def test_a_package_beside_a_file_that_is_hidden_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    path = tmp_path / "unit_uses_analysis.py"
    path.write_text("def later():\n    from analysis.mine import numbers\n")
    (tmp_path / "analysis").mkdir()
    (tmp_path / "analysis/__init__.py").touch()

    with pytest.raises(
        DiscoveryError, match=r"another module is called analysis; give analysis/__init__\.py beside"
    ):
        discover([str(path)])
