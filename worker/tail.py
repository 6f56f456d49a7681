"""The newest lines of an attempt's log that the dispatcher has not got yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from shared.protocol import LOG_LINES_MAX, AttemptLog, Grant, LogLine
from tasks.context import Level

# Besides the number of lines: what one message can carry, even if each character takes six bytes as JSON.
_CHARS_MAX: Final = 1024 * 1024

Said = tuple[float, Level, str]  # when on the monotonic clock, at which level, what


def aged(lines: Iterable[Said], now: float) -> list[LogLine]:
    """Lines as they travel: with their ages, since only the dispatcher's clock counts."""
    return [LogLine(text, level, round(now - at, 3)) for at, level, text in lines]


class LogSlice(Struct, eq=False):
    """Lines of a running attempt, on their way."""

    task_id: int
    attempt: int
    lease_id: str
    lines: list[Said]

    def message(self, now: float) -> AttemptLog:
        """As it travels."""
        lines = aged(self.lines, now)
        return AttemptLog(task_id=self.task_id, attempt=self.attempt, lease_id=self.lease_id, lines=lines)


class Tail:
    """What waits of one attempt; the oldest lines make room for new ones."""

    def __init__(self, grant: Grant) -> None:
        self._grant = grant
        self._lines: deque[Said] = deque()
        self.chars = 0

    def __len__(self) -> int:
        return len(self._lines)

    def extend(self, lines: Iterable[Said]) -> None:
        """Add lines, newer than all others."""
        for line in lines:
            self._lines.append(line)
            self.chars += len(line[2])
        while len(self._lines) > LOG_LINES_MAX or self.chars > _CHARS_MAX:
            self.chars -= len(self._lines.popleft()[2])

    def take(self) -> LogSlice:
        """Everything, to be sent."""
        grant, lines = self._grant, list(self._lines)
        self._lines.clear()
        self.chars = 0
        return LogSlice(grant.task_id, grant.attempt, grant.lease_id, lines)

    def put_back(self, lines: list[Said]) -> None:
        """What could not be sent waits again, before all others."""
        newer = list(self._lines)
        self._lines.clear()
        self.chars = 0
        self.extend([*lines, *newer])

    def aged(self, now: float) -> list[LogLine]:
        """What waits, as it travels; it goes on waiting."""
        return aged(self._lines, now)
