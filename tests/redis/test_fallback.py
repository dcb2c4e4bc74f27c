"""Two replicas and a Redis that stops: they go on by shares, and everything comes to it afterwards."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest
from msgspec.structs import replace

from authz.store.fallback import FallbackCounters
from authz.store.open import wall_clock
from authz.store.protocols import Exhausted, Hold, OnFailure, Outcome, Reserved, StoreUnavailable
from authz.store.redis.counters import RedisCounters
from authz.store.redis.link_open import open_link
from authz.store.redis.target import Target
from tests.contract.kit import DAY, facts, fixed, note, slot, tokens
from tests.support.redis import RedisServer

QUOTA = 90
TTL = 600_000
DEADLINE_S = 60.0
BUDGET = "?budget=3000ms"
LIMIT = fixed(QUOTA, 1, window=DAY, on_failure=OnFailure.LOCAL)
SLOT = slot(50, on_failure=OnFailure.LOCAL)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as started:
        yield started


class Replica:
    def __init__(self, number: int, counters: FallbackCounters) -> None:
        self.number = number
        self.counters = counters
        self.names: list[str] = []
        self.made = 0

    async def ask(self, *holds: Hold) -> Reserved | Exhausted:
        self.made += 1
        name = f"r{self.number}.{self.made}"
        outcome = await self.counters.reserve(name, "edge", holds, TTL, facts())
        if isinstance(outcome, Reserved) and holds[0].amount:
            self.names.append(outcome.name or name)
        return outcome

    async def see(self) -> int:
        """What Redis itself says is left."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                outcome = await self.ask(replace(LIMIT, amount=0))
                if not outcome.local:
                    return outcome.levels[0].remaining
                await asyncio.sleep(0.05)

    async def spend(self, amount: int) -> int:
        admitted = 0
        while isinstance(await self.ask(replace(LIMIT, amount=amount), SLOT), Reserved):
            admitted += amount
        return admitted

    async def reconciled(self) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while self.counters.without.since:
                await asyncio.sleep(0.05)
                await self.see()


@pytest.fixture
async def replicas(server: RedisServer) -> AsyncIterator[list[Replica]]:
    server.call("FLUSHALL")
    async with AsyncExitStack() as stack:
        made = []
        for number in range(2):
            link = open_link(Target.parse(server.url + BUDGET))
            await link.start()
            stack.push_async_callback(link.close)
            counters = FallbackCounters(RedisCounters(link), wall_clock, replicas=lambda: 2)
            await counters.start()
            stack.push_async_callback(counters.close)
            made.append(Replica(number, counters))
        yield made


async def test_a_redis_that_stands_still_is_spent_by_shares_and_learns_of_it_later(
    server: RedisServer, replicas: list[Replica]
) -> None:
    one, other = replicas
    await one.ask(replace(LIMIT, amount=10), SLOT)
    for replica in replicas:
        assert await replica.see() == QUOTA - 10
    server.pause()
    try:
        spent = await asyncio.gather(one.spend(7), other.spend(9))
        assert list(spent) == [35, 36], "each all of its 40 that its requests fit into"
        with pytest.raises(StoreUnavailable):
            await one.ask(replace(LIMIT, on_failure=OnFailure.DENY))
        ended = one.names[1]
        done = await one.counters.settle(ended, "edge", tokens(2), note(output=2))
        assert done.outcome is Outcome.SETTLED
    finally:
        server.resume()
    for replica in replicas:
        await replica.reconciled()
    used = 10 + sum(spent) - 5
    assert await one.see() == QUOTA - used, "what was sent and not answered is taken back"
    assert (await other.counters.settle(one.names[2], "edge", tokens(7))).outcome is Outcome.SETTLED
    assert (await one.counters.settle(ended, "edge", tokens(7))).outcome is Outcome.ALREADY
    async with asyncio.timeout(DEADLINE_S):
        while used < QUOTA:
            used += await one.spend(1)
            await one.reconciled()
    assert used == QUOTA
    assert server.call("XLEN", "az:{0}:closed") == 2, "an entry for each that is over"
