"""Refusals on their way to the log: identical ones within a minute are one row."""

from collections import deque
from itertools import count

from msgspec import Struct
from msgspec.structs import replace

from authz.store.crowd import Crowd
from authz.store.records import Denial

TOGETHER_MS = 60_000
ALSO_KEPT = 8  # ids of the latest members, beside the first
FLOODS = 20_000  # floods that are told apart at a time
WAITING = 5_000  # rows that may wait for the writer


class Row(Struct, frozen=True):
    """A denial as it is now; `name` stays while it grows."""

    name: str
    first: Denial
    count: int
    last_at: int
    also: tuple[str, ...]

    def denial(self) -> Denial:
        return replace(self.first, count=self.count, last_at=self.last_at, also=self.also)


class _Flood:
    __slots__ = ("also", "count", "first", "last_at", "name")

    def __init__(self, name: str, first: Denial) -> None:
        self.name = name
        self.first = first
        self.count = first.count
        self.last_at = first.last_at
        self.also: deque[str] = deque(maxlen=ALSO_KEPT)


class Floods:
    """Takes denials on the event loop. Never blocks; what does not fit is counted in `dropped`."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix  # makes names unique over restarts
        self._numbers = count()
        self._floods: dict[tuple[str, ...], _Flood] = {}
        self._waiting: dict[str, _Flood] = {}
        self._crowd = Crowd()
        self.dropped = 0

    def record(self, denial: Denial) -> None:
        flood = self._running(denial)
        if flood is None and not denial.user:
            denial = self._crowd.blurred(denial)
            flood = self._running(denial)
        # A flood of nobody's leaves room for refusals that somebody will ask about.
        is_full = len(self._waiting) >= (WAITING if denial.user else WAITING // 2)
        if is_full and (flood is None or flood.name not in self._waiting):
            self.dropped += denial.count
            return
        if flood is not None:
            flood.count += denial.count
            flood.last_at = max(flood.last_at, denial.last_at)
            flood.also.append(denial.id)
        else:
            if len(self._floods) >= FLOODS:
                self._floods.clear()
            flood = self._floods[_alike(denial)] = _Flood(f"{self._prefix}-{next(self._numbers)}", denial)
        self._waiting[flood.name] = flood

    def _running(self, denial: Denial) -> _Flood | None:
        """The flood that the refusal belongs to, if one began within the minute before."""
        flood = self._floods.get(_alike(denial))
        return flood if flood is not None and 0 <= denial.at - flood.first.at < TOGETHER_MS else None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is new or has grown since the last `take`."""
        return not self._waiting

    def take(self) -> list[Row]:
        """What is new or has grown since the last call."""
        waiting, self._waiting = self._waiting, {}
        return [
            Row(each.name, each.first, each.count, each.last_at, tuple(each.also))
            for each in waiting.values()
        ]


def _alike(denial: Denial) -> tuple[str, ...]:
    return (
        denial.gateway,
        denial.route,
        denial.reason,
        denial.user,
        denial.key,
        denial.ip,
        denial.model,
        denial.path,
    )
