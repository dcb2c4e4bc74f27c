"""The records of a replica on a real Redis."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

from authz.store.protocols import StoreUnavailable
from authz.store.records import Key
from authz.store.redis.directory import RedisDirectory
from authz.store.redis.records import CommandRecords, ServiceRecords
from authz.store.redis.target import Target
from tests.contract.kit import Clock


@asynccontextmanager
async def replica(url: str, clock: Callable[[], int] | None = None) -> AsyncIterator[ServiceRecords]:
    """Started, and closed at the end."""
    opened = ServiceRecords(Target.parse(url), clock or Clock())
    await opened.start()
    try:
        yield opened
    finally:
        await opened.close()


@contextmanager
def command(url: str, clock: Callable[[], int] | None = None) -> Iterator[CommandRecords]:
    """Another process, as far as the store can tell."""
    opened = CommandRecords(Target.parse(url), clock or Clock())
    try:
        yield opened
    finally:
        opened.close()


async def until(what: Callable[[], bool], *, seconds: float = 30) -> None:
    """Return once `what` holds; what the store cannot say yet does not hold."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        with suppress(StoreUnavailable):
            if what():
                return
        assert loop.time() < deadline, "it did not come to hold"
        await asyncio.sleep(0.005)


def known(directory: RedisDirectory, key: Key) -> Key | None:
    """As the directory knows the key right now. Raises StoreUnavailable."""
    return directory.key(key.digest)
