"""When a schedule is due: pure functions over its timetable, in Unix seconds.

A slot is a moment at which it should fire. Cron expressions are read in the schedule's time zone as
Debian's cron reads them (that is what cronsim does): a fixed time that the change to summer time
skips fires right after the gap, one that comes twice in autumn fires the first time only.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from datetime import datetime
from itertools import islice, takewhile
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from shared import errors

LATEST = 253370764800.0  # the year 9999: a datetime ends there


class Timetable(NamedTuple):
    """Either `cron`, or every so many seconds after `anchor`.

    What asks for slots raises Invalid if this machine does not know the time zone.
    """

    cron: str | None
    every_seconds: float | None
    timezone: str
    anchor: float

    def after(self, moment: float) -> Iterator[float]:
        """The slots later than `moment`, ascending; ends if there is none for fifty years."""
        if self.every_seconds is not None:
            return self._steps(moment)
        return self._crons(moment)

    def _steps(self, moment: float) -> Iterator[float]:
        every = self.every_seconds or 1.0
        step = max(1, math.floor((moment - self.anchor) / every))
        while (slot := self.anchor + step * every) < LATEST:
            if slot > moment:
                yield slot
            step += 1

    def _crons(self, moment: float) -> Iterator[float]:
        # Cut, never rounded: a moment just before a slot must not become the slot.
        start = datetime.fromtimestamp(math.floor(moment), zone(self.timezone))
        last = moment
        for slot in (found.timestamp() for found in CronSim(self.cron or "", start)):
            # In the hour that comes twice cronsim looks from its first coming: skip what lies behind.
            if slot > last:
                last = slot
                yield slot

    def next(self, moment: float) -> float | None:
        """The first slot later than `moment`."""
        return next(self.after(moment), None)

    def upcoming(self, moment: float, count: int) -> list[float]:
        """The next slots."""
        return list(islice(self.after(moment), count))

    def due(self, since: float, now: float, limit: int) -> tuple[list[float], bool]:
        """The newest slots in (since, now], ascending, at most `limit`; and whether older ones were left out.

        Only forwards are slots sure (a change of the clock looks otherwise from behind), so this goes
        back further and further, until it begins before enough of them.
        """
        reach = 60.0 * (limit + 1)
        while True:
            start = max(since, now - reach)
            found = deque(takewhile(lambda slot: slot <= now, self.after(start)), maxlen=limit + 1)
            if len(found) > limit or start == since:
                return list(found)[-limit:], len(found) > limit
            reach *= 4


def zone(name: str) -> ZoneInfo:
    """The time zone of that name. Invalid if this machine does not know it, or does not any more."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise errors.Invalid(
            f"timezone: there is no {name!r}; use a name such as Europe/Berlin", field="timezone"
        ) from None


def problem(cron: str, moment: float, timezone: str) -> str | None:
    """What is wrong with a cron expression, if anything is."""
    try:
        if len(cron.split()) != 5:
            return "expected five fields: minute, hour, day of month, month, day of week"
        if Timetable(cron, None, timezone, moment).next(moment) is None:
            return "no date ever matches it"
    except (CronSimError, OverflowError) as error:
        return str(error) or "not a cron expression"
    return None
