"""What a call costs: the process's CPU, and Redis's commands."""

import re

from bench.redis_client import compare
from tests.redis.link_kit import ECHO, PATIENT, linked, outcomes
from tests.support.redis import RedisServer


async def test_a_call_costs_a_fifth_of_naive_redis_py(server: RedisServer) -> None:
    """`python -m bench.redis_client` prints the whole of it: about a ninth."""
    rounds = await compare(server.url, concurrency=32, calls=2048, rounds=5)
    assert max(theirs / ours for ours, theirs in rounds) >= 5


async def test_a_call_is_one_command(server: RedisServer) -> None:
    async with linked(server.url + PATIENT) as link:
        await link.run(ECHO, ["az:{0}:k"], [0])
        server.call("CONFIG", "RESETSTAT")
        await outcomes([link.run(ECHO, ["az:{0}:k"], [number]) for number in range(1000)])
        stats = server.call("INFO", "commandstats").decode()
    calls = {name: int(count) for name, count in re.findall(r"cmdstat_(\S+):calls=(\d+)", stats)}
    assert calls.pop("evalsha") == 1000
    # Beside them only the heartbeat's, once a second, and what this test asks.
    assert {name.partition("|")[0] for name in calls} <= {"ping", "setrange", "client", "config"}
