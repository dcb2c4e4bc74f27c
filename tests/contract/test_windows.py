"""Each kind of window at its borders, on every store."""

from collections.abc import Callable
from itertools import count

import pytest

from authz.quota import Unit
from authz.store.protocols import Exhausted, Hold, Outcome, Reserved
from authz.store.store import ServiceStore
from tests.contract.kit import (
    DAY,
    HOUR,
    MINUTE,
    NOON,
    Clock,
    at,
    calendar,
    fixed,
    gcra,
    kept_up,
    settle,
    sliding,
    slot,
)

TTL = 10 * MINUTE
_ids = count()


async def take(store: ServiceStore, *holds: Hold, ttl: int = TTL) -> Reserved | Exhausted:
    return await store.counters.reserve(f"r{next(_ids)}", "edge", holds, ttl)


async def admitted(store: ServiceStore, *holds: Hold) -> bool:
    return isinstance(await take(store, *holds), Reserved)


async def fill(store: ServiceStore, hold: Hold, times: int) -> int:
    return sum([await admitted(store, hold) for _ in range(times)])


async def test_gcra_admits_the_burst_and_then_the_rate(store: ServiceStore, clock: Clock) -> None:
    assert await fill(store, gcra(60), 100) == 60
    clock.pass_(999)
    assert not await admitted(store, gcra(60))
    clock.pass_(1)
    assert await fill(store, gcra(60), 5) == 1
    clock.pass_(10 * MINUTE)
    assert await fill(store, gcra(60), 100) == 60


async def test_gcra_with_a_small_burst(store: ServiceStore, clock: Clock) -> None:
    assert await fill(store, gcra(60, burst=5), 20) == 5
    clock.pass_(3000)
    assert await fill(store, gcra(60, burst=5), 20) == 3


async def test_gcra_says_when_the_next_fits(store: ServiceStore) -> None:
    await fill(store, gcra(60), 60)
    refused = await take(store, gcra(60, 2))
    assert isinstance(refused, Exhausted)
    assert (refused.denied, refused.wait_ms) == ((0,), 2000)
    assert refused.levels[0].remaining == 0
    assert refused.levels[0].reset_ms == MINUTE


@pytest.mark.parametrize("quota", [7, 59, 61, 1_000_003])
async def test_gcra_never_rounds(store: ServiceStore, clock: Clock, quota: int) -> None:
    burst = 3
    admissions = 0
    for _ in range(500):
        clock.pass_(7)
        admissions += await admitted(store, gcra(quota, burst=burst, window=3000))
    assert admissions <= burst + 500 * 7 * quota / 3000


async def test_a_changed_rate_keeps_the_level(store: ServiceStore, clock: Clock) -> None:
    assert await fill(store, gcra(60), 60) == 60
    assert await fill(store, gcra(90), 60) == 30
    clock.pass_(MINUTE)
    assert await fill(store, gcra(60), 100) == 30, "the level of 90 has drained by the 60 that are in force"


async def test_fixed_windows_begin_at_whole_lengths(store: ServiceStore, clock: Clock) -> None:
    clock.now = NOON + 59_999
    assert await fill(store, fixed(3), 5) == 3
    clock.pass_(1)
    assert await fill(store, fixed(3), 5) == 3
    refused = await take(store, fixed(3))
    assert isinstance(refused, Exhausted)
    assert refused.wait_ms == MINUTE


async def test_sliding_is_never_over_in_any_interval(store: ServiceStore, clock: Clock) -> None:
    log: list[int] = []
    for step in range(600):
        clock.pass_(137 + 311 * (step % 3))
        if await admitted(store, sliding(10)):
            log.append(clock.now)
    for begin in log:
        assert sum(begin <= moment < begin + MINUTE for moment in log) <= 10
    assert len(log) >= 0.9 * 10 * (log[-1] - log[0]) / MINUTE


