"""The scripts of Redis beside the engine and the oracle, for long."""

from collections.abc import Iterator

import pytest

from tests.redis.direct import DirectLink
from tests.redis.test_machine import OnRedis, run
from tests.redis.test_scripts_differential import walks
from tests.support.redis import RedisServer

SEEDS = range(1_000, 1_600)
EXAMPLES = 1_000

pytestmark = pytest.mark.timeout(3_600)


@pytest.fixture
def link(server: RedisServer) -> Iterator[DirectLink]:
    link = DirectLink(server.port)
    yield link
    link.connection.disconnect()


def test_every_answer_is_the_engines(link: DirectLink) -> None:
    assert walks(link, SEEDS, 100) >= 60_000


def test_machine(link: DirectLink) -> None:
    OnRedis.link = link
    OnRedis.steps = OnRedis.corrected = OnRedis.expired = 0
    run(OnRedis, EXAMPLES)
    assert OnRedis.steps >= 25_000
