"""A revoked key is refused by every replica: soon, and within a stated time where no message arrives."""

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager

from msgspec.structs import replace

from authz.store.records import Key
from authz.store.redis.changes import CHANNEL
from authz.store.redis.directory import FOLLOW_MS, RedisDirectory
from authz.store.redis.records import CommandRecords
from tests.contract.kit import NOON
from tests.contract.test_records import a_key
from tests.redis.records_kit import command, known, replica, until
from tests.support.redis import RedisCluster, RedisServer

TRIALS = 20
WITHIN_S = 1.0
LOOKS = 200  # by each replica, before it lets others have their turn


class Gate:
    """Asks a replica's directory again and again, as requests do, and knows when it let the key in last."""

    def __init__(self, directory: RedisDirectory) -> None:
        self._directory = directory
        self.key = a_key()
        self.last_allow = 0.0
        self.refuses = True

    def admit(self, key: Key) -> None:
        self.key, self.refuses = key, True

    async def ask(self) -> None:
        while True:
            for _ in range(LOOKS):
                found = known(self._directory, self.key)
                self.refuses = found is None or found.revoked_at is not None
                if not self.refuses:
                    self.last_allow = time.monotonic()
            await asyncio.sleep(0.001)


def revoke(operator: CommandRecords, key: Key) -> float:
    """When it returned, by the clock of the event loop."""
    operator.registry.put_key(key)
    return time.monotonic()


class Stall:
    """The longest that this process did not get its turn: then no replica in it could do anything."""

    def __init__(self) -> None:
        self.worst = 0.0

    async def watch(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.005)
            self.worst = max(self.worst, time.monotonic() - before - 0.005)


async def worst_lag(writing: str, reading: str, trials: int) -> float:
    """How long after a revocation returned the last of three replicas let the key in, at most; in seconds.

    Without what this process was held up.
    """
    found, stall = [], Stall()
    with command(writing) as operator:
        async with AsyncExitStack() as stack:
            replicas = [await stack.enter_async_context(replica(reading)) for _ in range(3)]
            gates = [Gate(each.directory) for each in replicas]
            asking = [asyncio.create_task(each) for each in (*(gate.ask() for gate in gates), stall.watch())]
            for number in range(trials):
                key = a_key(f"{number:05d}")
                operator.registry.add_key(key)
                for gate in gates:
                    gate.admit(key)
                await until(lambda: not any(gate.refuses for gate in gates))
                returned = await asyncio.to_thread(revoke, operator, replace(key, revoked_at=NOON))
                await until(lambda: all(gate.refuses for gate in gates))
                found.append(max(0.0, max(gate.last_allow for gate in gates) - returned))
            for task in asking:
                assert not task.done(), "no look-up failed"
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
    found.sort()
    figures = f"p50 {found[len(found) // 2] * 1000:.1f} ms, p100 {found[-1] * 1000:.1f} ms"
    print(f"the last allow after {len(found)} revocations: {figures}", file=sys.stderr)
    return found[-1] - stall.worst


@contextmanager
def deaf(server: RedisServer) -> Iterator[str]:
    """The URL of a user who hears of nothing."""
    server.call("ACL", "SETUSER", "deaf", "on", ">word", "~*", "+@all", "resetchannels")
    try:
        yield f"redis://deaf:word@{server.address}/0"
    finally:
        server.call("ACL", "DELUSER", "deaf")


async def test_the_last_allow_on_any_replica(server: RedisServer) -> None:
    assert await worst_lag(server.url, server.url, TRIALS) <= WITHIN_S


async def test_the_last_allow_on_any_replica_of_a_cluster(cluster: RedisCluster) -> None:
    assert await worst_lag(cluster.url, cluster.url, TRIALS // 4) <= WITHIN_S


async def test_without_messages_it_takes_the_stated_time(server: RedisServer) -> None:
    """Nobody can subscribe, so that all is found by looking."""
    with deaf(server) as url:
        assert await worst_lag(server.url, url, TRIALS // 2) <= FOLLOW_MS / 1000
        assert server.call("PUBSUB", "NUMSUB", CHANNEL)[1] == 0


async def test_who_may_not_publish_revokes_all_the_same(server: RedisServer) -> None:
    with deaf(server) as url:
        assert await worst_lag(url, server.url, 3) <= FOLLOW_MS / 1000


async def test_a_channel_that_breaks_all_the_time_loses_nothing(server: RedisServer) -> None:
    async def spoil() -> None:
        while True:
            await asyncio.to_thread(server.call, "CLIENT", "KILL", "TYPE", "pubsub")
            await asyncio.sleep(0.05)

    spoiling = asyncio.create_task(spoil())
    try:
        assert await worst_lag(server.url, server.url, TRIALS // 4) <= FOLLOW_MS / 1000
    finally:
        spoiling.cancel()
        await asyncio.gather(spoiling, return_exceptions=True)
