"""The scripts of a server of the test's own process, by a clock of its own."""

from collections.abc import Iterator

import pytest

from authz.store.redis.counters import RedisCounters
from tests.contract.kit import Clock
from tests.redis.direct import DirectLink
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
