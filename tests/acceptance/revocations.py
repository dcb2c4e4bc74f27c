"""Keys revoked while three real replicas are asked with them: when each let them in last."""

import asyncio
import random
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import replace

from authz.store.open import wall_clock
from tests.acceptance.replicas import TOKEN, Replicas, replicas
from tests.support.asking import Asker
from tests.support.redis import RedisServer

WITHIN_S = 1.0
LOAD = 6  # clients of another key, that keep the replicas busy
ASKERS = 2  # for each replica, with the key that will be revoked
PATIENCE_S = 60.0
_ASKED = {"model": "sim", "messages": [{"role": "user", "content": "x"}], "max_tokens": 8}


@dataclass
class Lags:
    """Of each revocation: seconds from its return to the last answer that let the key in, 0 if none did."""

    found: list[float] = field(default_factory=list)
    asked: int = 0  # with the keys that were revoked
    loaded: int = 0  # with the other one, meanwhile

    def __str__(self) -> str:
        found = sorted(self.found)
        middle, last = found[len(found) // 2] * 1000, found[-1] * 1000
        return (
            f"{len(found)} revocations, {self.asked} asked with them and {self.loaded} beside: "
            f"the last allow after {middle:.0f} ms (p50), {last:.0f} ms (p100)"
        )


@dataclass
class _Trial:
    key: str
    let_in: dict[int, float] = field(default_factory=dict)  # by replica: when an allow was asked for last
    refused: set[int] = field(default_factory=set)
    over: bool = False


def measure(scratch: Path, server: RedisServer, store: str, trials: int) -> Lags:
    """Three replicas on `store`; keys are made and revoked at the server itself."""
    with ExitStack() as stack:
        at = stack.enter_context(replicas(scratch, store))
        lags = Lags()
        asyncio.run(_trials(at, lags, trials))
        return lags


async def _trials(at: Replicas, lags: Lags, trials: int) -> None:
    other = at.key().key
    busy = [asyncio.create_task(_load(at, other, lags)) for _ in range(LOAD)]
    try:
        for _ in range(trials):
            lags.found.append(await _one(at, lags))
        assert not any(task.done() for task in busy), "no other key is refused meanwhile"
    finally:
        for task in busy:
            task.cancel()
        await asyncio.gather(*busy, return_exceptions=True)


async def _load(at: Replicas, key: str, lags: Lags) -> None:
    async with Asker(random.choice(at.services).http, TOKEN) as asker:
        while True:
            told = await asker.ask(key, _ASKED)
            assert told.status == 200, told
            lags.loaded += 1
            await asyncio.sleep(0.01)


async def _one(at: Replicas, lags: Lags) -> float:
    minted = await asyncio.to_thread(at.key)
    trial = _Trial(minted.key)
    asking = [
        asyncio.create_task(_ask(trial, number, service.http, lags))
        for number, service in enumerate(at.services)
        for _ in range(ASKERS)
    ]
    try:
        async with asyncio.timeout(PATIENCE_S):
            while len(trial.let_in) < len(at.services):
                await asyncio.sleep(0.01)
            returned = await asyncio.to_thread(_revoke, at, minted.id)
            trial.refused.clear()
            while len(trial.refused) < len(at.services):
                await asyncio.sleep(0.01)
    finally:
        trial.over = True
        for task in asking:
            await task
    return max(0.0, *[last - returned for last in trial.let_in.values()])


def _revoke(at: Replicas, id: str) -> float:
    """When it returned."""
    registry = at.view.registry
    registry.put_key(replace(registry.find_key(id), revoked_at=wall_clock()))
    return time.monotonic()


async def _ask(trial: _Trial, number: int, port: int, lags: Lags) -> None:
    """What counts is when it was asked: an answer may be on its way for a while."""
    async with Asker(port, TOKEN) as asker:
        while not trial.over:
            begun = time.monotonic()
            told = await asker.ask(trial.key, _ASKED)
            lags.asked += 1
            if told.status == 200:
                trial.let_in[number] = max(begun, trial.let_in.get(number, 0.0))
            else:
                assert told.status == 401, told
                trial.refused.add(number)
            await asyncio.sleep(0.005)
