"""What every store does with records, refusals and trials, on Redis."""

from collections.abc import AsyncIterator

import pytest

from authz.store.redis import denials as bounds
from authz.store.redis.records import ServiceRecords
from tests.contract import test_denials, test_records
from tests.contract.kit import Clock
from tests.redis.records_kit import replica
from tests.support.redis import RedisCluster, RedisServer

for _name in dir(test_records):
    if _name.startswith("test_") and _name != "test_counter_levels_are_there_for_commands":
        globals()[_name] = getattr(test_records, _name)
for _name in dir(test_denials):
    if _name.startswith("test_"):
        globals()[_name] = getattr(test_denials, _name)


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def _written(store: ServiceRecords) -> None:
    await store.written()


@pytest.fixture(params=["server", "cluster"])
def place(request: pytest.FixtureRequest) -> RedisServer | RedisCluster:
    found: RedisServer | RedisCluster = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def store(
    place: RedisServer | RedisCluster, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ServiceRecords]:
    for module in (test_records, test_denials):
        monkeypatch.setattr(module, "settled", _written)
    monkeypatch.setattr(test_denials, "denials", bounds)
    async with replica(place.url, clock) as opened:
        yield opened
