"""Counters in memory, by a clock that a test turns."""

from collections.abc import AsyncIterator

import pytest

from authz.store.memory import open_memory
from authz.store.store import ServiceStore
from tests.contract.kit import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(clock: Clock) -> AsyncIterator[ServiceStore]:
    store = open_memory(clock)
    await store.start()
    yield store
    await store.close()
