"""What a reservation costs with units set aside ahead, beside one call for each: four limits, one hot key.

CPU of this process and of Redis, calls of scripts, and what the caller waits; both take turns in one run,
at the same rate. `python -m bench.allowances`
"""

import asyncio
import re
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import uvloop
from msgspec.structs import replace

from authz.quota import Unit
from authz.store.protocols import Hold, Kind, Reserved
from authz.store.redis.allowance.counters import AllowanceCounters
from authz.store.redis.counters import RedisCounters
from authz.store.redis.link_open import open_link
from authz.store.redis.target import Target
from tests.support.redis import RedisServer

RATE = 2_000  # a second
SECONDS = 4
ROUNDS = 5
MINUTE, DAY = 60_000, 86_400_000
HOLDS = (
    Hold("rate|key=1", Kind.GCRA, Unit.REQUESTS, 600_000, 1, window=MINUTE, rate=600_000, allowance=10_000),
    Hold("minute|key=1", Kind.SLIDING, Unit.TOKENS, 10**11, 900, window=MINUTE, allowance=4_000_000),
    Hold("day|team=1", Kind.FIXED, Unit.TOKENS, 10**12, 900, window=DAY, allowance=4_000_000),
    Hold("hour|team=1", Kind.FIXED, Unit.REQUESTS, 10**9, 1, window=60 * MINUTE, allowance=4_000),
)
FACTS = b"f" * 300  # as large as those of a request


class Cost(NamedTuple):
    """Of one decision."""

    cpu_us: float
    redis_us: float
    calls: float
    p50_us: float
    p99_us: float


async def cost(server: RedisServer, counters: AllowanceCounters, holds: tuple[Hold, ...]) -> Cost:
    """At a steady rate, in small bursts as an event loop has them."""
    waits: list[float] = []

    async def one(name: str) -> None:
        begun = time.perf_counter()
        outcome = await counters.reserve(name, "edge", holds, 60_000, FACTS)
        waits.append(time.perf_counter() - begun)
        assert isinstance(outcome, Reserved)

    server.call("CONFIG", "RESETSTAT")
    loop = asyncio.get_running_loop()
    begun, cpu, redis_cpu = loop.time(), time.process_time(), _redis_cpu(server)
    sent = 0
    while (elapsed := loop.time() - begun) < SECONDS:
        due = int(elapsed * RATE)
        await asyncio.gather(*[one(f"{begun}-{number}") for number in range(sent, due)])
        sent = max(sent, due)
        await asyncio.sleep(0.002)
    await counters.keeper.upkeep()
    calls = re.search(r"cmdstat_evalsha:calls=(\d+)", server.call("INFO", "commandstats").decode())
    assert calls is not None
    waits.sort()
    return Cost(
        (time.process_time() - cpu) / sent * 1e6,
        (_redis_cpu(server) - redis_cpu) / sent * 1e6,
        int(calls[1]) / sent,
        waits[len(waits) // 2] * 1e6,
        waits[len(waits) * 99 // 100] * 1e6,
    )


def _redis_cpu(server: RedisServer) -> float:
    told = server.call("INFO", "cpu").decode()
    return sum(float(found) for found in re.findall(r"used_cpu_(?:sys|user):([\d.]+)", told))


async def compare(server: RedisServer) -> dict[str, list[Cost]]:
    link = open_link(Target.parse(f"{server.url}?budget=1000ms"))
    await link.start()
    redis = RedisCounters(link)
    counters = AllowanceCounters(redis, redis, lambda: time.monotonic_ns() // 1_000_000)
    await counters.start()
    strict = tuple(replace(hold, allowance=0) for hold in HOLDS)
    costs: dict[str, list[Cost]] = {"one call each": [], "set aside": []}
    try:
        for _ in range(ROUNDS):
            costs["one call each"].append(await cost(server, counters, strict))
            costs["set aside"].append(await cost(server, counters, HOLDS))
    finally:
        await counters.close()
        await link.close()
    return costs


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch, RedisServer(Path(scratch)) as server:
        for name, rounds in uvloop.run(compare(server)).items():
            mean = Cost(*map(statistics.median, zip(*rounds, strict=True)))
            print(
                f"{name:<14} {mean.calls:6.4f} calls; CPU {mean.cpu_us:5.1f} µs, of Redis {mean.redis_us:5.1f} µs; "
                f"waits p50 {mean.p50_us:6.1f} µs, p99 {mean.p99_us:7.1f} µs"
            )


if __name__ == "__main__":
    main()
