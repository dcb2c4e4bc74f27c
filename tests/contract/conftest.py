"""Every store, on an injected clock."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from authz.store.open import open_store
from authz.store.protocols import StoreUnavailable
from authz.store.redis.store import RedisStore
from authz.store.store import ServiceStore
from tests.contract.kit import Clock, reached
from tests.support.redis import RedisCluster, RedisServer


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "sqlite", "redis", "cluster"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    match request.param:
        case "memory":
            return "memory://"
        case "sqlite":
            return f"sqlite://{tmp_path}/authz.db"
        case "redis":
            server: RedisServer = request.getfixturevalue("server")
            return f"{server.url}?budget=10000ms"
        case _:
            cluster: RedisCluster = request.getfixturevalue("cluster")
            return f"{cluster.url}?budget=10000ms"


@pytest.fixture
async def store(url: str, clock: Clock) -> AsyncIterator[ServiceStore]:
    opened = open_store(url, clock=clock)
    if isinstance(opened, RedisStore):
        await opened.start()
        await reached(partial(usable, opened))
    yield opened
    await opened.close()


async def usable(store: ServiceStore) -> None:
    """Raises StoreUnavailable while it is not."""
    if store.trouble is not None:
        raise StoreUnavailable(store.trouble)
