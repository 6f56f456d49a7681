"""Task modules that cannot be used, declare nothing, or are broken and mended while children run."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.system.bench import ODD, Bench
from worker.children import UnusableTasks


def test_a_module_that_cannot_be_imported_is_named() -> None:
    bench = Bench(modules=("no.such.module",))

    with pytest.raises(UnusableTasks, match=r"no\.such\.module cannot be imported: ModuleNotFoundError"):
        bench.executor.start()
    bench.executor.close()


def test_a_module_that_declares_no_task_is_named_once(tmp_path: Path) -> None:
    bare = tmp_path / "bare.py"
    bare.write_text("def run(ctx): return 1\n")
    bench = Bench(slots=2, modules=(ODD, str(bare)))

    bench.start()
    bench.until(lambda: [child.is_ready for child in bench.executor._children] == [True, True])
    bench.executor.close()

    assert bench.log.getvalue().count(f"task module {bare} declares no task") == 1


def test_a_failure_says_that_the_file_has_been_edited_since(tmp_path: Path) -> None:
    module = tmp_path / "own_tasks.py"
    module.write_text(
        "from tasks import task\n\n\n@task('half')\ndef half(ctx, n: int):\n    return 1 / (n - n)\n"
    )
    bench = Bench(modules=(ODD, str(module)))
    bench.start()
    bench.until(lambda: all(child.is_ready for child in bench.executor._children))

    before = bench.result_of(bench.add("half", n=4))
    module.write_text(module.read_text().replace("(n - n)", "n"))
    os.utime(module, (time.time() + 10, time.time() + 10))  # whatever the file system's clock shows
    failed, misfit = bench.result_of(bench.add("half", n=4)), bench.result_of(bench.add("half", m=4))
    bench.executor.close()

    notes = [msgspec.json.decode(result.error).get("note") for result in (before, failed, misfit)]
    note = "own_tasks.py has changed since the worker imported it; restart the worker to run the new code"
    assert notes == [None, note, note]


def test_a_module_that_kills_its_process_is_named(tmp_path: Path) -> None:
    module = tmp_path / "deadly.py"
    module.write_text("import os, sys\nprint('so be it', file=sys.stderr)\nos._exit(1)\n")
    bench = Bench(modules=(str(module),))

    with pytest.raises(UnusableTasks, match="die while starting: so be it"):
        bench.executor.start()
    bench.executor.close()


class Breakable(Bench):
    """Children whose task module can be broken and mended while they run."""

    def __init__(self, folder: Path, slots: int) -> None:
        self.module = folder / "own_tasks.py"
        self.mend()
        super().__init__(slots, (ODD, str(self.module)))

    def mend(self) -> None:
        self.module.write_text("")

    def spoil(self, pid: int) -> None:
        """Break the module and kill a child, so that no other one can take its place."""
        self.module.write_text("def half_a_line(:")
        os.kill(pid, signal.SIGKILL)
        self.until(lambda: pid not in self.pids())


@pytest.fixture
def slots() -> int:
    """How many children; a test overrides this by parametrizing it."""
    return 1


@pytest.fixture
def breakable(tmp_path: Path, slots: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Breakable]:
    monkeypatch.setattr("worker.children._ABSENCE_SECONDS", 0.5)
    made = Breakable(tmp_path, slots)
    made.executor.start()
    made.until(lambda: all(child.is_ready for child in made.executor._children))
    yield made
    made.executor.close()


def test_tasks_go_back_when_no_child_can_be_started_any_more(breakable: Breakable) -> None:
    breakable.spoil(*breakable.pids())

    result = breakable.result_of(breakable.add("noop"))

    assert result.outcome == "released"
    assert breakable.executor.usable_strands() == 0
    deaths = [line for line in breakable.log.getvalue().splitlines() if "child_died" in line]
    assert len(deaths) == 1, "only the one that was killed; those that cannot start are told by their problem"


def test_tasks_are_run_again_when_the_module_is_mended(breakable: Breakable) -> None:
    breakable.spoil(*breakable.pids())
    breakable.until(lambda: not breakable.executor.usable_strands())

    breakable.mend()
    breakable.until(breakable.executor.usable_strands)

    assert breakable.result_of(breakable.add("noop")).outcome == "completed"


@pytest.mark.parametrize("slots", [2])
def test_nothing_waits_behind_a_long_task_while_the_other_child_is_missing(breakable: Breakable) -> None:
    long = breakable.add("odd.deaf", seconds=600)
    breakable.until_running(long)
    idle = next(child for child in breakable.executor._children if not child.main.sent)
    breakable.spoil(idle.pid)

    result = breakable.result_of(breakable.add("noop"))

    assert result.outcome == "released"
    assert breakable.executor.usable_strands() == 1
