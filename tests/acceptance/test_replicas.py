"""Three replicas, one truth: never over, and nothing leaks, while one after another is killed."""

import asyncio
import os
import random
import signal
import time
from collections.abc import Iterator

import pytest

from tests.acceptance.lab import eventually
from tests.acceptance.replicas import LEASE, Crowd, Replicas, audit, replicas
from tests.support.redis import RedisServer
from tests.support.service import AuthzService

QUOTA = 10_000
LIMIT = f"tokens={QUOTA}/day"
ROUNDS = int(os.environ.get("AUTHZ_REPLICA_ROUNDS", "10"))
CLIENTS = 200


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    scratch = tmp_path_factory.mktemp("replicas")
    with RedisServer(scratch) as server, replicas(scratch, f"{server.url}?budget=1000ms") as at:
        yield at


@pytest.mark.timeout(90 * max(ROUNDS, 10))
def test_never_over_while_replicas_die(at: Replicas) -> None:
    chance = random.Random(5)
    crowds = [_round(at, chance) for _ in range(ROUNDS)]
    eventually(lambda: all(at.level(each.key, LIMIT).held == 0 for each in crowds), seconds=LEASE + 5)
    for crowd in crowds:
        audit(at, crowd, LIMIT)
    admitted = sum(len(each.admitted) for each in crowds)
    print(f"\n{ROUNDS} rounds: {admitted} let through, {sum(each.lost for each in crowds)} answers lost")
    assert admitted > 30 * ROUNDS


def _round(at: Replicas, chance: random.Random) -> Crowd:
    crowd = Crowd(at, at.key(LIMIT), QUOTA, chance)
    victim = chance.choice(at.services)
    most = asyncio.run(_killing(crowd, victim, chance.uniform(0, 0.4)))
    assert most <= QUOTA
    victim.stop()
    victim.start()
    return crowd


async def _killing(crowd: Crowd, victim: AuthzService, after: float) -> int:
    """The most that was charged at any moment at which it was looked."""
    running = asyncio.create_task(crowd.run(CLIENTS))
    killed = False
    begun, most = time.monotonic(), 0
    while not running.done():
        if not killed and time.monotonic() - begun >= after:
            assert victim.process is not None
            victim.process.signal(signal.SIGKILL)
            killed = True
        level = await asyncio.to_thread(crowd.at.level, crowd.key, LIMIT)
        most = max(most, QUOTA - level.remaining)
        await asyncio.sleep(0.05)
    await running
    return most
