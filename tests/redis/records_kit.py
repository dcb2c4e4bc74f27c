"""The records of a replica on a real Redis."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from authz.store.redis.records import ServiceRecords
from tests.contract.kit import Clock

SECOND = {"socket_timeout": 1, "socket_connect_timeout": 1}


def clients(port: int) -> tuple[Any, Any]:
    """An asynchronous one for what is behind decisions, and a synchronous one."""
    behind = redis.asyncio.Redis(port=port, protocol=2, retry=Retry(NoBackoff(), 0), **SECOND)
    return behind, redis.Redis(port=port, protocol=2, socket_timeout=10)


@asynccontextmanager
async def replica(port: int, clock: Callable[[], int] | None = None) -> AsyncIterator[ServiceRecords]:
    """Started, and closed at the end."""
    opened = ServiceRecords(*clients(port), clock or Clock())
    await opened.start()
    try:
        yield opened
    finally:
        await opened.close()
