"""Limits follow their files; a mistake keeps what is in force, and is told."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from authz.ratelimit.in_force import LimitsInForce
from authz.ratelimit.load import load_limits
from authz.store.store import ServiceStore
from tests.ratelimit.kit import ask, d, limiter, put

PATIENCE = 20.0  # seconds; only a failure waits that long
ONE = "domain: d\ndescriptors: [{key: k, rate_limit: {unit: year, requests_per_unit: 1}}]\n"
K = d(("k", "x"))


class Told:
    """Whether each reload was applied."""

    def __init__(self) -> None:
        self._reloads: asyncio.Queue[bool] = asyncio.Queue()

    def __call__(self, applied: bool) -> None:
        self._reloads.put_nowait(applied)

    async def next(self) -> bool:
        return await asyncio.wait_for(self._reloads.get(), PATIENCE)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
async def limits(tmp_path: Path, store: ServiceStore, told: Told) -> AsyncIterator[LimitsInForce]:
    put(tmp_path / "d.yaml", ONE)
    loaded = load_limits(tmp_path)
    limits = LimitsInForce(tmp_path, loaded, limiter(store.counters, loaded.rules), told)
    await limits.start()
    yield limits
    await limits.stop()


async def test_a_changed_file_and_a_new_one(tmp_path: Path, limits: LimitsInForce, told: Told) -> None:
    assert await ask(limits.limiter, "d", K, times=2) == ["k", "o"]
    put(tmp_path / "d.yaml", ONE.replace("unit: 1", "unit: 2"))
    assert await told.next()
    assert await ask(limits.limiter, "d", K, times=2) == ["k", "o"]
    put(tmp_path / "e.yaml", ONE.replace("domain: d", "domain: e"))
    assert await told.next()
    assert await ask(limits.limiter, "e", K, times=2) == ["k", "o"]
    (tmp_path / "d.yaml").unlink()
    assert await told.next()
    assert await ask(limits.limiter, "d", K) == ["k"]


async def test_a_mistake_changes_nothing(tmp_path: Path, limits: LimitsInForce, told: Told) -> None:
    with capture_logs() as logs:
        put(tmp_path / "d.yaml", ONE.replace("year", "years"))
        assert not await told.next()
    (entry,) = logs
    assert entry["event"] == "rate limits not reloaded; the old ones stay in force"
    assert "d.yaml:2:43: `years` is no unit" in entry["problems"][0]
    assert await ask(limits.limiter, "d", K, times=2) == ["k", "o"]
    put(tmp_path / "d.yaml", ONE.replace("unit: 1", "unit: 2"))
    assert await told.next()
    assert await ask(limits.limiter, "d", K, times=2) == ["k", "o"]


async def test_files_that_are_gone_change_nothing(tmp_path: Path, limits: LimitsInForce, told: Told) -> None:
    (tmp_path / "d.yaml").unlink()
    assert not await told.next()
    assert await ask(limits.limiter, "d", K, times=2) == ["k", "o"]
    put(tmp_path / "other.yml", ONE.replace("domain: d", "domain: e"))
    assert await told.next()
    assert await ask(limits.limiter, "d", K) == ["k"]


async def test_reloaded_when_asked(limits: LimitsInForce, told: Told) -> None:
    limits.reload()
    assert await told.next()
