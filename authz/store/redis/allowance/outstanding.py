"""What a replica has set aside of each counter, and not spent."""

from collections.abc import Callable, Sequence

from authz.quota import Unit
from authz.store.protocols import Hold
from authz.store.redis.allowance.lot import Lot


class Outstanding:
    """By counter: the lots there are, and those that are asked for right now. `now` as lots know it."""

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._lots: dict[str, list[tuple[Lot, int]]] = {}
        self._asked: dict[str, int] = {}

    def __call__(self, key: str) -> int:
        now = self._now()
        return self._asked.get(key, 0) + sum(lot.outstanding(at, now) for lot, at in self._lots.get(key, ()))

    def ask(self, holds: Sequence[Hold]) -> None:
        for hold in holds:
            self._asked[hold.key] = self._asked.get(hold.key, 0) + hold.amount

    def answered(self, holds: Sequence[Hold]) -> None:
        """Whatever came of it."""
        for hold in holds:
            left = self._asked[hold.key] - hold.amount
            if left:
                self._asked[hold.key] = left
            else:
                del self._asked[hold.key]

    def add(self, lot: Lot) -> None:
        for at, hold in enumerate(lot.holds):
            self._lots.setdefault(hold.key, []).append((lot, at))

    def remove(self, lot: Lot) -> None:
        for hold in lot.holds:
            left = [(other, at) for other, at in self._lots[hold.key] if other is not lot]
            if left:
                self._lots[hold.key] = left
            else:
                del self._lots[hold.key]

    def by_unit(self) -> dict[Unit, int]:
        """Summed over all counters."""
        units: dict[Unit, int] = {}
        now = self._now()
        for lots in self._lots.values():
            for lot, at in lots:
                unit = lot.holds[at].unit
                units[unit] = units.get(unit, 0) + lot.outstanding(at, now)
        return units
