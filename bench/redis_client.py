"""What a decision costs its process on the way to Redis and back: the link beside naive redis-py.

Client CPU only: the server is another process. At each concurrency both take turns in one run, and the
ratio is that of the same round. `python -m bench.redis_client`
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import redis.asyncio
import uvloop

from authz.store.redis.link_open import open_link
from authz.store.redis.script import Script
from authz.store.redis.target import Target
from tests.support.redis import RedisServer

# As large as a reserve of four limits, and as little work as can be.
RESERVE = Script("bench", "return {1, 0, 59, 1000, 0, 99, 1000, 0, 999, 1000, 0, 9999, 1000, 0}")
KEYS = [f"az:{{0}}:c:policy-{number}/key=0123456789abcdef" for number in range(4)] + [
    "az:{0}:r:0123456789abcdef"
]
ARGS = ["0", "edge", "600000", "5", "x" * 120, *["1", "60000", "60", "1", "0", "0"] * 4]

Reserve = Callable[[], Awaitable[object]]


async def cpu(reserve: Reserve, calls: int, concurrency: int) -> float:
    """Microseconds of this process's CPU for each call."""

    async def caller() -> None:
        for _ in range(calls // concurrency):
            await reserve()

    begun = time.process_time()
    await asyncio.gather(*(caller() for _ in range(concurrency)))
    return (time.process_time() - begun) / (calls // concurrency * concurrency) * 1e6


async def compare(url: str, *, concurrency: int, calls: int, rounds: int) -> list[tuple[float, float]]:
    """(ours, naive) of each round."""
    link = open_link(Target.parse(url + "?budget=10000ms"))
    await link.start()
    naive = redis.asyncio.Redis.from_url(url, protocol=2)
    await naive.script_load(RESERVE.source)

    async def ours() -> object:
        return await link.run(RESERVE, KEYS, ARGS)

    async def theirs() -> object:
        return await naive.evalsha(RESERVE.sha, len(KEYS), *KEYS, *ARGS)

    try:
        for warm in (ours, theirs):
            await cpu(warm, 4 * concurrency, concurrency)
        return [
            (await cpu(ours, calls, concurrency), await cpu(theirs, calls // 4, concurrency))
            for _ in range(rounds)
        ]
    finally:
        await naive.aclose()
        await link.close()


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch, RedisServer(Path(scratch)) as server:
        for name, run in (("asyncio", asyncio.run), ("uvloop", uvloop.run)):
            for concurrency in (1, 8, 32, 64):
                rounds = run(compare(server.url, concurrency=concurrency, calls=8192, rounds=5))
                ours, naive = (statistics.median(column) for column in zip(*rounds, strict=True))
                ratio = statistics.median(theirs / mine for mine, theirs in rounds)
                print(
                    f"{name:<8} {concurrency:>4} at once: {ours:6.1f} µs CPU for each call; "
                    f"redis-py, one evalsha each: {naive:6.1f} µs; {ratio:4.1f} times as much"
                )


if __name__ == "__main__":
    main()
