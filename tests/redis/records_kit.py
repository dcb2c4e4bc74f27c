"""The records of a replica on a real Redis."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from authz.store.redis.records import ServiceRecords
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
