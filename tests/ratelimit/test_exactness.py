"""Random requests against a plain model of what is counted, and many at once."""

import asyncio
import random

import pytest

from authz.limit.reservation import RETRY_MS
from authz.ratelimit.limiter import RateLimiter
from authz.store.redis.counters import RedisCounters
from authz.store.store import ServiceStore
from tests.contract.kit import Clock
from tests.ratelimit.kit import allowed, codes, d, limiter, remaining
from tests.redis.link_kit import PATIENT, linked
from tests.support.redis import RedisServer

QUOTAS = {"a": 5, "b": 20, "c": 60}
FILE = "domain: d\ndescriptors:\n" + "".join(
    f"  - {{key: {key}, rate_limit: {{unit: minute, requests_per_unit: {quota}}}}}\n"
    for key, quota in QUOTAS.items()
)


def predicted(used: dict[tuple[str, str], int], asked: list[tuple[str, str, int]], compat: bool) -> str:
    """The codes of one request; `used` is what was counted before it, and then after it."""
    if compat:
        letters = ""
        for key, value, hits in asked:
            used[key, value] = used.get((key, value), 0) + hits
            letters += "o" if used[key, value] > QUOTAS[key] else "k"
        return letters
    after = dict(used)
    for key, value, hits in asked:
        after[key, value] = after.get((key, value), 0) + hits
    over = {(key, value) for key, value, _ in asked if after[key, value] > QUOTAS[key]}
    if not over:
        used.update(after)
    return "".join("o" if (key, value) in over else "k" for key, value, _ in asked)


@pytest.mark.parametrize("compat", [False, True], ids=["all or nothing", "compat"])
@pytest.mark.parametrize("seed", range(5))
async def test_every_code_is_the_predicted_one(
    store: ServiceStore, clock: Clock, compat: bool, seed: int
) -> None:
    chance = random.Random(seed)
    limits = limiter(store.counters, FILE, compat=compat)
    used: dict[tuple[str, str], int] = {}
    seen = set()
    for _ in range(400):
        if chance.random() < 0.02:
            clock.pass_(60_000)
            used.clear()
        asked = [
            (chance.choice("abc"), chance.choice("xy"), chance.choice((1, 1, 1, 2, 5)))
            for _ in range(chance.randint(1, 4))
        ]
        answer = await limits.decide("d", [d((key, value), hits=hits) for key, value, hits in asked])
        expected = predicted(used, asked, compat)
        assert codes(answer) == expected
        seen.add("o" in expected)
    assert seen == {True, False}


async def admitted(limits: RateLimiter, calls: int) -> int:
    both = [d(("a", "x")), d(("b", "x"))]
    answers = await asyncio.gather(*(limits.decide("d", both) for _ in range(calls)))
    return allowed([codes(answer) for answer in answers])


async def test_at_once_as_many_are_admitted_as_may_be(server: RedisServer, clock: Clock) -> None:
    async with linked(server.url + PATIENT) as link:
        counters = RedisCounters(link, clock)
        replicas = [limiter(counters, FILE, undone_within_ms=RETRY_MS) for _ in range(2)]
        for number, replica in enumerate(replicas):
            replica._new_id = iter([f"{number}-{each}" for each in range(100)]).__next__
        assert sum(await asyncio.gather(*(admitted(replica, 20) for replica in replicas))) == 5
        left = await replicas[0].decide("d", [d(("b", "x"), hits=0)])
        assert remaining(left) == [15]
