"""How counters stood when the store last told: what a share is reckoned from once it does not answer."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence

from msgspec import Struct

from authz.store.protocols import Hold, Level

MOST_SEEN = 65_536  # counters; the one not seen for longest is forgotten first


class Sighting(Struct, frozen=True, gc=False):
    """One counter at one moment. `remaining` and `reset_ms` as in a `Level`."""

    hold: Hold
    remaining: int
    reset_ms: int
    at: int

    def left(self, quota: int) -> int:
        """What was left, where the quota is `quota` now: less if that is lower, not more if it is higher."""
        return max(0, min(quota, self.remaining, self.remaining + quota - self.hold.quota))


class Sightings:
    """The counters seen last, of holds that can do without the store."""

    __slots__ = ("_most", "_seen")

    def __init__(self, most: int = MOST_SEEN) -> None:
        self._most = most
        self._seen: OrderedDict[str, Sighting] = OrderedDict()

    def note(
        self,
        holds: Sequence[Hold],
        levels: Sequence[Level],
        now: int,
        owed: Mapping[str, int],
    ) -> None:
        """What the store told of these holds, less what each said is owed.

        `owed` is, by counter, what it does not know of by now.
        """
        for hold, level in zip(holds, levels, strict=True):
            if hold.on_failure:
                remaining = level.remaining
                if owed and hold.key in owed:
                    remaining -= max(0, owed[hold.key] - hold.owed)
                self.put(Sighting(hold, remaining, level.reset_ms, now))

    def put(self, sighting: Sighting) -> None:
        key, seen = sighting.hold.key, self._seen
        if key in seen:
            seen.move_to_end(key)
        elif len(seen) >= self._most:
            seen.popitem(last=False)
        seen[key] = sighting

    def find(self, hold: Hold) -> Sighting | None:
        """The last sighting of this very counter: one of another kind or window is another counter."""
        seen = self._seen.get(hold.key)
        if seen is None or seen.hold.kind != hold.kind or seen.hold.window != hold.window:
            return None
        return seen

    def __len__(self) -> int:
        return len(self._seen)
