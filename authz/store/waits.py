"""How long decisions and settlements wait for a store that others share."""

from bisect import bisect_left
from itertools import accumulate

from msgspec import Struct

BOUNDS = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.06,  # what a budget of 50 ms may cost, by the wall clock
    0.1,
    0.25,
    1.0,
)  # seconds


class Waits:
    """A histogram. Whatever ended the wait counts: an answer, a refusal, the end of the budget."""

    __slots__ = ("counts", "longest", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)  # the last holds what is longer than every bound
        self.total = 0.0
        self.longest = 0.0

    def add(self, seconds: float, calls: int) -> None:
        """`calls` that waited for `seconds` each."""
        self.counts[bisect_left(BOUNDS, seconds)] += calls
        self.total += seconds * calls
        if seconds > self.longest:
            self.longest = seconds

    def cumulated(self) -> list[tuple[str, int]]:
        """As Prometheus has it: how many waited no longer than each bound."""
        bounds = [*map(str, BOUNDS), "+Inf"]
        return list(zip(bounds, accumulate(self.counts), strict=True))


class Shared(Struct, frozen=True):
    """How a store that others share is reached, since the process started."""

    waits: Waits
    owed: int = 0  # calls to be taken back, because nobody knows whether they ran
    given_up: int = 0  # of these, never taken back: each stays charged as held
