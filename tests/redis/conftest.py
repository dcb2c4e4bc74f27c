"""The scripts of a server of the test's own process, by a clock of its own."""

from collections.abc import AsyncIterator, Iterator

import pytest

from authz.store.redis.counters import RedisCounters
from authz.store.redis.link_calls import Caller
from tests.contract.kit import Clock
from tests.redis.allowance_kit import Replica
from tests.redis.direct import DirectLink
from tests.redis.link_kit import PATIENT, linked
from tests.support.redis import RedisServer


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def link(server: RedisServer) -> Iterator[DirectLink]:
    link = DirectLink(server.port)
    yield link
    link.connection.disconnect()


@pytest.fixture
def counters(link: DirectLink, clock: Clock) -> RedisCounters:
    return RedisCounters(link, clock)


@pytest.fixture
async def wire(server: RedisServer) -> AsyncIterator[Caller]:
    """A link as a service has it."""
    async with linked(server.url + PATIENT) as link:
        yield link


@pytest.fixture
def replica(wire: Caller, clock: Clock) -> Replica:
    return Replica(wire, clock)
