"""Local days: what the ledger sums by."""

from datetime import datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from authz.calendar import calendar_bounds


class Day(NamedTuple):
    """A day of a time zone: the instants [start, end) in ms since the Unix epoch, mostly 23 to 25 hours."""

    name: str  # ISO 8601: 2026-10-25
    start: int
    end: int


class Days:
    """The days of an IANA zone. Raises ZoneInfoNotFoundError for an unknown one."""

    def __init__(self, timezone: str) -> None:
        self.timezone = timezone
        self._zone = ZoneInfo(timezone)
        self._last = Day("", 0, 0)

    def at(self, moment: int) -> Day:
        """The day that holds a moment. Moments of one day after another cost little."""
        if not self._last.start <= moment < self._last.end:
            _, start, end, _ = calendar_bounds(moment, "day", self.timezone)
            name = datetime.fromtimestamp(start / 1000, self._zone).date().isoformat()
            self._last = Day(name, start, end)
        return self._last