async def test_sliding_frees_each_part_by_itself(store: ServiceStore, clock: Clock) -> None:
    assert await admitted(store, sliding(100, 70))
    clock.pass_(30_000)
    assert await admitted(store, sliding(100, 30))
    refused = await take(store, sliding(100, 50))
    assert isinstance(refused, Exhausted)
    assert refused.wait_ms == 31_000
    clock.pass_(refused.wait_ms - 1)
    assert not await admitted(store, sliding(100, 50))
    clock.pass_(1)
    assert await admitted(store, sliding(100, 50))


CALENDARS = [
    # period, zone, week start, first moment of the window, last moment, hours
    pytest.param(
        "day", "Europe/Helsinki", 0, "2024-03-31 00:00", "2024-03-31 23:59:59.999", 23, id="day-of-23-hours"
    ),
    pytest.param(
        "day", "Europe/Helsinki", 0, "2024-10-27 00:00", "2024-10-27 23:59:59.999", 25, id="day-of-25-hours"
    ),
    pytest.param(
        "day", "America/Havana", 0, "2024-03-10 01:00", "2024-03-10 23:59:59.999", 23, id="no-midnight"
    ),
    pytest.param(
        "day", "Pacific/Apia", 0, "2011-12-29 00:00", "2011-12-29 23:59:59.999", 24, id="before-a-lost-day"
    ),
    pytest.param(
        "day", "Pacific/Apia", 0, "2011-12-31 00:00", "2011-12-31 23:59:59.999", 24, id="after-a-lost-day"
    ),
    pytest.param("week", "UTC", 0, "2024-02-26 00:00", "2024-03-03 23:59:59.999", 168, id="week-from-monday"),
    pytest.param("week", "UTC", 6, "2024-03-03 00:00", "2024-03-09 23:59:59.999", 168, id="week-from-sunday"),
    pytest.param(
        "month", "Asia/Kathmandu", 0, "2024-02-01 00:00", "2024-02-29 23:59:59.999", 696, id="leap-february"
    ),
    pytest.param("month", "UTC", 0, "2023-12-01 00:00", "2023-12-31 23:59:59.999", 744, id="over-the-year"),
]


@pytest.mark.parametrize(("period", "zone", "week_start", "first", "last", "hours"), CALENDARS)
async def test_calendar_windows_follow_the_zone(
    store: ServiceStore,
    clock: Clock,
    period: str,
    zone: str,
    week_start: int,
    first: str,
    last: str,
    hours: int,
) -> None:
    def hold(amount: int) -> Hold:
        return calendar(100, amount, clock.now, period, zone, week_start=week_start)

    clock.now = at(first, zone) - 1
    assert await admitted(store, hold(100))
    clock.now = at(first, zone)
    fresh = await take(store, hold(60))
    assert isinstance(fresh, Reserved), "a new window has its own quota"
    assert fresh.levels[0].reset_ms == hours * HOUR
    clock.now = at(last, zone)
    assert not await admitted(store, hold(41)), "the window lasts to its last millisecond"
    assert await admitted(store, hold(40))
    clock.pass_(1)
    assert await admitted(store, hold(100))


async def test_a_border_between_two_looks_at_the_clock(store: ServiceStore, clock: Clock) -> None:
    clock.now = at("2024-05-01 23:59:59.999")
    before = calendar(100, 100, clock.now)
    assert await admitted(store, before)
    clock.pass_(2)
    late = calendar(100, 60, at("2024-05-01 23:59:59.999"))  # bounds of yesterday, charged today
    assert await admitted(store, late)
    assert not await admitted(store, calendar(100, 41, clock.now))


