"""The counters in Redis: one call for each reservation and each settlement.

Only on a Cluster may the holds of one request lie on several servers; see `authz.store.redis.spread`.
"""

from collections.abc import Mapping, Sequence
from itertools import count
from os import urandom

from authz.quota import Unit
from authz.store.protocols import Clock, Exhausted, Hold, Outcome, Remembered, Reserved, Settled
from authz.store.redis import spread
from authz.store.redis.calls import Calls, sendable
from authz.store.redis.link import Link
from authz.store.redis.names import shard_of
from authz.store.redis.target import MOST_COUNTERS
from authz.store.redis.together import Together, can_be_together
from authz.store.redis.unsettled import Unsettled


class RedisCounters:
    """Behaves as the engine does, for any number of processes at once.

    `clock` None: the time is the server's own; only tests bring theirs. `most_open` running and
    `most_late` expired reservations are remembered in each shard. Where `most_counters` names are in one
    server, no new counter begins there; half as many for those that are nobody's alone.
    """

    def __init__(
        self,
        link: Link,
        clock: Clock | None = None,
        *,
        most_open: int = 500_000,
        most_late: int = 100_000,
        most_counters: int = MOST_COUNTERS,
    ) -> None:
        self.calls = Calls(link, clock, most_open=most_open, most_late=most_late, most_counters=most_counters)
        self._unsettled = Unsettled(self.calls)
        self._shards = link.shards
        self._known = frozenset(link.shards)
        self._me = urandom(6).hex()
        self._attempts = count()
        self._together: dict[str, Together] = {}  # by shard

    @property
    def expired(self) -> int:
        """Reservations that nobody told the end of, as far as this process ended them."""
        return self.calls.expired

    async def close(self) -> None:
        """Try once more what could not be settled. Of what did not get that far, a replica never knew."""
        await self._unsettled.close()

    def place(self, holds: Sequence[Hold]) -> str:
        """On a Cluster `-SHARD`: where most of the holds are likely to be, so that one call is enough.

        Always the same for the same holds: a gateway's own retry must have the id of what it repeats.
        """
        if len(self._shards) == 1 or not holds:
            return ""
        return f"-{self._shard_of_hold(next((hold for hold in holds if hold.owner), holds[0]))}"

    async def reserve(
        self, reservation: str, gateway: str, holds: Sequence[Hold], ttl_ms: int, facts: bytes = b""
    ) -> Reserved | Exhausted:
        holds = sendable(holds)
        if can_be_together(gateway, holds, facts):
            shard = self.shard_of_all(holds)
            if shard is not None:
                return await self._together_in(shard).reserve(holds, ttl_ms)
        attempt = self._new_attempt()
        home = self.home(reservation)
        if len(self._shards) > 1:
            parts = spread.parts_of(holds, home, self._shard_of_hold)
            if len(parts) > 1:
                request = spread.Request(reservation, attempt, gateway, ttl_ms, facts)
                return await spread.reserve(self.calls, parts, request)
        return self.calls.answer(
            await self.calls.reserve(home, reservation, attempt, gateway, holds, ttl_ms, facts)
        )

    def _new_attempt(self) -> str:
        return f"{self._me}{next(self._attempts):x}"

    def _together_in(self, shard: str) -> Together:
        found = self._together.get(shard)
        if found is None:
            found = self._together[shard] = Together(self.calls, shard, self._new_attempt)
        return found

    async def find(self, reservation: str, gateway: str) -> Remembered | Outcome:
        return await self.calls.find(self.home(reservation), reservation, gateway)

    async def settle(
        self, reservation: str, gateway: str, actual: Mapping[Unit, int], note: bytes = b""
    ) -> Settled:
        settled, elsewhere = await self.calls.settle(
            self.home(reservation), reservation, gateway, actual, note
        )
        if not elsewhere:
            return settled
        return await spread.settle_rest(
            self.calls, self._unsettled, elsewhere, settled, reservation, gateway, actual
        )

    async def extend(self, reservation: str, gateway: str, ttl_ms: int, life_ms: int) -> bool:
        runs, elsewhere = await self.calls.extend(
            self.home(reservation), reservation, gateway, ttl_ms, life_ms
        )
        if not elsewhere:
            return runs
        return await spread.extend_rest(self.calls, elsewhere, reservation, gateway, ttl_ms, life_ms)

    async def peek(self, holds: Sequence[Hold]) -> Reserved | Exhausted:
        holds = sendable(holds)
        if len(self._shards) > 1:
            first = self._shard_of_hold(holds[0]) if holds else self._shards[0]
            return await spread.peek(self.calls, spread.parts_of(holds, first, self._shard_of_hold))
        return self.calls.answer(await self.calls.peek(self._shards[0], holds))

    def shard_of_all(self, holds: Sequence[Hold]) -> str | None:
        """The one shard that all of them lie in; None: they lie in several."""
        if len(self._shards) == 1:
            return self._shards[0]
        shards = {self._shard_of_hold(hold) for hold in holds}
        return shards.pop() if len(shards) == 1 else None

    def _shard_of_hold(self, hold: Hold) -> str:
        return shard_of(hold.owner or hold.key, self._shards)

    def home(self, reservation: str) -> str:
        """Where a reservation is: its id says so, or all else follows from it."""
        if len(self._shards) == 1:
            return self._shards[0]
        _, _, shard = reservation.rpartition("-")
        return shard if shard in self._known else shard_of(reservation, self._shards)
