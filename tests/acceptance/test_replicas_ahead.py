"""Three replicas that set units aside, killed one after another: never over, and little lies idle."""

import asyncio
import os
import random
import signal
from collections.abc import Iterator

import pytest

from tests.acceptance.lab import eventually, samples
from tests.acceptance.replicas import LEASE, Crowd, Replicas, audit_set_aside, replicas
from tests.support.redis import RedisServer
from tests.support.service import AuthzService

QUOTA = 200_000
ALLOWANCE = 6_000
LIMIT = f"tokens={QUOTA}/day"
ROUNDS = max(1, int(os.environ.get("AUTHZ_REPLICA_ROUNDS", "10")) // 10)
CLIENTS = 60
DECISIONS, OUTSTANDING = "authz_allowance_decisions_total", "authz_allowance_outstanding"
KEPT = 15  # seconds that a lot is held of which nobody says anything any more


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    scratch = tmp_path_factory.mktemp("ahead")
    limits = {
        "ahead": f"{{unit: tokens, quota: {QUOTA}, window: day, partition_by: [key], allowance: {ALLOWANCE}}}"
    }
    with (
        RedisServer(scratch) as server,
        replicas(scratch, f"{server.url}?budget=1000ms", limits=limits) as at,
    ):
        yield at


def _figure(service: AuthzService, name: str) -> float:
    return sum(samples(service, name).values())


@pytest.mark.timeout(120 * ROUNDS + 120)
def test_never_over_while_replicas_die_that_set_units_aside(at: Replicas) -> None:
    chance = random.Random(7)
    crowds, ahead = [], 0.0
    for _ in range(ROUNDS):
        before = [_figure(each, DECISIONS) for each in at.services]
        crowd = Crowd(at, at.key(), QUOTA, chance)
        victim = chance.choice(at.services)
        asyncio.run(_killing(crowd, victim, chance.uniform(0.5, 1.5)))
        victim.stop()
        victim.start()
        eventually(lambda: not any(_figure(each, OUTSTANDING) for each in at.services), seconds=30)
        asyncio.run(crowd.run(5))  # for what lay idle when the others were refused
        crowds.append(crowd)
        for each, earlier in zip(at.services, before, strict=True):  # of the one killed: since it began again
            ahead += _figure(each, DECISIONS) - (0 if each is victim else earlier)
    counters = "ahead|"
    eventually(
        lambda: all(at.level(each.key, LIMIT, counters).held == 0 for each in crowds),
        seconds=KEPT + LEASE + 30,
    )
    # Of one that is killed: what it had set aside, and what it had spent of it and not told.
    stranded = [audit_set_aside(at, each, LIMIT, counters, 2 * ALLOWANCE) for each in crowds]
    admitted = sum(len(each.admitted) for each in crowds)
    forgotten = sum(len(each.forgotten) for each in crowds)
    print(
        f"\n{ROUNDS} rounds: {admitted} let through, some {ahead:.0f} of them by units set aside; "
        f"{forgotten} forgotten by those killed; units stranded: {stranded}"
    )
    assert ahead > 0.2 * admitted, "beside those that were killed have forgotten"


async def _killing(crowd: Crowd, victim: AuthzService, after: float) -> None:
    running = asyncio.create_task(crowd.run(CLIENTS))
    await asyncio.sleep(after)
    assert victim.process is not None
    victim.process.signal(signal.SIGKILL)
    await running
