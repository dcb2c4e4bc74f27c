"""What lots must stand beyond the walk: buckets that were empty meanwhile, callers that go away, late tellings."""

from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from authz.store.protocols import Hold, Reserved
from authz.store.redis.allowance.pool import IDLE_MS
from authz.store.redis.link_calls import Caller
from tests.contract.kit import DAY, MINUTE, Clock, fixed, gcra
from tests.redis.allowance_kit import Replica
from tests.redis.link_kit import PATIENT, linked
from tests.support.redis import RedisServer

LIMIT = fixed(1_000_000, 10, window=DAY, allowance=1000)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def link(server: RedisServer) -> AsyncIterator[Caller]:
    async with linked(server.url + PATIENT) as link:
        yield link


@pytest.fixture
def replica(link: Caller, clock: Clock) -> Replica:
    return Replica(link, clock)


async def admitted(replica: Replica, hold: Hold = LIMIT) -> str:
    """The name of what was let through."""
    outcome = await replica.ask(hold)
    assert isinstance(outcome, Reserved)
    return outcome.name


async def used(replica: Replica) -> int:
    answer = await replica.redis.peek([replace(LIMIT, amount=0)])
    return LIMIT.quota - answer.levels[0].remaining


async def test_of_an_empty_bucket_a_lot_gives_back_only_what_did_not_drain(
    replica: Replica, clock: Clock
) -> None:
    """20 drain in a second. What was spent late of a lot is in the bucket in full."""
    pace = gcra(1200, window=MINUTE, burst=1000, allowance=500)
    at: list[tuple[int, int]] = []

    async def ask(amount: int) -> bool:
        admitted = isinstance(await replica.ask(replace(pace, amount=amount)), Reserved)
        if admitted:
            at.append((clock.now, amount))
        return admitted

    for _ in range(20):
        assert await ask(1)
    await replica.quiet()
    assert replica.counters.figures.lots == 1
    replica.keeper._closing = True  # no other lot
    for _ in range(3):
        clock.pass_(900)
        assert await ask(1)
    clock.pass_(300)
    assert await ask(56)
    clock.pass_(IDLE_MS)
    await replica.keeper.upkeep()
    assert replica.counters.figures.outstanding == {}
    while await ask(1):
        pass
    level, before = 0.0, 0
    for moment, amount in at:
        level, before = max(0.0, level - (moment - before) * 20 / 1000) + amount, moment
    assert level <= pace.quota