async def test_slots_are_freed_by_the_end_or_by_time(store: ServiceStore, clock: Clock) -> None:
    for name in ("a", "b"):
        assert isinstance(await store.counters.reserve(name, "edge", [slot(2)], 30_000), Reserved)
    refused = await take(store, slot(2))
    assert isinstance(refused, Exhausted)
    assert (refused.levels[0].held, refused.wait_ms) == (2, 30_000)
    assert await settle(store, "a", "edge", {}) is Outcome.SETTLED
    assert isinstance(await store.counters.reserve("c", "edge", [slot(2)], 30_000), Reserved)
    clock.pass_(29_999)
    assert not await admitted(store, slot(2))
    clock.pass_(1)
    assert await fill(store, slot(2), 3) == 2


async def test_no_slots_at_all_is_never(store: ServiceStore) -> None:
    refused = await take(store, slot(0))
    assert isinstance(refused, Exhausted)
    assert refused.wait_ms == -1


@pytest.mark.parametrize(
    "hold", [gcra(10, 11), fixed(10, 11), sliding(10, 11), calendar(10, 11, NOON), gcra(0)]
)
async def test_more_than_the_quota_never_fits(store: ServiceStore, hold: Hold) -> None:
    refused = await take(store, hold)
    assert isinstance(refused, Exhausted)
    assert refused.wait_ms == -1


async def test_another_window_under_the_same_key_begins_empty(store: ServiceStore) -> None:
    for hold in (
        gcra(5, 5, key="k"),
        sliding(5, 5, key="k"),
        fixed(5, 5, key="k"),
        fixed(5, 5, key="k", window=DAY),
    ):
        assert await admitted(store, hold)
        assert not await admitted(store, hold)


@pytest.mark.parametrize("step", [HOUR, -HOUR])
async def test_107_a_clock_that_jumps_and_returns_gives_nothing(
    store: ServiceStore, clock: Clock, step: int
) -> None:
    holds = [gcra(10, 10), fixed(10, 10), sliding(10, 10), calendar(10, 10, NOON, key="day")]
    for hold in holds:
        assert await admitted(store, hold)
    clock.pass_(step)
    jumped = [await admitted(store, hold) for hold in holds]
    if step < 0:
        assert not any(jumped), "a clock that steps back opens no window"
    for _ in range(3):
        await kept_up(store)
    clock.pass_(-step)
    for hold, again in zip(holds, jumped, strict=True):
        refused = await take(store, hold)
        assert isinstance(refused, Exhausted), (hold, again)
        assert refused.wait_ms >= 0
        assert all(level.reset_ms >= 0 and level.remaining >= 0 for level in refused.levels)


@pytest.mark.parametrize("kind", [fixed, sliding], ids=["fixed", "sliding"])
async def test_107_what_is_charged_while_the_clock_is_back_counts_in_the_newer_window(
    store: ServiceStore, clock: Clock, kind: Callable[..., Hold]
) -> None:
    assert await admitted(store, kind(10, 9))
    clock.pass_(-1)
    assert await admitted(store, kind(10, 1))
    clock.pass_(1)
    assert not await admitted(store, kind(10, 1))


async def test_83_separators_in_keys_keep_counters_apart(store: ServiceStore) -> None:
    for key in ("p|3:a:b|1:c", "p|1:a|3:b:c", "p|", "p", "", "p%", "p_", "п|2:é", "p\x00q"):
        assert await fill(store, fixed(2, key=key), 3) == 2


async def test_104_two_hundred_at_once_get_sixty(store: ServiceStore) -> None:
    answers = [await store.counters.reserve(f"at-once-{n}", "edge", [gcra(60)], 0) for n in range(200)]
    assert sum(isinstance(answer, Reserved) for answer in answers) == 60


@pytest.mark.parametrize("url", ["memory", "sqlite"], indirect=True)
async def test_nothing_suspends(store: ServiceStore) -> None:
    for question in (
        store.counters.reserve("one", "edge", [gcra(60)], TTL),
        store.counters.peek([gcra(60)]),
        store.counters.settle("one", "edge", {Unit.REQUESTS: 0}),
    ):
        with pytest.raises(StopIteration):
            question.send(None)
