"""One redis-server for each test process, empty before each test."""

from collections.abc import Iterator

import pytest

from tests.support.redis import RedisCluster, RedisServer
from tests.support.redis_binary import redis_server, version


def pytest_report_header() -> str:
    return version(redis_server())[0]


@pytest.fixture(scope="session")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def server(_server: RedisServer) -> RedisServer:
    """Shared: a test that stops it, or changes its settings, starts its own."""
    _server.call("FLUSHALL")
    return _server


@pytest.fixture(scope="session")
def _cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    with RedisCluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def cluster(_cluster: RedisCluster) -> RedisCluster:
    """Three masters; shared as `server` is."""
    _cluster.flush()
    return _cluster
