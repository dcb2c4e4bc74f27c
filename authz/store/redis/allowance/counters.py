"""Counters that decide most of what is asked for much from lots set aside ahead, without a call.

A limit says how much a replica may set aside (`allowance`); a request is let through by a lot if each of
its limits says so and none counts what runs at once. The lot is held in Redis before any of it is spent
(`authz.store.redis.allowance.lot` has why that is never over). What was spent is told there at most
`PAUSE_S` later, many at once; from then on each is a reservation as any other, which any replica settles.

**What lies idle.** Of one counter a replica sets aside at most its allowance, and all of them together at
most a quarter of what is left; it goes back after a second of quiet, and with a stop. One that is killed
leaves its lots charged until their windows end, and loses what it had not told: that is charged too, as
part of a lot, but is in no ledger.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from os import urandom
from typing import Any
from weakref import WeakKeyDictionary

from authz.quota import Unit
from authz.store.allowances import Allowances
from authz.store.protocols import Counters, Exhausted, Hold, Kind, Outcome, Remembered, Reserved, Settled
from authz.store.redis.allowance.drawing import Drawing, Spending
from authz.store.redis.allowance.keeping import Keeper
from authz.store.redis.allowance.pool import Pool
from authz.store.redis.counters import RedisCounters

TOLD_S = 1.0
"""After so long what another replica let through by a lot is known, unless it was killed."""

WAITED_MS = 200
"""So long after a task waited for one, it waits for no other: a gateway's report may be of many."""

MOST_POOLS = 10_000
BY_LOT = ".a"  # behind the name of what was let through by a lot: Redis may not know it yet


class AllowanceCounters:
    """Around the `counters` of a store; `redis` are those without a fallback, which lots are made by.

    `may_grow` is whether nothing is owed to the store, `replicas` how many there are; `now` tells ms of a
    clock that never steps, `pause` waits for seconds.
    """

    def __init__(
        self,
        counters: Counters,
        redis: RedisCounters,
        now: Callable[[], int],
        *,
        may_grow: Callable[[], bool] = lambda: True,
        replicas: Callable[[], int] = lambda: 1,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        me = f"~{urandom(6).hex()}"
        self._counters = counters
        self._redis = redis
        self._now = now
        self._pause = pause
        self._waited: WeakKeyDictionary[asyncio.Task[Any], int] = WeakKeyDictionary()
        self._pools: dict[tuple[str, ...], Pool] = {}
        self._drawing = Drawing(redis.calls, me, now)
        self.keeper = Keeper(redis.calls, self._drawing, me, now, may_grow, replicas)

    @property
    def figures(self) -> Allowances:
        """For metrics."""
        return self.keeper.count_outstanding()

    def place(self, holds: Sequence[Hold]) -> str:
        return self._counters.place(holds)

    async def reserve(
        self, reservation: str, gateway: str, holds: Sequence[Hold], ttl_ms: int, facts: bytes = b""
    ) -> Reserved | Exhausted:
        pool = self._pool_of(reservation, holds) if ttl_ms > 0 and holds and holds[0].allowance else None
        if pool is None:
            return await self._counters.reserve(reservation, gateway, holds, ttl_ms, facts)
        now = self._now()
        spent = pool.spend(holds, now)
        if spent is None:
            outcome = await self._counters.reserve(reservation, gateway, holds, ttl_ms, facts)
            if isinstance(outcome, Exhausted) or outcome.local:
                return outcome
            pool.asked(holds, outcome.levels, now)
        else:
            lot, levels = spent
            self.keeper.figures.decisions += 1
            if self._drawing.add(Spending(lot, reservation, gateway, tuple(holds), ttl_ms, facts, now)):
                self.keeper.begin(self.keeper.tell())
            outcome = Reserved(levels, name=reservation + BY_LOT)
        if pool.wants_more(now):
            self.keeper.grow(pool, now)
        return outcome

    async def find(self, reservation: str, gateway: str) -> Remembered | Outcome:
        name = await self._known(reservation)
        found = await self._counters.find(name, gateway)
        if found is Outcome.UNKNOWN and name != reservation:
            task = asyncio.current_task()
            if task is None or self._now() >= self._waited.get(task, -WAITED_MS) + WAITED_MS:
                await self._pause(TOLD_S)
                if task is not None:
                    self._waited[task] = self._now()
                found = await self._counters.find(name, gateway)
        return found

    async def settle(
        self, reservation: str, gateway: str, actual: Mapping[Unit, int], note: bytes = b""
    ) -> Settled:
        return await self._counters.settle(await self._known(reservation), gateway, actual, note)

    async def extend(self, reservation: str, gateway: str, ttl_ms: int, life_ms: int) -> bool:
        return await self._counters.extend(await self._known(reservation), gateway, ttl_ms, life_ms)

    async def peek(self, holds: Sequence[Hold]) -> Reserved | Exhausted:
        return await self._counters.peek(holds)

    async def _known(self, reservation: str) -> str:
        """The name that Redis knows it by, as far as this replica can tell it. Raises StoreUnavailable."""
        name = reservation.removesuffix(BY_LOT)
        if name in self._drawing:
            await self._drawing.tell()
        return name

    def _pool_of(self, reservation: str, holds: Sequence[Hold]) -> Pool | None:
        """None: no lot can be for all of it."""
        for hold in holds:
            if not hold.allowance or hold.kind is Kind.CONCURRENCY:
                return None
        counters = tuple([hold.key for hold in holds])
        pool = self._pools.get(counters)
        if pool is None:
            if len(self._pools) >= MOST_POOLS:
                self._pools = {key: pool for key, pool in self._pools.items() if pool.is_in_use}
                if len(self._pools) >= MOST_POOLS:
                    return None
            pool = self._pools[counters] = Pool(self._redis.shard_of_all(holds))
        return pool if pool.shard == self._redis.home(reservation) else None

    async def start(self) -> None:
        """Begin the upkeep on the running event loop."""
        self.keeper.start()

    async def close(self) -> None:
        """Give back everything."""
        await self.keeper.close()
