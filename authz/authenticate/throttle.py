"""How often one origin may be wrong."""

from authz.recent import Recent

TRIES = 10  # at once
EVERY_MS = 6_000  # and one more
MOST_REMEMBERED = 16_384  # origins


class Throttle:
    """Counts wrong tries by origin (GCRA): `TRIES` at once, then one each `EVERY_MS`."""

    def __init__(self) -> None:
        self._full_at: Recent[str, int] = Recent(MOST_REMEMBERED)  # when all tries are there again, ms

    def allows(self, origin: str, now: int) -> bool:
        """Whether the origin may try again."""
        full_at = self._full_at.get(origin)
        return full_at is None or full_at - now <= (TRIES - 1) * EVERY_MS

    def wrong(self, origin: str, now: int) -> None:
        """It was wrong once more."""
        full_at = self._full_at.get(origin)
        self._full_at.put(origin, (now if full_at is None else max(full_at, now)) + EVERY_MS)
