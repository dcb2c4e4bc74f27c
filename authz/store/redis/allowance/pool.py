"""The lots of one kind of request: those that are held against the same counters, under the same limits."""

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from authz.store.protocols import Hold, Level
from authz.store.redis.allowance.lot import LIFE_MS, Lot

HOT = 20
"""Decisions within a second that make it worth while to set units aside."""

PATIENCE_MS = 250
"""After so long another try to set units aside makes sense."""

IDLE_MS = 1_000
"""Units that nobody spends go back after this."""

NEAR = 4
"""All replicas together set aside at most a part of this many of what is left: strict near the limit."""


class Pool:
    """Moments are ms of a clock that never steps. `shard` None: its counters do not lie together."""

    __slots__ = (
        "_asked",
        "_holds",
        "_levels",
        "_lots",
        "_second",
        "_wanted",
        "growing",
        "last_spent",
        "not_before",
        "shard",
    )

    def __init__(self, shard: str | None) -> None:
        self.shard = shard
        self.growing = False
        self.not_before = 0
        self.last_spent = -IDLE_MS
        self._lots: list[Lot] = []
        self._holds: Sequence[Hold] = ()
        self._levels: Sequence[Level] = ()
        self._wanted: Sequence[int] = ()
        self._second = 0
        self._asked = 0

    def __len__(self) -> int:
        return len(self._lots)

    @property
    def is_in_use(self) -> bool:
        """Whether it has lots, or will soon."""
        return self.growing or bool(self._lots)

    def spend(self, holds: Sequence[Hold], now: int) -> tuple[Lot, tuple[Level, ...]] | None:
        """The lot that has it, and how the counters stand after it."""
        for lot in self._lots:
            levels = lot.spend(holds, now)
            if levels is not None:
                self.last_spent = now
                return lot, levels
        return None

    def asked(self, holds: Sequence[Hold], levels: Sequence[Level], now: int) -> None:
        """Redis let one more through, and told how the counters stand."""
        second = now // 1000
        if second != self._second:
            self._second, self._asked = second, 0
        self._asked += 1
        self._holds, self._levels = holds, levels

    def wants_more(self, now: int) -> bool:
        """Whether it is asked for much, and has little: less than half of what it may, or not for long."""
        if self.growing or now < self.not_before:
            return False
        if now >= self.last_spent + IDLE_MS:
            return self._asked >= HOT and now // 1000 == self._second
        if not self._lots or now >= self._lots[-1].asked_at + LIFE_MS * 3 // 4:
            return True
        left = [lot.left(now) for lot in self._lots]
        return any(2 * sum(lefts) < wanted for *lefts, wanted in zip(*left, self._wanted, strict=True))

    def next_lot(self, outstanding: Callable[[str], int], replicas: int) -> tuple[Hold, ...] | None:
        """What to set aside; None: too little is left for it. `outstanding` is what is, of a counter."""
        wanted, holds = [], []
        for hold, level in zip(self._holds, self._levels, strict=True):
            most = min(hold.allowance, level.remaining // (NEAR * replicas))
            amount = most - outstanding(hold.key)
            if amount < max(1, hold.amount):
                return None
            wanted.append(most)
            holds.append(replace(hold, amount=amount))
        self._wanted = wanted
        return tuple(holds)

    def grow(self, lot: Lot, levels: Sequence[Level]) -> None:
        """It was set aside, and the counters stand so since."""
        self._lots.append(lot)
        self._levels = levels
        self.last_spent = max(self.last_spent, lot.asked_at)  # it was asked for because much is spent

    def take_over(self, now: int, *, all_of_them: bool = False) -> list[Lot]:
        """Lots that are spent no more: their time is over, or nobody asks."""
        idle = (
            all_of_them or now >= max(self.last_spent, self._lots[-1].asked_at if self._lots else 0) + IDLE_MS
        )
        over = [lot for lot in self._lots if idle or now >= lot.ends_at]
        self._lots = [] if idle else [lot for lot in self._lots if now < lot.ends_at]
        return over
