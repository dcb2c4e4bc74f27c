"""After some failures in a row, ask nothing for a while, then one question at a time."""

from collections.abc import Callable
from random import random

FAILURES = 3
"""In a row, until it opens. Each costs its callers no more than the budget."""

FIRST_PAUSE = 0.02
LONGEST_PAUSE = 0.25
"""Seconds between two probes; short enough to be back within a second of the server."""


class Pauses:
    """Seconds to wait before each of several attempts: doubling, each between half and the whole of it.

    So replicas that lost a server together do not come back together
    (AWS Architecture Blog, "Exponential Backoff And Jitter": equal jitter).
    """

    def __init__(
        self,
        first: float = FIRST_PAUSE,
        longest: float = LONGEST_PAUSE,
        chance: Callable[[], float] = random,
    ) -> None:
        self._first, self._longest, self._chance = first, longest, chance
        self._next = first

    def take(self) -> float:
        pause, self._next = self._next, min(2 * self._next, self._longest)
        return pause * (0.5 + 0.5 * self._chance())

    def restart(self) -> None:
        self._next = self._first


class Breaker:
    """Closed: calls go through. Open: none does; after each of `pauses` a probe asks whether they may."""

    __slots__ = ("_limit", "failures", "open", "pauses")

    def __init__(self, *, limit: int = FAILURES, pauses: Pauses | None = None) -> None:
        self.failures = 0  # in a row; whoever sees a success sets it to 0
        self.open = False
        self.pauses = pauses or Pauses()
        self._limit = limit

    def failed(self) -> bool:
        """A call failed. True: that opened it."""
        self.failures += 1
        if self.open or self.failures < self._limit:
            return False
        self.trip()
        return True

    def trip(self) -> None:
        """Open it."""
        self.open = True
        self.pauses.restart()

    def close(self) -> None:
        """A probe succeeded."""
        self.failures = 0
        self.open = False
