"""Revocations under load, many: `tests/redis` and `tests/acceptance` try a few."""

from pathlib import Path

import pytest

from authz.store.redis.directory import FOLLOW_MS
from tests.acceptance.revocations import measure
from tests.redis.test_revocation import WITHIN_S, deaf, worst_lag
from tests.support.redis import RedisServer

TRIALS = 200

pytestmark = pytest.mark.timeout(3_600)


async def test_the_last_allow_on_any_replica(server: RedisServer) -> None:
    assert await worst_lag(server.url, server.url, TRIALS) <= WITHIN_S


async def test_without_messages_it_takes_the_stated_time(server: RedisServer) -> None:
    with deaf(server) as url:
        assert await worst_lag(server.url, url, TRIALS) <= FOLLOW_MS / 1000


def test_the_last_allow_of_three_processes(tmp_path: Path, server: RedisServer) -> None:
    lags = measure(tmp_path, server, f"{server.url}?budget=10000ms", TRIALS)
    print(f"\n{lags}")
    assert max(lags.found) <= WITHIN_S


def test_the_last_allow_of_three_processes_that_hear_of_nothing(tmp_path: Path, server: RedisServer) -> None:
    with deaf(server) as url:
        lags = measure(tmp_path, server, f"{url}?budget=10000ms", TRIALS)
    print(f"\n{lags}")
    assert max(lags.found) <= FOLLOW_MS / 1000
