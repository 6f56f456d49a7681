"""An executor driven step by step, without a dispatcher, and what came out of it."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import psutil

from shared.log import Log
from shared.protocol import AttemptLog, Checkpoint, Grant, Result
from worker.cache_manager import Memo
from worker.channel import Options
from worker.executor import Executor
from worker.hand import Hand
from worker.pace import Pace
from worker.strand import Running

ODD = str(Path(__file__).parent.parent / "support" / "odd_tasks.py")
LIMIT_SECONDS = 20.0


class Bench:
    """Children, the hand they work from, and everything that was delivered."""

    def __init__(
        self,
        slots: int = 1,
        modules: tuple[str, ...] = (ODD,),
        threads: int = 1,
        programs: dict[str, str] | None = None,
    ) -> None:
        self.hand = Hand()
        self.log = io.StringIO()
        self.pace = Pace()
        options = msgspec.json.encode(Options(list(modules), 0.05, programs or {})).decode()
        log = Log("worker", self.log)
        self.executor = Executor(
            self.hand, self.pace, Memo(10), log, slots=slots, options=options, threads=threads
        )
        self.results: list[Result] = []
        self.checkpoints: list[Checkpoint] = []
        self.logs: list[AttemptLog] = []
        self._task_id = 0

    def start(self) -> None:
        """Start the children; with threads, tasks that wait go there."""
        self.executor.start()
        if self.executor.threads:
            types = self.executor.types.items()
            self.hand.waiting_types = frozenset(name for name, declared in types if declared.waits)

    def add(self, kind: str, timeout_seconds: float | None = None, **payload: Any) -> Grant:
        """A task to run."""
        self._task_id += 1
        body = msgspec.Raw(msgspec.json.encode(payload))
        return self.hold(Grant(self._task_id, 1, "lease", 100.0, kind, body, timeout_seconds))

    def hold(self, grant: Grant) -> Grant:
        """A grant of the test's own making."""
        self.hand.add([grant])
        return grant

    def until(self, condition: Callable[[], Any], seconds: float = LIMIT_SECONDS) -> Any:
        """Drive the executor until something is true."""
        limit = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < limit, f"not within {seconds:g} s; log:\n{self.log.getvalue()}"
            self.executor.run_once()
            self.deliver()
        return found

    def deliver(self) -> None:
        """Take what a heartbeat would carry."""
        while parcel := self.hand.outgoing.pack(logs=True):
            self.results += parcel.results
            self.checkpoints += parcel.checkpoints
            self.logs += [lines.message(time.monotonic()) for lines in parcel.logs]
            self.hand.outgoing.delivered(parcel)

    def result_of(self, grant: Grant) -> Result:
        """The result of a task, once there is one."""
        found: list[Result] = self.until(lambda: [r for r in self.results if r.task_id == grant.task_id])
        return found[0]

    def state_of(self, result: Result) -> Any:
        """The last state that was saved before this result, which brings it unless it was due and went before."""
        if result.checkpoint is not None:
            return msgspec.json.decode(result.checkpoint.state)
        return msgspec.json.decode([c.state for c in self.checkpoints if c.task_id == result.task_id][-1])

    def lines_of(self, grant: Grant) -> list[tuple[str, str]]:
        """Level and text of all that was delivered of a task's log, in the order of delivery."""
        sent = [line for log in self.logs if log.task_id == grant.task_id for line in log.lines]
        last = [line for result in self.results if result.task_id == grant.task_id for line in result.log]
        return [(line.level, line.message) for line in (*sent, *last)]

    def until_running(self, *grants: Grant) -> Running:
        """What the last of these shows, when all run."""
        ids = [grant.task_id for grant in grants]

        def found() -> list[Running]:
            shown = {r.grant.task_id: r for r in self.executor.running()}
            return [shown[task_id] for task_id in ids] if shown.keys() >= set(ids) else []

        running: list[Running] = self.until(found)
        return running[-1]

    def pids(self) -> list[int]:
        """The children's process numbers."""
        return [child.pid for child in self.executor._children]


def error_of(result: Result) -> dict[str, Any]:
    """The error of a result."""
    error: dict[str, Any] = msgspec.json.decode(result.error)
    return error


def lives(pid: int) -> bool:
    """Whether a process runs."""
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
