"""Notices when a calendar budget is nearly used up, and when it is: once for each window."""

from collections.abc import Iterator, Sequence

from msgspec import Struct

from authz.quota import TOKEN_UNITS
from authz.store.protocols import Hold, Kind, Level

PERCENTS = (80, 100)
MOST_KNOWN = 20_000  # counters; the oldest is forgotten first, and would be told of again


class Reached(Struct, frozen=True):
    """A budget's counter has come to a threshold: settled, not merely held."""

    counter: str
    percent: int
    quota: int
    used: int  # in the unit, settled; at most the quota
    unit: str
    shadow: bool


class Thresholds:
    """Remembers what was told. Bounded; after a restart it tells of a window once more."""

    def __init__(self, most: int = MOST_KNOWN) -> None:
        self._most = most
        self._told: dict[str, tuple[int, int]] = {}  # counter -> (start of its window, percent)

    def look(self, now: int, holds: Sequence[Hold], levels: Sequence[Level]) -> Iterator[Reached]:
        """What a settlement has newly reached; `levels` as the counters stand after it."""
        for hold, level in zip(holds, levels, strict=True):
            if hold.kind is not Kind.CALENDAR or hold.unit not in TOKEN_UNITS or hold.quota <= 0:
                continue
            used = hold.quota - level.remaining - level.held
            if used * 100 < PERCENTS[0] * hold.quota:
                continue
            start = hold.bounds[1] if now < hold.bounds[2] else hold.bounds[2]
            known, before = self._told.get(hold.key, (start, 0))
            if known != start:
                before = 0
            for percent in PERCENTS:
                if before < percent and used * 100 >= percent * hold.quota:
                    self._remember(hold.key, start, percent)
                    yield Reached(hold.key, percent, hold.quota, used, hold.unit.value, hold.shadow)

    def _remember(self, counter: str, start: int, percent: int) -> None:
        if self._told.pop(counter, None) is None and len(self._told) >= self._most:
            del self._told[next(iter(self._told))]
        self._told[counter] = (start, percent)
