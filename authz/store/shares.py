"""What one replica may spend of shared counters while it cannot ask for them.

**The share.** Of a counter that was last seen with *s* units left, and *n* live replicas: s // n in the
window in which it was seen, quota // n in every later one (rolling windows free it as it was spent; a GCRA
share refills at a n-th of the rate). Of one that was never seen: quota // n. Of slots s // n, once all
that were seen taken are over quota // n. A number of units that cannot be divided is nobody's: with
more replicas than units a share is 0.

**The bound.** Let *r* be what is left of a window when the store stops answering. Replica *i* admits at most
s_i // n, so together they admit at most Σ s_i // n, which is over by at most Σ (s_i // n) - r, and never over
where every replica saw the counter as it is (s_i = r) and n is not less than their number. So what is
over is what others spent since a replica looked last, or what was on its way to the store by then; in a
window that begins meanwhile it is nothing, and at most Σ quota // n over those cut off, where the
others still reach the store.
"""

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from authz.store.engine import Engine
from authz.store.ops import Reserve
from authz.store.protocols import Exhausted, Hold, Kind, Level, OnFailure, Reserved, StoreUnavailable
from authz.store.sightings import Sighting, Sightings

MOST_COUNTERS = 100_000
RETRY_MS = 1_000
"""After this another try makes sense where the whole may have what the share has not."""


class _Use:
    """A counter that was spent from: the hold that was asked for, and the share of it."""

    __slots__ = ("hold", "parts", "share", "sighting")

    def __init__(self, hold: Hold, share: Hold, parts: int, sighting: Sighting | None) -> None:
        self.hold = hold
        self.share = share
        self.parts = parts
        self.sighting = sighting


class Shares:
    """The shares of one spell without the store. `replicas` is how many share what is left.

    A hold that lets everything through is counted against all that was left, and denies nothing.
    """

    def __init__(
        self, sightings: Sightings, replicas: int, *, most_open: int, most_counters: int = MOST_COUNTERS
    ) -> None:
        self.engine = Engine(most_counters=most_counters, most_open=most_open)
        self._sightings = sightings
        self._replicas = max(1, replicas)
        self._most = most_counters
        self._uses: dict[str, _Use] = {}

    def reserve(
        self, now: int, name: str, gateway: str, holds: Sequence[Hold], ttl_ms: int, facts: bytes
    ) -> Reserved | Exhausted:
        """As the engine does, against the shares. Raises StoreUnavailable where there is no room for more."""
        return self._ask(
            now,
            holds,
            lambda shares: self.engine.reserve(now, name, gateway, shares, ttl_ms, facts),
            spend=True,
        )

    def peek(self, now: int, holds: Sequence[Hold]) -> Reserved | Exhausted:
        """What `reserve` would answer. Spends nothing."""
        return self._ask(now, holds, lambda shares: self.engine.peek(now, shares), spend=False)

    def close(self, now: int) -> None:
        """The store knows all of it. Where it told meanwhile how a counter stands, the less counts."""
        for use in self._uses.values():
            try:
                level = self._levels(now, [replace(use.share, amount=0)])[0]
            except StoreUnavailable:
                continue  # its calendar window, and the one after it, are over
            remaining, reset_ms = level.remaining * use.parts, level.reset_ms
            seen = self._sightings.find(use.hold)
            if seen is not None:
                reset_ms = max(reset_ms, seen.at + seen.reset_ms - now)
                if seen is not use.sighting:  # that one is in the share
                    remaining = min(remaining, seen.remaining)
            self._sightings.put(Sighting(use.hold, remaining, reset_ms, now))
        self._uses.clear()

    # -- one request -------------------------------------------------------------------------------

    def _ask(
        self,
        now: int,
        holds: Sequence[Hold],
        ask: Callable[[Sequence[Hold]], Reserved | Exhausted],
        *,
        spend: bool,
    ) -> Reserved | Exhausted:
        uses = [self._use(hold, now) for hold in holds]
        full = spend and len(self._uses) + len(uses) > self._most
        if full and not all(use.hold.key in self._uses for use in uses):
            raise StoreUnavailable(f"{self._most} counters are in use without the store: no more fit")
        outcome = ask([use.share for use in uses])
        if isinstance(outcome, Exhausted):
            return self._refusal(outcome, uses)
        if spend:
            for use in uses:
                self._uses[use.hold.key] = use
        over = tuple(index for index in outcome.over if holds[index].shadow)
        return Reserved(outcome.levels, outcome.replay, over, local=True)

    def _use(self, hold: Hold, now: int) -> _Use:
        local = hold.on_failure is OnFailure.LOCAL
        parts = self._replicas if local else 1
        shadow = hold.shadow or not local
        sighting = self._sightings.find(hold)
        quota = hold.quota // parts
        if hold.kind is Kind.CONCURRENCY:
            if sighting is not None and now < sighting.at + sighting.reset_ms:
                quota = min(quota, sighting.left(hold.quota) // parts)
            return _Use(hold, replace(hold, quota=quota, shadow=shadow), parts, sighting)
        window = hold.window * parts if hold.kind is Kind.GCRA else hold.window
        share = replace(hold, quota=quota, window=window, shadow=shadow)
        before = self._uses.get(hold.key)
        if sighting is not None and (before is None or before.sighting is not sighting):
            self._take_off(share, sighting, sighting.left(hold.quota) // parts)
        return _Use(hold, share, parts, sighting)

    def _take_off(self, share: Hold, sighting: Sighting, left: int) -> None:
        """Charge what is not this replica's, at the moment when it was seen: with its window it is over."""
        share = replace(share, amount=0, shadow=True, bounds=sighting.hold.bounds)
        excess = self._levels(sighting.at, [share])[0].remaining - left
        if excess > 0:
            taken = replace(share, amount=excess)
            self.engine.apply(Reserve(sighting.at, "", "", 0, (taken,), kept=False))

    def _levels(self, now: int, shares: Sequence[Hold]) -> tuple[Level, ...]:
        return self.engine.peek(now, shares).levels

    def _refusal(self, outcome: Exhausted, uses: Sequence[_Use]) -> Exhausted:
        """What the share has not the whole may have: it is as good as held by others, and waiting helps."""
        waits, levels = [], list(outcome.levels)
        for index in outcome.denied:
            use, level = uses[index], levels[index]
            hold, seen = use.hold, use.sighting
            if hold.amount > hold.quota or not hold.quota:
                waits.append(-1)
            elif hold.amount <= (seen.left(hold.quota) if seen is not None else hold.quota):
                waits.append(RETRY_MS)
                levels[index] = replace(level, held=hold.quota - level.remaining)
            else:
                waits.append(max(RETRY_MS, level.reset_ms))
        wait = -1 if min(waits) < 0 else max(waits)
        return Exhausted(outcome.denied, wait, tuple(levels), local=True)
