"""Log lines of attempts: what a task printed or logged, the newest kept."""

from __future__ import annotations

from collections.abc import Sequence

from dispatcher import checks
from dispatcher.transaction import Transaction
from shared.protocol import LOG_CHARS_MAX, LOG_LINES_MAX, LogLine


def keep(tx: Transaction, task_id: int, attempt: int, lines: Sequence[LogLine]) -> None:
    """Append lines to an attempt's log; of one that grows too long the oldest go."""
    lines = lines[-LOG_LINES_MAX:]
    if not lines:
        return
    tx.add_log_line(
        task_id=task_id,
        attempt=attempt,
        at=[tx.now - min(max(0.0, line.age_seconds), checks.YEARS_10) for line in lines],
        level=[line.level for line in lines],
        message=[checks.text(line.message, LOG_CHARS_MAX) for line in lines],
    )
    tx.trim_log(task_id=task_id, attempt=attempt, n=LOG_LINES_MAX)
