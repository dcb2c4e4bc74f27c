"""What is owed to a counter stays free beside what the store knows, and changes nothing else, on every store."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from authz.quota import Unit
from authz.store.protocols import Exhausted, Hold, Level, Reserved
from authz.store.store import ServiceStore
from tests.contract.kit import DAY, HOUR, MINUTE, NOON, Clock, calendar, fixed, gcra, sliding, slot, tokens

TTL = 3 * DAY
KINDS = [
    pytest.param(gcra(100, 0, unit=Unit.TOKENS), id="gcra"),
    pytest.param(fixed(100, 0), id="fixed"),
    pytest.param(sliding(100, 0), id="sliding"),
    pytest.param(calendar(100, 0, NOON), id="calendar"),
]
DAILY = [
    pytest.param(lambda now: fixed(100, 0, key="day", window=DAY), id="fixed"),
    pytest.param(lambda now: calendar(100, 0, now, key="day"), id="calendar"),
]


async def reserve(store: ServiceStore, name: str, hold: Hold, amount: int) -> Reserved | Exhausted:
    return await store.counters.reserve(name, "edge", [replace(hold, amount=amount)], TTL)


async def level(store: ServiceStore, hold: Hold) -> Level:
    (one,) = (await store.counters.peek([replace(hold, amount=0)])).levels
    return one


# -- what it does not change ---------------------------------------------------------------------------


@pytest.mark.parametrize("daily", DAILY)
async def test_a_settlement_after_the_turn_carries_the_debt_of_the_whole_quota(
    store: ServiceStore, clock: Clock, daily: Callable[[int], Hold]
) -> None:
    whole = daily(clock.now)
    await reserve(store, "a", whole, 10)
    await reserve(store, "b", replace(whole, owed=80), 10)
    await store.counters.settle("a", "edge", tokens(300))
    clock.pass_(DAY)
    done = await store.counters.settle("b", "edge", tokens(11))
    assert done.levels[0].remaining == 0
    assert await level(store, daily(clock.now)) == done.levels[0]


@pytest.mark.parametrize("daily", DAILY)
@pytest.mark.parametrize(
    ("used", "left"), [(300, 0), (150, 50), (90, 100)], ids=["a-quota", "half-of-it", "none-of-it"]
)
async def test_whoever_comes_first_after_the_turn_carries_it_too(
    store: ServiceStore, clock: Clock, daily: Callable[[int], Hold], used: int, left: int
) -> None:
    await reserve(store, "a", daily(clock.now), 10)
    await store.counters.settle("a", "edge", tokens(used))
    clock.pass_(DAY)
    whole = daily(clock.now)
    first = await reserve(store, "b", replace(whole, owed=60), 1)
    assert isinstance(first, Reserved) == (left > 60)
    await reserve(store, "c", replace(whole, owed=60, shadow=True), 0)
    assert (await level(store, whole)).remaining == left - (left > 60)


@pytest.mark.parametrize("whole", KINDS)
async def test_a_settlement_tells_of_the_whole_quota(store: ServiceStore, whole: Hold) -> None:
    """Who owes what by then, the store does not know."""
    await reserve(store, "a", replace(whole, owed=60), 30)
    done = await store.counters.settle("a", "edge", tokens(20))
    assert done.holds == (replace(whole, amount=30),)
    assert done.levels == (await level(store, whole),)
    assert done.levels[0].remaining == 80


# -- what it changes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("whole", KINDS)
async def test_what_is_owed_is_kept_free(store: ServiceStore, whole: Hold) -> None:
    await reserve(store, "a", whole, 30)
    less = replace(whole, owed=60)
    refused = await reserve(store, "b", less, 11)
    assert isinstance(refused, Exhausted)
    assert (refused.denied, refused.levels[0].remaining, refused.levels[0].held) == ((0,), 10, 30)
    assert refused == await store.counters.peek([replace(less, amount=11)])
    made = await reserve(store, "c", less, 10)
    assert isinstance(made, Reserved)
    assert (made.levels[0].remaining, made.levels[0].held) == (0, 40)
    assert (await level(store, whole)).remaining == 60
    assert isinstance(await reserve(store, "d", whole, 60), Reserved)


@pytest.mark.parametrize(
    ("whole", "wait"),
    [
        pytest.param(gcra(60, 0, unit=Unit.TOKENS), 5000, id="gcra"),
        pytest.param(fixed(60, 0), MINUTE, id="fixed"),
        pytest.param(sliding(60, 0), 61_000, id="sliding"),
        pytest.param(calendar(60, 0, NOON), DAY, id="calendar"),
    ],
)
async def test_it_fits_once_what_the_store_knows_leaves_that_free(
    store: ServiceStore, clock: Clock, whole: Hold, wait: int
) -> None:
    await reserve(store, "a", whole, 30)
    less = replace(whole, owed=20)
    refused = await reserve(store, "b", less, 15)
    assert isinstance(refused, Exhausted)
    assert refused.wait_ms == wait
    clock.pass_(wait - 1)
    assert isinstance(await reserve(store, "c", less, 15), Exhausted)
    clock.pass_(1)
    assert isinstance(await reserve(store, "d", less, 15), Reserved)


@pytest.mark.parametrize("whole", KINDS)
async def test_more_than_it_leaves_never_fits(store: ServiceStore, whole: Hold) -> None:
    for owed, amount in ((60, 41), (100, 1)):
        refused = await reserve(store, "a", replace(whole, owed=owed), amount)
        assert isinstance(refused, Exhausted)
        assert (refused.wait_ms, refused.levels[0]) == (-1, Level(100 - owed, refused.levels[0].reset_ms))


@pytest.mark.parametrize("whole", KINDS)
async def test_a_limit_on_trial_tells_that_it_would_have_refused(store: ServiceStore, whole: Hold) -> None:
    made = await reserve(store, "a", replace(whole, owed=60, shadow=True), 41)
    assert isinstance(made, Reserved)
    assert (made.over, made.levels[0].remaining) == ((0,), 0)
    assert (await level(store, whole)).remaining == 59


async def test_slots_are_kept_free_as_well(store: ServiceStore, clock: Clock) -> None:
    less = replace(slot(3), owed=1)
    for name in ("a", "b"):
        assert isinstance(await store.counters.reserve(name, "edge", [less], HOUR), Reserved)
        clock.pass_(MINUTE)
    refused = await store.counters.reserve("c", "edge", [less], HOUR)
    assert isinstance(refused, Exhausted)
    assert (refused.wait_ms, refused.levels[0].remaining, refused.levels[0].held) == (HOUR - 2 * MINUTE, 0, 2)
    none = await store.counters.reserve("c", "edge", [replace(less, owed=3)], HOUR)
    assert isinstance(none, Exhausted)
    assert none.wait_ms == -1
    assert isinstance(await store.counters.reserve("c", "edge", [slot(3)], HOUR), Reserved)
