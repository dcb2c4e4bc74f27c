"""What this replica owes the store stays free there meanwhile, and changes nothing but that."""

from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from authz.store.backlog import Backlog, Waiting
from authz.store.protocols import Exhausted, Hold, Reserved
from tests.contract.kit import DAY, NOON, fixed, slot, tokens
from tests.store.switched import ALLOW, DENY, LOCAL, TTL, Site, Way, admit, back

DAILY = fixed(100, 60, window=DAY, on_failure=LOCAL)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    made = Site()
    yield made
    await made.counters.close()
    await made.store.close()


def test_each_hold_says_what_is_owed_to_its_counter_at_most_its_quota() -> None:
    backlog, limit = Backlog(9), fixed(100, 80, on_failure=ALLOW)
    for name in ("a", "b"):
        backlog.add(Waiting(name, name, "edge", (limit, slot(3)), b"", NOON, NOON + TTL))
    asked = [fixed(200, 1), fixed(100, 0, shadow=True), slot(1), fixed(100, key="other")]
    told = [replace(hold, owed=owed) for hold, owed in zip(asked, (160, 100, 1, 0), strict=True)]
    assert backlog.less_owed(asked) == told


async def test_quotas_are_less_by_what_is_still_owed(site: Site) -> None:
    """Else the first requests after the trouble would spend once more what was spent in it."""
    await admit(site, DAILY)
    site.way.way = Way.UP
    refused = await site.ask(fixed(100, 41, window=DAY, on_failure=DENY))
    assert isinstance(refused, Exhausted)
    assert refused.levels[0].remaining == 40
    assert (await site.ask(fixed(100, 70, window=DAY))) == Exhausted((0,), 1000, refused.levels)
    never = await site.ask(fixed(100, 101, window=DAY))
    assert isinstance(never, Exhausted)
    assert never.wait_ms == -1
    assert isinstance(await site.ask(fixed(100, 40, window=DAY)), Reserved)
    await back(site)
    assert await site.left(DAILY) == 0


@pytest.mark.parametrize(
    ("asked", "carried"),
    [
        pytest.param(fixed(100, 0, window=DAY), 100, id="nothing"),
        pytest.param(fixed(100, 9, window=DAY, shadow=True), 100, id="on-trial"),
        pytest.param(fixed(100, 9, window=DAY), 50, id="what-fits"),
    ],
)
async def test_no_debt_is_forgiven_while_something_is_owed(site: Site, asked: Hold, carried: int) -> None:
    await site.ask(DAILY)
    await site.counters.settle("r1", "edge", tokens(100 + carried))
    site.clock.pass_(DAY)
    await admit(site, fixed(100, 20, window=DAY, on_failure=ALLOW))
    site.way.way = Way.UP
    assert isinstance(await site.ask(asked), Reserved)
    assert await site.left(DAILY) == max(0, 100 - carried - asked.amount)


async def test_one_that_was_let_in_beside_what_was_owed_settles_as_any_other(site: Site) -> None:
    """Its hold outlives what was owed, and carries the debt of its day into the next one."""
    await site.ask(fixed(100, 10, window=DAY))
    name = await admit(site, fixed(100, 80, window=DAY, on_failure=ALLOW))
    site.way.way = Way.UP
    assert isinstance(await site.ask(fixed(100, 5, window=DAY)), Reserved)
    await site.counters.settle(name, "edge", tokens(0))
    await back(site)
    told = (await site.counters.settle("r1", "edge", tokens(300))).levels
    assert told[0].remaining == 0
    site.clock.pass_(DAY)
    told = (await site.counters.settle("r3", "edge", tokens(6))).levels
    assert told[0].remaining == 0
    assert await site.left(DAILY) == 0, "the debt of the day before takes all of this one"


async def test_a_settlement_meanwhile_tells_how_the_counter_stands_less_what_is_owed_by_then(
    site: Site,
) -> None:
    limit = fixed(100, 10, window=DAY, on_failure=LOCAL)
    await admit(site, replace(limit, amount=30))
    site.way.way = Way.UP
    assert isinstance(await site.ask(limit), Reserved)
    told = await site.counters.settle("r2", "edge", tokens(4))
    assert (told.holds, told.levels[0].remaining) == ((limit,), 96)
    site.way.way = Way.DOWN
    assert await site.fill(replace(limit, amount=1)) == 66


async def test_an_answer_meanwhile_tells_so_too(site: Site) -> None:
    limit = fixed(100, 10, window=DAY, on_failure=LOCAL)
    await admit(site, replace(limit, amount=30))
    site.way.way = Way.UP
    made = await site.ask(limit)
    assert isinstance(made, Reserved)
    assert made.levels[0].remaining == 60
    site.way.way = Way.DOWN
    assert await site.fill(replace(limit, amount=1)) == 60
