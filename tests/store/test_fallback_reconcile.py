"""What was let through without the store comes to it once, with its facts, whatever happens on the way."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from authz.store.backlog import Waiting, enter
from authz.store.fallback import FallbackCounters
from authz.store.protocols import (
    Counters,
    Exhausted,
    Hold,
    Outcome,
    Remembered,
    Reserved,
    StoreUnavailable,
)
from authz.store.records import Source
from authz.store.reservations import LATE
from authz.usage import Usage
from tests.contract.kit import DAY, MINUTE, NOON, calendar, fixed, gcra, note, sliding, slot, tokens
from tests.store.switched import ALLOW, LOCAL, TTL, Site, Switched, Way, admit, back

DEADLINE_S = 10.0


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    made = Site()
    yield made
    await made.counters.close()
    await made.store.close()


DAILY = fixed(100, 60, window=DAY, on_failure=LOCAL)


# -- the life of a reservation -------------------------------------------------------------------------


async def test_one_that_is_over_becomes_its_entry_and_its_charge(site: Site) -> None:
    name = await admit(site, DAILY)
    await site.counters.settle(name, "edge", tokens(25), note(input=5, output=20))
    await back(site)
    (entry,) = await site.entries()
    assert (entry.reservation, entry.facts.user) == (name, "alice")
    assert (entry.note.source, entry.note.usage) == (Source.REPORTED, Usage(5, 20))
    assert await site.left(DAILY) == 75
    assert (await site.counters.settle(name, "edge", tokens(1))).outcome is Outcome.ALREADY


async def test_its_end_is_not_durable_before_the_store_knows(site: Site) -> None:
    name, other = await admit(site, DAILY), await admit(site, fixed(9, 1, key="o", on_failure=ALLOW))
    await site.counters.durable()
    for reservation in (name, name, other):
        await site.counters.settle(reservation, "edge", tokens(25), note(output=25))
    with pytest.raises(StoreUnavailable, match="2 requests that were let through without the store are over"):
        await site.counters.durable()
    await back(site)
    await site.counters.durable()


async def test_one_that_runs_is_settled_at_the_store(site: Site) -> None:
    name = await admit(site, DAILY)
    await back(site)
    assert await site.left(DAILY) == 40
    assert isinstance(await site.counters.find(name, "edge"), Remembered)
    assert (await site.counters.settle(name, "edge", tokens(25), note(output=25))).outcome is Outcome.SETTLED
    assert await site.left(DAILY) == 75
    assert [entry.note.source for entry in await site.entries()] == [Source.REPORTED]


async def test_any_replica_settles_it_then(site: Site) -> None:
    name = await admit(site, DAILY)
    await back(site)
    other = FallbackCounters(Switched(site.store.counters), site.clock)
    assert (await other.settle(name, "edge", tokens(25))).outcome is Outcome.SETTLED


async def test_its_time_goes_on_from_where_it_was(site: Site) -> None:
    name = await admit(site, DAILY, slot(1, on_failure=LOCAL), ttl=MINUTE)
    site.clock.pass_(40_000)
    assert await site.counters.extend(name, "edge", MINUTE, TTL)
    site.clock.pass_(30_000)
    await back(site)
    site.clock.pass_(29_999)
    assert await site.left(slot(1)) == 0
    site.clock.pass_(1)
    assert await site.left(slot(1)) == 1
    found = await site.counters.find(name, "edge")
    assert isinstance(found, Remembered)
    assert found.expired


async def test_one_of_which_nobody_tells_is_charged_as_held_and_may_be_corrected(site: Site) -> None:
    name = await admit(site, DAILY, slot(1, on_failure=LOCAL), ttl=MINUTE)
    site.clock.pass_(2 * MINUTE)
    await back(site)
    assert (await site.left(DAILY), await site.left(slot(1))) == (40, 1)
    site.clock.pass_(MINUTE)
    assert [entry.note.source for entry in await site.entries()] == [Source.EXPIRED]
    corrected = await site.counters.settle(name, "edge", tokens(10), note(output=10))
    assert corrected.outcome is Outcome.CORRECTED
    assert [entry.note.usage.output for entry in await site.entries()] == [10]


async def test_one_that_expired_here_and_was_told_late_is_entered_as_told(site: Site) -> None:
    name = await admit(site, DAILY, ttl=MINUTE)
    site.clock.pass_(2 * MINUTE)
    assert (
        await site.counters.settle(name, "edge", tokens(10), note(output=10))
    ).outcome is Outcome.CORRECTED
    await back(site)
    assert [entry.note.usage.output for entry in await site.entries()] == [10]
    assert await site.left(DAILY) == 90


async def test_one_that_is_over_takes_no_slot(site: Site) -> None:
    name = await admit(site, slot(1, on_failure=LOCAL))
    await site.counters.settle(name, "edge", {})
    await back(site)
    assert await site.left(slot(1)) == 1
    assert len(await site.entries()) == 1


async def test_one_without_facts_counts_and_leaves_no_entry(site: Site) -> None:
    await admit(site, gcra(10, on_failure=LOCAL), known=b"", ttl=0)
    await back(site)
    assert await site.left(gcra(10)) == 9
    assert await site.entries() == []


async def test_a_request_without_limits_is_in_the_ledger_too(site: Site) -> None:
    name = await admit(site)
    await site.counters.settle(name, "edge", {}, note(output=7))
    await back(site)
    assert [entry.note.usage.output for entry in await site.entries()] == [7]


# -- what is charged -----------------------------------------------------------------------------------


async def test_everything_is_charged_whatever_the_counter_says(site: Site) -> None:
    """Debt blocks what comes next."""
    for _ in range(4):
        await admit(site, fixed(100, 60, window=DAY, on_failure=ALLOW))
    await back(site)
    assert await site.left(DAILY) == 0
    assert isinstance(await site.ask(fixed(100, 1, window=DAY, on_failure=ALLOW)), Exhausted)


WINDOWS = {  # hold, ms that pass, what is left then
    "fixed, the same": (fixed(100, 60, on_failure=LOCAL), MINUTE - 1, 40),
    "fixed, over": (fixed(100, 60, on_failure=LOCAL), MINUTE, 100),
    "sliding, the same": (sliding(100, 60, on_failure=LOCAL), MINUTE, 40),
    "sliding, over": (sliding(100, 60, on_failure=LOCAL), MINUTE + 2000, 100),
    "calendar, the same": (calendar(100, 60, NOON, on_failure=LOCAL), DAY - 1, 40),
    "calendar, over": (calendar(100, 60, NOON, on_failure=LOCAL), DAY, 100),
    "calendar, long over": (calendar(100, 60, NOON, on_failure=LOCAL), 9 * DAY, 100),
    "gcra, drains from when it is told": (gcra(100, 60, on_failure=LOCAL), MINUTE, 40),
}


@pytest.mark.parametrize(("hold", "wait", "left"), WINDOWS.values(), ids=WINDOWS)
async def test_a_window_that_is_over_is_not_charged_any_more(
    site: Site, hold: Hold, wait: int, left: int
) -> None:
    name = await admit(site, hold, ttl=10 * DAY)
    site.clock.pass_(wait)
    await site.counters.settle(name, "edge", {}, note(output=9))
    await back(site)
    now = calendar(100, 0, site.clock.now) if hold.bounds[1] else hold
    assert await site.left(now) == left
    assert len(await site.entries()) == 1


async def test_the_next_spell_begins_with_what_is_left_then(site: Site) -> None:
    await admit(site, DAILY)
    await back(site)
    site.way.way = Way.DOWN
    assert await site.fill(fixed(100, window=DAY, on_failure=LOCAL)) == 40


async def test_so_it_does_where_the_store_did_not_tell_how_the_counter_stands(site: Site) -> None:
    """It had taken it in already: the answer to that was lost."""
    await admit(site, DAILY)
    site.way.way, site.way.lost = Way.UP, "reserve"
    assert not await site.counters.reconcile()
    site.clock.pass_(MINUTE)
    site.way.lost = ""
    await back(site)
    site.way.way = Way.DOWN
    assert await site.fill(fixed(100, window=DAY, on_failure=LOCAL)) == 40


async def test_an_answer_from_before_says_nothing_of_what_was_spent_since(site: Site) -> None:
    """It came late, while others had none."""
    site.way.way, site.way.gate = Way.UP, asyncio.Event()
    late = asyncio.create_task(site.ask(fixed(100, 5, window=DAY, on_failure=LOCAL)))
    await asyncio.sleep(0)
    await admit(site, DAILY)
    site.way.gate.set()
    site.way.gate = None
    seen = await late
    assert isinstance(seen, Reserved)
    assert (seen.local, seen.levels[0].remaining) == (False, 95)
    site.way.way, site.way.lost = Way.UP, "reserve"
    assert not await site.counters.reconcile()
    site.clock.pass_(MINUTE)
    site.way.lost = ""
    await back(site)
    site.way.way = Way.DOWN
    assert await site.fill(fixed(100, window=DAY, on_failure=LOCAL)) == 35


async def test_slots_that_others_held_before_are_still_held_after() -> None:
    site, held = Site(replicas=3), slot(10, on_failure=LOCAL)
    for _ in range(4):
        await site.ask(held)
    name = await admit(site, held)
    await site.counters.settle(name, "edge", {})
    await back(site)
    site.way.way = Way.DOWN
    assert await site.fill(held) == 2
    await site.store.close()


# -- once ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wait", [0, 3_999, 4_000, 20_000])
@pytest.mark.parametrize("call", ["reserve", "settle"])
async def test_an_answer_that_is_lost_on_the_way_back_charges_once(site: Site, call: str, wait: int) -> None:
    name = await admit(site, DAILY)
    await site.counters.settle(name, "edge", tokens(25), note(output=25))
    site.way.way = Way.UP
    site.way.lost = call
    assert not await site.counters.reconcile()
    site.clock.pass_(wait)
    assert await site.counters.reconcile() is (call == "reserve" and wait >= 4_000), "it asks for it first"
    site.way.lost = ""
    site.clock.pass_(wait)
    await back(site)
    assert len(await site.entries()) == 1
    assert await site.left(DAILY) == 75


async def test_a_reconciliation_that_is_cut_off_goes_on_where_it_was() -> None:
    """The store takes one call, then fails; again and again, until everything is told."""
    site = Site()
    names = [await admit(site, fixed(1000, 10, window=DAY, on_failure=ALLOW)) for _ in range(20)]
    for name in names[::2]:
        await site.counters.settle(name, "edge", tokens(4), note(output=4))
    site.way.way = Way.UP
    attempts = 0
    while site.counters.without.waiting:
        site.way.budget = 1 + attempts % 4
        attempts += 1
        await site.counters.reconcile()
        assert attempts < 200
    site.way.budget = -1
    assert attempts > 5
    assert await site.left(fixed(1000, window=DAY)) == 1000 - 10 * 4 - 10 * 10
    site.clock.pass_(TTL + MINUTE)
    assert sorted(entry.reservation for entry in await site.entries()) == sorted(names)
    assert site.counters.without.entered == 20
    await site.store.close()


async def test_settled_while_it_is_being_entered() -> None:
    told: list[Outcome] = []

    async def settles_between(
        primary: Counters, waiting: Waiting, holds: Sequence[Hold], ttl_ms: int, now: int
    ) -> Reserved | None:
        entered = await enter(primary, waiting, holds, ttl_ms, now)
        told.append((await site.counters.settle(name, "edge", tokens(25), note(output=25))).outcome)
        return entered

    site = Site(enter=settles_between)
    name = await admit(site, DAILY)
    await back(site)
    assert told == [Outcome.SETTLED]
    assert [entry.note.usage.output for entry in await site.entries()] == [25]
    assert await site.left(DAILY) == 75
    await site.store.close()


async def test_one_that_the_store_never_takes_keeps_no_other_back(caplog: pytest.LogCaptureFixture) -> None:
    """After a day nobody could settle it any more: given up, and said."""

    async def refuses_the_bad(
        primary: Counters, waiting: Waiting, holds: Sequence[Hold], ttl_ms: int, now: int
    ) -> Reserved | None:
        if waiting.holds[0].key == "bad":
            raise StoreUnavailable("not this one")
        return await enter(primary, waiting, holds, ttl_ms, now)

    site = Site(enter=refuses_the_bad)
    bad = await admit(site, fixed(100, 60, key="bad", window=DAY, on_failure=LOCAL))
    await admit(site, DAILY)
    site.way.way = Way.UP
    for _ in range(3):
        assert not await site.counters.reconcile()
    assert site.counters.without.waiting == 1
    assert await site.left(DAILY) == 40
    site.clock.pass_(TTL + LATE)
    await back(site)
    assert (site.counters.without.entered, site.counters.without.lost) == (1, 1)
    assert bad in caplog.text
    await site.store.close()


# -- by itself -----------------------------------------------------------------------------------------


async def until(done: Callable[[], Any]) -> None:
    deadline = asyncio.get_running_loop().time() + DEADLINE_S
    while not done():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.01)


async def test_upkeep_enters_it_as_soon_as_the_store_answers(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "authz.store")
    await site.counters.start()
    for _ in range(150):
        await admit(site, fixed(1000, on_failure=ALLOW))
    await until(lambda: site.way.calls.count("reserve") >= 150 + 2)
    assert site.counters.without.waiting == 150
    site.way.way = Way.UP
    await until(lambda: not site.counters.without.since)
    assert await site.left(fixed(1000)) == 850
    assert len(caplog.records) == 2, "once when it begins, once when it is over"
    await admit(site, fixed(1000, on_failure=ALLOW))
    site.way.way = Way.UP
    await until(lambda: not site.counters.without.waiting)


async def test_upkeep_outlives_a_fault(caplog: pytest.LogCaptureFixture) -> None:
    faults: list[Waiting] = []

    async def faulty(
        primary: Counters, waiting: Waiting, holds: Sequence[Hold], ttl_ms: int, now: int
    ) -> Reserved | None:
        faults.append(waiting)
        if len(faults) == 1:
            raise ZeroDivisionError
        return await enter(primary, waiting, holds, ttl_ms, now)

    site = Site(enter=faulty)
    await admit(site, DAILY)
    site.way.way = Way.UP
    await site.counters.start()
    await until(lambda: not site.counters.without.waiting)
    assert "could not be entered" in caplog.text
    await site.counters.close()
    await site.store.close()


async def test_close_tries_once_more_and_says_what_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    site = Site()
    await site.counters.start()
    await admit(site, DAILY)
    site.way.way = Way.UP
    await site.counters.close()
    assert site.counters.without.waiting == 0
    await admit(site, fixed(9, key="another", on_failure=LOCAL))
    await site.counters.close()
    assert site.counters.without.lost == 1
    assert "1 requests that were let through without the store are lost" in caplog.text
    await site.store.close()
