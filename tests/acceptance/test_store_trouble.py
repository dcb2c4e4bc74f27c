"""Redis stops, dies, crawls or hangs up under load: nobody is let in who may not be, and nobody waits for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.store_checks import all_is_known, nobody_unauthorised
from tests.acceptance.store_load import quantile
from tests.acceptance.store_trouble import TROUBLES, Seen, Trouble, place, redis_behind_a_proxy, watch
from tests.support.redis import RedisServer
from tests.support.toxic import Toxic

SECONDS = 0.9  # of each of three phases
RATE = 40.0  # requests a second of each policy
ROOM_MS = 100  # a busy machine does not make everybody wait alike
ATTEMPTS = 2  # the better one counts: only for how long somebody waited


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RedisServer, Toxic]]:
    with redis_behind_a_proxy(tmp_path_factory.mktemp("redis")) as both:
        yield both


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda each: each.name)
def test_redis_in_trouble(trouble: Trouble, redis: tuple[RedisServer, Toxic], tmp_path: Path) -> None:
    for attempt in range(ATTEMPTS):
        with place(tmp_path / str(attempt), *redis) as at:
            seen = watch(at, trouble, SECONDS, RATE)
            print(f"\n{seen.table()}")
            nobody_unauthorised(seen)
            all_is_known(at, seen)
        if waits_are_short(seen):
            return
    pytest.fail(f"waits were too long, twice:\n{seen.table()}")


def waits_are_short(seen: Seen) -> bool:
    """As in `tests/soak`, but for what this machine alone makes everybody wait."""
    without, meanwhile = (quantile(seen.waits(phase), 0.999) for phase in ("before", "during"))
    machine = seen.stall_ms + ROOM_MS
    return seen.longest_wait_ms <= 60 + machine and meanwhile <= without + 55 + machine
