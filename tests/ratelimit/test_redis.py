"""The same answers where Redis counts: on one server, and spread over a Cluster."""

from collections.abc import AsyncIterator

import pytest

from authz.limit.reservation import RETRY_MS
from authz.store.protocols import Counters
from authz.store.redis.counters import RedisCounters
from tests.contract.kit import Clock
from tests.ratelimit.kit import allowed, ask, codes, d, documented, limiter, remaining
from tests.redis.link_kit import PATIENT, linked
from tests.support.redis import RedisCluster, RedisServer

FILE = """
domain: d
descriptors:
  - {key: ten, rate_limit: {unit: minute, requests_per_unit: 10}}
  - {key: two, rate_limit: {unit: year, requests_per_unit: 2}}
  - {key: quiet, shadow_mode: true, rate_limit: {unit: second, requests_per_unit: 2}}
"""
TEN, TWO, QUIET = (d((key, "x")) for key in ("ten", "two", "quiet"))


@pytest.fixture
async def counters(server: RedisServer, clock: Clock) -> AsyncIterator[Counters]:
    async with linked(server.url + PATIENT) as link:
        yield RedisCounters(link, clock)


async def test_all_or_nothing(counters: Counters) -> None:
    limits = limiter(counters, FILE)
    assert await ask(limits, "d", TEN, TWO, QUIET, times=4) == ["kkk", "kkk", "kok", "kok"]
    assert remaining(await limits.decide("d", [TEN, QUIET])) == [7, 0]
    assert remaining(await limits.decide("d", [d(("ten", "x"), hits=0)])) == [7]


async def test_compat(counters: Counters) -> None:
    limits = limiter(counters, FILE, compat=True)
    assert await ask(limits, "d", TEN, TWO, QUIET, times=4) == ["kkk", "kkk", "kok", "kok"]
    assert remaining(await limits.decide("d", [TEN, TEN, QUIET], 2)) == [4, 2, 0]
    assert codes(await limits.decide("d", [d(("two", "x"), hits=0)])) == "o"
    assert await ask(limits, "d", d(("ten", "x"), hits=2**64 - 1), times=3) == ["o"] * 3


async def test_windows(counters: Counters, clock: Clock) -> None:
    limits = limiter(counters, documented())
    foo = d(("foo", "x"))
    clock.pass_(30_500)
    answer = await limits.decide("rl", [foo])
    assert answer.statuses[0].reset_s == 30
    assert allowed(await ask(limits, "rl", foo, times=3)) == 1
    clock.pass_(29_500)
    assert allowed(await ask(limits, "rl", foo, times=3)) == 2


async def test_no_name_holds_what_a_client_sent(counters: Counters, server: RedisServer) -> None:
    limits = limiter(counters, FILE)
    await ask(limits, "d", d(("ten", "Bearer sk-secret")))
    names = server.call("KEYS", "*")
    assert names
    assert not [name for name in names if b"secret" in name]


async def test_on_a_cluster_a_refused_request_charges_no_node(cluster: RedisCluster, clock: Clock) -> None:
    async with linked(cluster.url + PATIENT) as link:
        limits = limiter(RedisCounters(link, clock), FILE, undone_within_ms=RETRY_MS)
        apart = [d(("ten", str(number))) for number in range(8)]  # on every node
        assert codes(await limits.decide("d", [*apart, TWO], 2)) == "k" * 9
        refused = await limits.decide("d", [*apart, TWO])
        assert (codes(refused)[-1], refused.over) == ("o", True)
        assert remaining(await limits.decide("d", [d(*each.entries, hits=0) for each in apart])) == [8] * 8
