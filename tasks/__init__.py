"""What can be run: the @task decorator, the registry, and the search for task modules.

A new task is one new file in this folder, or a module or path named in TASK_MODULES. Only children
import tasks; worker and dispatcher never do. Read context.py for what a task sees.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import pkgutil
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from traceback import extract_tb
from typing import Any, Final, TypeVar

from tasks.arguments import Arguments
from tasks.context import Again, Fail, Interrupted, Retry, TaskContext

__all__ = ["Again", "Fail", "Interrupted", "Retry", "TaskContext", "TaskType", "discover", "task"]

# Parts of this package that declare no task by themselves. The sieve loads numpy, which an idle child does
# without; commands are declared where a worker allows programs.
_NOT_TASKS: Final = frozenset(
    {"arguments", "board", "body", "checkpoint_folder", "command_task", "context", "program", "sieve"}
)

_CHECKOUT: Final = Path(__file__).resolve().parent.parent

F = TypeVar("F", bound=Callable[..., Any])


class DiscoveryError(Exception):
    """A task module cannot be used; the message names it and says why."""


class TaskType:
    """One kind of task: its function and what its author declared about it."""

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        timeout_seconds: float | None,
        max_retries: int | None,
        pure: bool,
        waits: bool,
    ) -> None:
        self.name = name
        self.function = function
        self.timeout_seconds = timeout_seconds
        self.max_retries = max_retries
        self.pure = pure
        self.waits = waits
        self.arguments = Arguments(function)


REGISTRY: Final[dict[str, TaskType]] = {}


def task(
    name: str,
    *,
    timeout_seconds: float | None = None,
    max_retries: int | None = None,
    pure: bool = False,
    waits: bool = False,
) -> Callable[[F], F]:
    """Declare a function as the task type `name`; the function itself stays as it is.

    `timeout_seconds` and `max_retries` count where the submitter said nothing. `pure`: the same payload
    always gives the same result, so a worker may answer from memory. `waits`: it spends its time waiting
    (for a network, a disk, a clock), so a worker with WORKER_THREADS may run several in one process.
    """
    if not isinstance(name, str):  # @task without brackets: it is the function
        raise TypeError(f'give it a name: @task("{getattr(name, "__name__", "name")}")')
    if not re.fullmatch(r"[a-z0-9_.-]{1,100}", name):
        raise ValueError(f"task name {name!r}: expected 1 to 100 of a-z 0-9 _ . -")

    def declare(function: F) -> F:
        known = REGISTRY.get(name)
        if known and (known.function.__module__, known.function.__qualname__) != (
            function.__module__,
            function.__qualname__,
        ):
            raise ValueError(f"task {name!r} is declared in {known.function.__module__} already")
        REGISTRY[name] = TaskType(name, function, timeout_seconds, max_retries, pure, waits)
        return function

    return declare


def discover(
    modules: Iterable[str] = (),
    programs: Mapping[str, str] | None = None,
    on_empty: Callable[[str], None] | None = None,
) -> dict[str, TaskType]:
    """Import every task module of this folder and `modules` (names, or paths of .py files).

    `programs`, if any, are what commands may run: names as listed, and where each is. `on_empty` is told of
    each module that declares no task, nor imports one that does. Returns the registry; raises DiscoveryError
    naming the module that could not be imported and why.
    """
    ours = [found.name for found in pkgutil.iter_modules(__path__) if found.name not in _NOT_TASKS]
    for name in [*(f"{__name__}.{name}" for name in ours), *modules]:
        before = len(REGISTRY)
        try:
            _import(name)
        except (Exception, SystemExit) as error:  # a module may raise anything while it is imported
            reason = f"{type(error).__name__}: {error}{_where(error, name)}"
            raise DiscoveryError(f"task module {name} cannot be imported: {reason}") from error
        if on_empty and len(REGISTRY) == before and not _declares(name):
            on_empty(name)
    if programs:
        from tasks import command_task  # loaded here: most workers allow no programs

        command_task.allow(programs)
    return REGISTRY


def _declares(name: str) -> bool:
    """Whether a task is declared in this module itself, which another one may have imported before."""
    return any(kind.function.__module__ == _module(name) for kind in REGISTRY.values())


def _module(name: str) -> str:
    return Path(name).stem if name.endswith(".py") else name


def _where(error: BaseException, name: str) -> str:
    """The line of the module that raised; empty if that is not known, or said by the error itself."""
    if isinstance(error, SyntaxError):
        return ""
    own = _module(name).rpartition(".")[2]
    lines = [frame.lineno for frame in extract_tb(error.__traceback__) if Path(frame.filename).stem == own]
    return f" (line {lines[-1]})" if lines else ""


def _import(name: str) -> None:
    if not name.endswith(".py"):
        importlib.import_module(name)
        return
    path = next((path for path in (Path(name).resolve(), _CHECKOUT / name) if path.is_file()), None)
    if path is None:
        raise FileNotFoundError(f"no file {Path(name).resolve()}")
    known = sys.modules.get(path.stem)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return
    if known is not None or _is_taken(path):
        raise ImportError(f"another module is called {path.stem}; give the file another name")
    sys.path.append(str(path.parent))  # for what it imports from beside it
    for beside in _imported_from_beside(path):
        if _is_taken(beside):
            place = beside.relative_to(path.parent)
            name = place.parts[0].removesuffix(".py")
            raise ImportError(f"another module is called {name}; give {place} beside it another name")
    importlib.import_module(path.stem)


def _is_taken(path: Path) -> bool:
    """Whether something else would be imported by this file's name: of the standard library, or a package."""
    name = path.parent.name if path.name == "__init__.py" else path.stem
    found = importlib.util.find_spec(name)
    return found is not None and found.origin is not None and Path(found.origin).resolve() != path.resolve()


def _imported_from_beside(path: Path) -> Iterator[Path]:
    """The files and packages in its folder that a task file names in its imports."""
    for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        for name in names:
            top = path.parent / name.partition(".")[0]
            for file in (top / "__init__.py", top.with_suffix(".py")):
                if file.is_file():
                    yield file
                    break
