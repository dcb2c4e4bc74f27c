"""Callers that never rest, and what must be true of all that they asked for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from authz.store.redis.link_calls import Caller
from tests.redis.link_kit import Lag, linked, once, outcome, places, until
from tests.support.redis import RedisServer


class Load:
    """Callers that ask all the time, each the next thing when it has its answer."""

    def __init__(self, link: Caller, shard: str = "0") -> None:
        self.link = link
        self.shard = shard
        self.served = 0
        self.failed = 0
        self.waits: list[float] = []  # seconds, of every call
        self.replies: dict[str, Any] = {}
        self._number = 0
        self._forgotten = 0

    async def caller(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._number = number = self._number + 1
            begun = loop.time()
            reply = await outcome(once(self.link, str(number), shard=self.shard, undo=True))
            self.replies[str(number)] = reply
            if number > self._forgotten:
                self.waits.append(loop.time() - begun)
                self.served += reply == 1
                self.failed += reply != 1
            await asyncio.sleep(0 if reply == 1 else 0.002)

    def forget(self) -> None:
        """Count from here only what is asked from here: an answer may be on its way to its caller."""
        self._forgotten = self._number
        self.waits.clear()
        self.served = self.failed = 0


@asynccontextmanager
async def loaded(url: str, callers: int = 8, shard: str = "0") -> AsyncIterator[tuple[Caller, Load, Lag]]:
    async with linked(url) as link, Lag() as lag:
        load = Load(link, shard)
        tasks = [asyncio.create_task(load.caller()) for _ in range(callers)]
        await until(lambda: load.served > 100)
        try:
            yield link, load, lag
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


async def settled(link: Caller, load: Load, server: RedisServer) -> None:
    """What was promised ran once, and what was not is undone. `server` has the shard."""
    await until(lambda: link.trouble is None)
    await until(lambda: link.owed == 0)
    assert link.given_up == 0
    ran, undone = places(load.shard)
    counts = dict(zip(*[iter(server.call("HGETALL", ran))] * 2, strict=True))
    taken_back = set(server.call("HKEYS", undone))
    assert set(counts.values()) <= {b"1"}
    kept = {id.decode() for id in counts}
    promised = {id for id, reply in load.replies.items() if reply == 1}
    assert promised <= kept
    assert not taken_back & {id.encode() for id in promised}
    # A call that was cut off at the end of the test has no reply.
    assert kept - promised <= {str(load._number - place) for place in range(64)} - set(load.replies)


async def quiet(load: Load) -> None:
    """Until some calls in a row are served."""
    load.served = 0
    await until(lambda: load.served > 50)
