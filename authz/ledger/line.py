"""A straight line through what was seen, the older the fainter."""

MEMORY = 100
"""How many of the latest points count, about."""

_DECAY = 1 - 1 / MEMORY
_TELLING = 0.02  # (mean of x) x (mean of 1/x) - 1: zero where all sizes are alike


class Line:
    """Tokens over bytes: a slope, and an intercept for the bytes that carry no token (framing).

    Least squares weighted by 1/x, so that it is the relative error that is made small and no
    large request outvotes the others. Where sizes hardly differ an intercept cannot be told:
    then it is the plain ratio.
    """

    __slots__ = ("_inverse", "_ratio", "_x", "_y", "count")

    def __init__(self) -> None:
        self.count = 0.0  # of points, the older the fainter
        self._inverse = 0.0  # sum of 1/x
        self._ratio = 0.0  # sum of y/x
        self._x = 0.0
        self._y = 0.0

    def add(self, x: int, y: int) -> None:
        """One point; x > 0."""
        self.count = self.count * _DECAY + 1
        self._inverse = self._inverse * _DECAY + 1 / x
        self._ratio = self._ratio * _DECAY + y / x
        self._x = self._x * _DECAY + x
        self._y = self._y * _DECAY + y

    def at(self, x: int) -> float:
        """The line's height at x; it rises with x, whatever was seen. Needs a point."""
        spread = self._x * self._inverse - self.count * self.count
        if spread > _TELLING * self.count * self.count:
            slope = (self._y * self._inverse - self.count * self._ratio) / spread
            if slope > 0:
                return slope * x + (self._ratio - slope * self.count) / self._inverse
        return self._y / self._x * x
