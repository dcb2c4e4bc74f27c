"""A Redis that would give quotas back, or is nearly full of counters, is told of: at the start and later."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from authz.store.open import open_store
from authz.store.redis import settings
from authz.store.redis.link_open import open_link
from authz.store.redis.settings import Watch
from authz.store.redis.target import Target
from tests.redis.link_kit import PATIENT
from tests.redis.records_kit import until
from tests.support.redis import RedisServer


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "AGAIN_S", 0.02)


def told_by(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]


@asynccontextmanager
async def watched(server: RedisServer, most_counters: int = 5_000_000) -> AsyncIterator[Watch]:
    link = open_link(Target.parse(f"{server.url}{PATIENT}"))
    watch = Watch(link, most_counters)
    await link.start()
    await watch.start()
    try:
        yield watch
    finally:
        await watch.close()
        await link.close()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        pytest.param(("appendonly", "yes"), [], id="as-it-should-be"),
        pytest.param(("appendonly", "no"), ["append-only"], id="no-file"),
        pytest.param(
            ("appendonly", "yes", "maxmemory", "64mb", "maxmemory-policy", "allkeys-lru"),
            ["maxmemory-policy allkeys-lru"],
            id="evicts",
        ),
        pytest.param(("appendonly", "yes", "maxmemory-policy", "allkeys-lru"), [], id="without-bound"),
    ],
)
async def test_what_is_doubtful_is_logged(
    options: tuple[str, ...], told: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with RedisServer(tmp_path, *options) as server:
        store = open_store(f"{server.url}{PATIENT}")
        await store.start()
        await store.close()
    warnings = told_by(caplog)
    assert len(warnings) == len(told), warnings
    for words, warning in zip(told, warnings, strict=True):
        assert words in warning


def counts(caplog: pytest.LogCaptureFixture, words: str) -> int:
    return sum(words in warning for warning in told_by(caplog))


@pytest.mark.usefixtures("hurried")
async def test_a_redis_that_comes_later_is_looked_at(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = RedisServer(tmp_path, "maxmemory", "64mb", "maxmemory-policy", "allkeys-lru")
    async with watched(server):
        assert counts(caplog, "append-only") == 0
        with server:
            await until(lambda: counts(caplog, "append-only") == 1 == counts(caplog, "allkeys-lru"))


@pytest.mark.usefixtures("hurried")
async def test_one_that_comes_back_otherwise_is_looked_at_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with RedisServer(tmp_path, "appendonly", "yes") as server:
        async with watched(server) as watch:
            assert counts(caplog, "append-only") == 0
            server.kill()
            await until(lambda: watch._due == 0.0)
            server.options += ["appendonly", "no"]
            server.restart()
            await until(lambda: counts(caplog, "append-only") == 1)


@pytest.mark.usefixtures("hurried")
async def test_a_doubt_is_told_once_and_again_when_it_returns(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "EVERY_S", 0.0)

    def looks() -> int:
        """INFO commands that were asked for since the last call."""
        stats = server.call("INFO", "commandstats").decode()
        server.call("CONFIG", "RESETSTAT")
        return int(stats.partition("cmdstat_dbsize:calls=")[2].partition(",")[0] or 0)

    async def looked() -> None:
        seen = 0

        def several() -> bool:
            nonlocal seen
            seen += looks()
            return seen >= 3

        await until(several)

    with RedisServer(tmp_path) as server:
        async with watched(server):
            for times in (1, 2):
                server.call("CONFIG", "SET", "appendonly", "no")
                await until(lambda: counts(caplog, "append-only") == times)  # noqa: B023
                await looked()
                assert counts(caplog, "append-only") == times
                server.call("CONFIG", "SET", "appendonly", "yes")
                await looked()


@pytest.mark.usefixtures("hurried")
async def test_one_that_fills_with_counters_is_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "EVERY_S", 0.0)
    with RedisServer(tmp_path, "appendonly", "yes") as server:
        server.call("MSET", *[word for number in range(399) for word in (f"az:{number}", "")])
        async with watched(server, most_counters=1000):
            assert told_by(caplog) == []
            server.call("SET", "az:one-more", "")
            await until(lambda: counts(caplog, "most_counters") == 1)
