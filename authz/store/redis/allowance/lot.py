"""Units that were debited ahead from the counters of one kind of request, and are spent here one by one.

**Never over.** A lot is held in Redis as a reservation is, before any of it is spent, so whatever is spent is
charged already. What is left to show is that it is charged where it belongs, in the window of its spending:

- Windows that begin and end at set moments: a lot is over when its window is.
- A sliding window: when the sub-window is over that it was charged to.
- A bucket (GCRA): of a lot of N units at most N less what drains of them meanwhile can be spent. Let s(t)
  be what of it is spent by then, at a rate r, and t0 when it was debited: s(t) <= N - r (t - t0). Over any
  time from u >= t0 to t the spending is at most N - r (u - t0), which is what the debit of N at t0 still
  weighs at u; so the level with the true times is never above the level that Redis reckons with.
  What goes back is therefore less what drained of the lot itself, when nothing else was in the bucket: else
  Redis would reckon with a spending at t0 that came later, and has drained less.

Redis tells how long a window lasts from when it looked, which was after it was asked. A lot is as old as the
asking, so it ends no later than its window, whatever the clocks of both say.
"""

from collections.abc import Sequence

from authz.store.counting.sliding import PARTS
from authz.store.protocols import Hold, Kind, Level

LIFE_MS = 5_000
"""How long a lot is spent from; then the rest goes back, and another is set aside."""

DRIFT = 1000
"""One clock gains less than a part of this many on another."""

FOR_EVER = 1 << 62


class Lot:
    """One debit. `holds` are what is held in Redis, `levels` how the counters stood right after it.

    `asked_at` is when it was asked for, in ms of a clock that never steps.
    """

    __slots__ = ("_drains", "_levels", "_spent", "asked_at", "ends_at", "entering", "holds", "id", "shard")

    def __init__(
        self, id: str, shard: str, holds: tuple[Hold, ...], levels: Sequence[Level], asked_at: int
    ) -> None:
        self.id = id
        self.shard = shard
        self.holds = holds
        self.asked_at = asked_at
        self.ends_at = asked_at + min(
            LIFE_MS, *[_lasts(hold, level) for hold, level in zip(holds, levels, strict=True)]
        )
        self.entering = 0  # spendings that Redis does not know of yet
        self._levels = levels
        self._spent = [0] * len(holds)
        self._drains = any(hold.kind is Kind.GCRA for hold in holds)

    def spend(self, holds: Sequence[Hold], now: int) -> tuple[Level, ...] | None:
        """How the counters stand after it; None: it is not for these holds, or not enough is left."""
        if now >= self.ends_at:
            return None
        age = now - self.asked_at
        left = self._left(age)
        for hold, mine, rest in zip(holds, self.holds, left, strict=True):
            if hold.amount > rest or not is_same(hold, mine):
                return None
        spent, levels = self._spent, []
        for at, (hold, level) in enumerate(zip(holds, self._levels, strict=True)):
            spent[at] += hold.amount
            remaining = level.remaining + left[at] - hold.amount
            levels.append(Level(remaining, max(0, level.reset_ms - age), level.held))
        return tuple(levels)

    def has_less_than(self, part: int, now: int) -> bool:
        """Whether less than a `part` of any hold can still be spent."""
        return any(
            left * part < hold.amount
            for left, hold in zip(self._left(now - self.asked_at), self.holds, strict=True)
        )

    def outstanding(self, at: int, now: int) -> int:
        """What of one of the holds Redis counts as used that nobody has used."""
        return max(0, self._left(now - self.asked_at)[at])

    def _left(self, age: int) -> list[int]:
        if not self._drains:
            return [hold.amount - spent for hold, spent in zip(self.holds, self._spent, strict=True)]
        return [
            hold.amount - spent - (_drained(hold, age) if hold.kind is Kind.GCRA else 0)
            for hold, spent in zip(self.holds, self._spent, strict=True)
        ]


def is_same(hold: Hold, other: Hold) -> bool:
    """Whether both are on one counter, under one limit; the amounts may differ."""
    return (
        hold.quota == other.quota
        and hold.kind is other.kind
        and hold.window == other.window
        and hold.rate == other.rate
        and hold.shadow == other.shadow
        and hold.key == other.key
        and hold.unit is other.unit
        and hold.bounds == other.bounds
    )


def _drained(hold: Hold, age: int) -> int:
    """Units of a bucket, rounded up."""
    return -(-age * hold.rate // hold.window)


def _lasts(hold: Hold, level: Level) -> int:
    """ms, from when Redis looked, that what is spent surely belongs where the debit was charged.

    Less than it told: it rounds down what it reads of its clock, and no two clocks run alike.
    """
    if hold.kind is Kind.GCRA:
        return FOR_EVER
    lasts = level.reset_ms
    if hold.kind is Kind.SLIDING:
        lasts -= PARTS * (hold.window // PARTS)
    return max(0, lasts - 1 - lasts // DRIFT)
