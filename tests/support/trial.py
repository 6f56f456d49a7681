"""Runs a task function without a worker: its checkpoints are caught, and it can be stopped at any of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from shared.protocol import Checkpoint, Grant, GrantedCheckpoint
from tasks.board import Board, StopReason
from tasks.context import Interrupted, TaskContext


class Trial(TaskContext):
    """A context that remembers what the task saved; `stop_after` checkpoints it is asked to stop."""

    def __init__(self, state: Any = None, stop_after: int | None = None, interval_seconds: float = 0.0) -> None:
        self.board = Board()
        self.sent: list[Checkpoint] = []
        self.calls = 0
        self.stop_after = stop_after
        grant = Grant(7, 2, "lease", 100.0, "trial", checkpoint=None if state is None else granted(state))
        super().__init__(grant, 1, self.board, self.sent.append, interval_seconds)

    def checkpoint(self, state: Any, progress: float | None = None, output: Any = None) -> None:
        self.calls += 1
        if self.calls == self.stop_after:
            self.board.stop(1, StopReason.DRAIN)
        super().checkpoint(state, progress, output)

    def output(self) -> list[Any]:
        """The chunks given so far, sent or not."""
        unsent = self.unsent()
        bodies = [*self.sent, *([unsent] if unsent else [])]
        return [msgspec.json.decode(chunk) for body in bodies for chunk in body.output]


def granted(state: Any, seq: int = 4, elapsed_seconds: float = 10.0) -> GrantedCheckpoint:
    return GrantedCheckpoint(seq, msgspec.Raw(msgspec.json.encode(state)), 0.5, elapsed_seconds, 0)


def run_with_stops(function: Callable[..., Any], stop_after: int, **arguments: Any) -> tuple[Any, list[Any], int]:
    """Run a task to its end, stopping it after every `stop_after` checkpoints.

    Returns its result, all its output, and how many attempts that took.
    """
    state: Any = None
    output: list[Any] = []
    attempts = 0
    while True:
        attempts += 1
        trial = Trial(state, stop_after, interval_seconds=3600)
        try:
            result = function(trial, **arguments)
        except Interrupted:
            last = trial.unsent()
            assert last is not None
            state = msgspec.json.decode(last.state)
            output += [msgspec.json.decode(chunk) for chunk in last.output]
        else:
            return result, output + trial.output(), attempts
