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


SPENT = 8
"""A lot with less than a part of this many left, of any hold, is spent."""


class Pool:
    """At most two lots, one that is spent from and its successor. Moments are ms of a clock that never steps.

    `shard` None: its counters do not lie together.
    """

    __slots__ = (
        "_asked",
        "_done",
        "_holds",
        "_levels",
        "_lots",
        "_second",
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
        self._done: list[Lot] = []  # spent, and not taken over yet
        self._holds: Sequence[Hold] = ()
        self._levels: Sequence[Level] = ()
        self._second = 0
        self._asked = 0

    def __len__(self) -> int:
        return len(self._lots) + len(self._done)

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
        """Whether it is asked for much, and the lot at hand will not last for long."""
        if self.growing or now < self.not_before:
            return False
        if now >= self.last_spent + IDLE_MS:
            return self._asked >= HOT and now // 1000 == self._second
        if len(self._lots) > 1:
            first = self._lots[0]
            if now < first.ends_at and not first.has_less_than(SPENT, now):
                return False
            self._done.append(self._lots.pop(0))
        if not self._lots or now >= self._lots[0].ends_at:
            return True
        return now >= self._lots[0].asked_at + LIFE_MS * 3 // 4 or self._lots[0].has_less_than(2, now)

    def next_lot(self, outstanding: Callable[[str], int], replicas: int) -> tuple[Hold, ...] | None:
        """What to set aside; None: too little is left for it. `outstanding` is what is, of a counter."""
        holds = []
        for hold, level in zip(self._holds, self._levels, strict=True):
            most = min(hold.allowance, level.remaining // (NEAR * replicas))
            amount = most // 2
            if amount < max(1, hold.amount) or amount + outstanding(hold.key) > most:
                return None
            holds.append(replace(hold, amount=amount))
        return tuple(holds)

    def learn(self, levels: Sequence[Level], outstanding: Callable[[str], int], replicas: int) -> bool:
        """The counters stand so since a lot was set aside. Whether it stays: not if it is twice too much.

        What may be was reckoned by how they stood before, and others have spent since.
        """
        self._levels = levels
        return all(
            aside * NEAR * replicas <= 2 * (level.remaining + aside)
            for level, aside in zip(levels, [outstanding(hold.key) for hold in self._holds], strict=True)
        )

    def grow(self, lot: Lot) -> None:
        """It was set aside."""
        self._lots.append(lot)
        self.last_spent = max(self.last_spent, lot.asked_at)  # it was asked for because much is spent

    def take_over(self, now: int, *, all_of_them: bool = False) -> list[Lot]:
        """Lots that are spent no more: little is left, their time is over, or nobody asks."""
        idle = all_of_them or now >= self.last_spent + IDLE_MS
        over = self._done + [lot for lot in self._lots if idle or now >= lot.ends_at]
        self._done = []
        self._lots = [] if idle else [lot for lot in self._lots if now < lot.ends_at]
        return over
