"""Revocations under load, many: `tests/redis/test_revocation.py` tries a few."""

import pytest

from authz.store.redis.directory import FOLLOW_MS
from tests.redis.test_revocation import WITHIN_S, deaf, worst_lag
from tests.support.redis import RedisServer

TRIALS = 200

pytestmark = pytest.mark.timeout(3_600)


async def test_the_last_allow_on_any_replica(server: RedisServer) -> None:
    assert await worst_lag(server.url, server.url, TRIALS) <= WITHIN_S


async def test_without_messages_it_takes_the_stated_time(server: RedisServer) -> None:
    with deaf(server) as url:
        assert await worst_lag(server.url, url, TRIALS) <= FOLLOW_MS / 1000
