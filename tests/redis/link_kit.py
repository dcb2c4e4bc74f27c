"""A link for a test: scripts that count how often they ran, patience, and a measure of our own delays."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from authz.store.protocols import StoreUnavailable
from authz.store.redis.link import Undo
from authz.store.redis.link_calls import Caller
from authz.store.redis.link_open import open_link
from authz.store.redis.script import Script
from authz.store.redis.target import Target

PATIENT = "?budget=10000ms"
"""For what is not about time: on a busy machine Redis takes as long as it takes."""

ECHO = Script("echo", "return ARGV[1]")
ONCE = Script(
    "once",
    """
    if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then return -1 end
    return redis.call('HINCRBY', KEYS[1], ARGV[1], 1)
    """,
)
"""Counts how often an id ran: `ran(...)`. -1: it was undone before."""

UNDO = Script("undo", "redis.call('HDEL', KEYS[1], ARGV[1]) return redis.call('HSET', KEYS[2], ARGV[1], 1)")


def places(shard: str = "0") -> list[str]:
    """The keys of ONCE and UNDO."""
    return [f"az:{{{shard}}}:ran", f"az:{{{shard}}}:undone"]


def once(link: Caller, id: str, *, shard: str = "0", undo: bool = False) -> asyncio.Future[Any]:
    keys = places(shard)
    return link.run(ONCE, keys, [id], undo=Undo(UNDO, keys, [id]) if undo else None)


@asynccontextmanager
async def linked(url: str) -> AsyncIterator[Caller]:
    link = open_link(Target.parse(url))
    await link.start()
    try:
        yield link
    finally:
        await link.close()


async def outcome(future: "asyncio.Future[Any]") -> Any:
    """The reply, or what StoreUnavailable says. Nothing else may be raised."""
    try:
        return await future
    except StoreUnavailable as error:
        return str(error)


async def outcomes(futures: "Iterable[asyncio.Future[Any]]") -> list[Any]:
    return [await outcome(future) for future in futures]


async def until(what: Callable[[], Any], *, seconds: float = 60) -> float:
    """How long it took."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    while not what():
        if loop.time() - begun > seconds:
            raise AssertionError(f"not within {seconds} s")
        await asyncio.sleep(0.005)
    return loop.time() - begun


class Lag:
    """How late this very event loop was at most: on a busy machine that is not the link's doing."""

    def __init__(self) -> None:
        self.worst = 0.0

    async def __aenter__(self) -> "Lag":
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + 0.002
            await asyncio.sleep(0.002)
            self.worst = max(self.worst, loop.time() - due)

    @property
    def slack(self) -> float:
        """For a wait that begins, ends and is measured on a loop as late as that."""
        return 3 * self.worst
