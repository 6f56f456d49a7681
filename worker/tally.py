"""Counts what has ended, and says so: long tasks each in a line, short ones summed up once a second."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec

from shared.log import Log
from shared.protocol import Grant, Result
from worker.output import Line
from worker.pace import Pace

LONG_SECONDS: Final = 1.0  # a task that lasts longer gets lines of its own
_REPORT_SECONDS: Final = 1.0
_FAILURES_SHOWN: Final = 5  # short tasks that went wrong, each in a line, in that time
_LINES_SHOWN: Final = 20  # of what was printed at once, in the worker's own log


class Tally:
    """The executor's counts; they also teach the pace."""

    def __init__(self, log: Log, pace: Pace) -> None:
        self._log = log
        self._pace = pace
        self.count = 0
        self.outcomes: Counter[str] = Counter()  # all of them
        self._short: Counter[str] = Counter()
        self._failures_shown = 0  # in this second …
        self._counting_since = 0.0  # … which began then
        self._reported_at = 0.0

    def started(self, grant: Grant) -> None:
        """A task turns out to be a long one."""
        facts = {"task_id": grant.task_id, "attempt": grant.attempt, "type": grant.type}
        if grant.checkpoint:
            self._log("task_resumed", **facts, progress=grant.checkpoint.progress or 0.0)
        else:
            self._log("task_started", **facts)

    def ended(self, ended: Sequence[tuple[Grant, Result]]) -> None:
        """These attempts have ended."""
        self.count += len(ended)
        counts: dict[str, int] = {}
        seconds: dict[str, float] = {}
        for grant, result in ended:
            elapsed = result.elapsed_seconds
            if elapsed is not None:
                counts[grant.type] = counts.get(grant.type, 0) + 1
                seconds[grant.type] = seconds.get(grant.type, 0.0) + elapsed
            self.outcomes[result.outcome] += 1
            if elapsed is not None and (elapsed >= LONG_SECONDS or self._is_worth_a_line(result)):
                self._by_itself(result, elapsed)
            else:
                self._short[result.outcome] += 1
        for kind, count in counts.items():
            self._pace.observe(kind, count, seconds[kind])

    def printed(self, task_id: str, lines: Sequence[Line]) -> None:
        """Show what a task has printed; of very much the newest lines only."""
        for line in lines[-_LINES_SHOWN:]:
            self._log("task_line", task_id=task_id, text=line.text)
        if len(lines) > _LINES_SHOWN:
            self._log("task_lines", task_id=task_id, count=len(lines) - _LINES_SHOWN)

    def report(self, now: float) -> None:
        """Sum up the short tasks, unless that was done less than a second ago."""
        if self._short and now - self._reported_at >= _REPORT_SECONDS:
            outcomes = ", ".join(f"{count} {outcome}" for outcome, count in self._short.items())
            self._log("tasks_ended", count=self._short.total(), outcomes=outcomes)
            self._short.clear()
            self._reported_at = now
        if now - self._counting_since >= _REPORT_SECONDS:
            self._counting_since, self._failures_shown = now, 0

    def _is_worth_a_line(self, result: Result) -> bool:
        """Whoever writes a task wants to see why it fails; a thousand times the same helps nobody."""
        if result.outcome not in ("failed", "crashed") or self._failures_shown >= _FAILURES_SHOWN:
            return False
        self._failures_shown += 1
        return True

    def _by_itself(self, result: Result, elapsed: float) -> None:
        error = msgspec.json.decode(result.error)
        facts = {"task_id": result.task_id, "attempt": result.attempt, "outcome": result.outcome}
        if error:
            reason = f"{error['type']}: {error['message']}"
            self._log("task_went_wrong", **facts, seconds=elapsed, reason=reason)
        else:
            self._log("task_ended", **facts, seconds=elapsed)
