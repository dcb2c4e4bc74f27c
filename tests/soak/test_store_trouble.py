"""Redis in trouble for long, on a machine that does nothing else: how long anybody waits, to the millisecond."""

from pathlib import Path

import pytest

from tests.acceptance.store_checks import all_is_known, nobody_unauthorised
from tests.acceptance.store_load import quantile
from tests.acceptance.store_trouble import TROUBLES, Trouble, place, redis_behind_a_proxy, watch

SECONDS = 20.0  # of each of three phases
RATE = 60.0  # requests a second of each policy
INSIDE_MS = 60
BESIDE_MS = 55


@pytest.mark.timeout(900)
@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda each: each.name)
def test_nobody_waits(trouble: Trouble, tmp_path: Path) -> None:
    with redis_behind_a_proxy(tmp_path) as both, place(tmp_path / "authz", *both) as at:
        seen = watch(at, trouble, SECONDS, RATE)
        print(f"\n{seen.table()}")
        nobody_unauthorised(seen)
        all_is_known(at, seen)
    assert seen.longest_wait_ms <= INSIDE_MS
    assert quantile(seen.waits("during"), 0.999) <= quantile(seen.waits("before"), 0.999) + BESIDE_MS
