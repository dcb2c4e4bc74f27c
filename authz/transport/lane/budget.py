"""How much a peer may do of what costs us and brings it nothing."""


class Budget:
    """A bucket of `most` that fills again by `per_second`. Times are seconds of a monotonic clock."""

    __slots__ = ("_left", "_most", "_per_second", "_since")

    def __init__(self, most: int, per_second: float, now: float) -> None:
        self._most = most
        self._per_second = per_second
        self._left = float(most)
        self._since = now

    def spend(self, now: float) -> bool:
        """Take one; False where none is left."""
        if self._left < 1:
            self._left = min(self._most, self._left + (now - self._since) * self._per_second)
            self._since = now
            if self._left < 1:
                return False
        elif self._left >= self._most:
            self._since = now
        self._left -= 1
        return True

    def earn(self, amount: int) -> None:
        """Give something back, for work that is worth its cost."""
        if self._left < self._most:
            self._left += amount
