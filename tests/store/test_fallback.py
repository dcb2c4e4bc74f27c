"""Requests while the shared store does not answer: who is let through, and how much (invariant 12)."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from authz.quota import Unit
from authz.store.protocols import Exhausted, Hold, Outcome, Remembered, Reserved, StoreUnavailable
from authz.store.reservations import REPLAY
from tests.contract.kit import (
    DAY,
    HOUR,
    MINUTE,
    NOON,
    calendar,
    facts,
    fixed,
    gcra,
    sliding,
    slot,
    tokens,
)
from tests.store.switched import ALLOW, DENY, LOCAL, TROUBLES, TTL, Site, Way


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    made = Site()
    yield made
    await made.store.close()


def each(*wishes: Any) -> Sequence[Hold]:
    return [fixed(10, 1, key=f"k{index}", on_failure=wish) for index, wish in enumerate(wishes)]


TABLE = {
    "none": ((), "unlimited"),
    "allow": ((ALLOW,), "unlimited"),
    "local": ((LOCAL,), "shared"),
    "deny": ((DENY,), None),
    "allow-allow": ((ALLOW, ALLOW), "unlimited"),
    "allow-local": ((ALLOW, LOCAL), "shared"),
    "local-local": ((LOCAL, LOCAL), "shared"),
    "allow-deny": ((ALLOW, DENY), None),
    "deny-local": ((DENY, LOCAL), None),
    "allow-local-deny": ((ALLOW, LOCAL, DENY), None),
}


@pytest.mark.parametrize("way", TROUBLES, ids=lambda way: way.name.lower())
@pytest.mark.parametrize(("wishes", "counted"), TABLE.values(), ids=TABLE)
async def test_one_limit_that_denies_refuses_the_request(
    site: Site, wishes: Sequence[Any], counted: str | None, way: Way
) -> None:
    holds = each(*wishes)
    site.way.way = way
    if counted is None:
        with pytest.raises(StoreUnavailable):
            await site.ask(*holds)
        assert site.counters.without.waiting == 0
        assert not site.counters.without.since
        return
    outcome = await site.ask(*holds)
    assert isinstance(outcome, Reserved)
    assert (outcome.local, len(outcome.levels)) == (True, len(holds))
    assert outcome.name.endswith("-r1"), "a store that finds the place by the end of a name still does"
    assert getattr(site.counters.without, counted) == site.counters.without.waiting == 1
    assert site.counters.without.since == NOON


async def test_a_store_that_answers_is_asked_once_and_marks_nothing(site: Site) -> None:
    outcome = await site.ask(*each(LOCAL, ALLOW, DENY))
    assert isinstance(outcome, Reserved)
    assert (outcome.local, outcome.name) == (False, "")
    assert site.way.calls == ["reserve"]
    assert site.counters.without.since == 0


async def test_a_shadow_never_denies_here_either(site: Site) -> None:
    site.way.way = Way.DOWN
    outcome = await site.ask(fixed(10, 11, key="trial", shadow=True), fixed(10, 1, on_failure=LOCAL))
    assert isinstance(outcome, Reserved)
    assert outcome.over == (0,)


async def test_allow_is_not_limited_and_not_reported_as_a_trial(site: Site) -> None:
    site.way.way = Way.DOWN
    for _ in range(25):
        outcome = await site.ask(fixed(10, on_failure=ALLOW))
        assert isinstance(outcome, Reserved)
        assert outcome.over == ()
    assert outcome.levels[0].remaining == 0


# -- shares -------------------------------------------------------------------------------------------

SHARES = {  # kind: (hold, replicas, what the store counted before, the share)
    "fixed, one replica": (fixed(100, on_failure=LOCAL), 1, 40, 60),
    "fixed, three": (fixed(100, on_failure=LOCAL), 3, 40, 20),
    "fixed, what cannot be divided is nobody's": (fixed(100, on_failure=LOCAL), 3, 39, 20),
    "fixed, spent": (fixed(100, on_failure=LOCAL), 3, 100, 0),
    "fixed, more replicas than units": (fixed(2, on_failure=LOCAL), 3, 0, 0),
    "fixed, a quota of none": (fixed(0, on_failure=LOCAL), 1, 0, 0),
    "sliding": (sliding(100, on_failure=LOCAL), 4, 20, 20),
    "calendar": (calendar(100, 1, NOON, on_failure=LOCAL), 4, 20, 20),
    "gcra": (gcra(100, on_failure=LOCAL), 4, 20, 20),
    "gcra, a burst": (gcra(600, burst=50, on_failure=LOCAL), 2, 20, 15),
    "slots": (slot(10, on_failure=LOCAL), 3, 4, 2),
    "slots, all taken": (slot(4, on_failure=LOCAL), 2, 4, 0),
}


@pytest.mark.parametrize(("hold", "replicas", "before", "share"), SHARES.values(), ids=SHARES)
async def test_the_share_is_what_was_left_by_the_number_of_replicas(
    hold: Hold, replicas: int, before: int, share: int
) -> None:
    site = Site(replicas)
    for _ in range(before):
        await site.ask(hold)
    site.way.way = Way.DOWN
    assert await site.fill(hold) == share
    await site.store.close()


@pytest.mark.parametrize("kind", [fixed, sliding, gcra, slot])
async def test_a_counter_never_seen_is_shared_whole(kind: Any) -> None:
    site = Site(replicas=4)
    site.way.way = Way.DOWN
    assert await site.fill(kind(10, on_failure=LOCAL)) == 2
    await site.store.close()


async def test_another_window_of_the_name_is_another_counter() -> None:
    site = Site()
    for _ in range(9):
        await site.ask(fixed(10, key="k", window=MINUTE, on_failure=LOCAL))
    site.way.way = Way.DOWN
    assert await site.fill(fixed(10, key="k", window=HOUR, on_failure=LOCAL)) == 10
    await site.store.close()


LATER = {
    "fixed": (fixed(100, on_failure=LOCAL), MINUTE, 50),
    "sliding": (sliding(100, on_failure=LOCAL), MINUTE + 2_000, 50),
    "gcra, a tenth of the window": (gcra(100, on_failure=LOCAL), MINUTE // 10, 5),
    "gcra, more than the window": (gcra(100, on_failure=LOCAL), 2 * MINUTE, 50),
    "calendar": (calendar(100, 1, NOON, on_failure=LOCAL), DAY, 50),
}


@pytest.mark.parametrize(("hold", "wait", "share"), LATER.values(), ids=LATER)
async def test_a_later_window_gives_a_fresh_share(hold: Hold, wait: int, share: int) -> None:
    """Never more than a part of it: the others count on theirs."""
    site = Site(replicas=2)
    await site.fill(hold)
    site.way.way = Way.DOWN
    assert await site.fill(hold) == 0
    site.clock.pass_(wait)
    assert await site.fill(hold) == share
    await site.store.close()


async def test_slots_seen_taken_come_free_when_their_requests_must_be_over() -> None:
    site, hold = Site(replicas=2), slot(4, on_failure=LOCAL)
    await site.fill(hold)
    site.way.way = Way.DOWN
    site.clock.pass_(TTL - 1)
    assert await site.fill(hold) == 0
    site.clock.pass_(1)
    assert await site.fill(hold) == 2
    await site.store.close()


async def test_what_ends_meanwhile_gives_its_share_back(site: Site) -> None:
    hold, place = fixed(100, 60, on_failure=LOCAL), slot(1, on_failure=LOCAL)
    site.way.way = Way.DOWN
    first = await site.ask(hold, place, known=facts())
    assert isinstance(first, Reserved)
    assert isinstance(await site.ask(hold, place), Exhausted)
    found = await site.counters.find(first.name, "edge")
    assert found == Remembered(facts(), NOON, expired=False)
    assert (await site.counters.settle(first.name, "edge", tokens(5))).outcome is Outcome.SETTLED
    assert (await site.counters.settle(first.name, "edge", tokens(5))).outcome is Outcome.ALREADY
    assert isinstance(await site.ask(hold, place), Reserved)


async def test_another_gateway_can_neither_see_settle_nor_extend_it(site: Site) -> None:
    site.way.way = Way.DOWN
    made = await site.ask(fixed(100, 60, on_failure=LOCAL), known=facts())
    assert isinstance(made, Reserved)
    assert await site.counters.find(made.name, "other") is Outcome.FOREIGN
    assert (await site.counters.settle(made.name, "other", tokens(5))).outcome is Outcome.FOREIGN
    assert not await site.counters.extend(made.name, "other", TTL, TTL)


async def test_a_lower_quota_lowers_what_was_seen_left() -> None:
    site = Site(replicas=2)
    await site.ask(fixed(100, 60, on_failure=LOCAL))
    site.way.way = Way.DOWN
    assert await site.fill(fixed(80, on_failure=LOCAL)) == 10
    await site.store.close()


async def test_the_number_of_replicas_is_that_of_when_it_began() -> None:
    """One that seems to have gone may only be cut off, and spend its share."""
    site, hold = Site(replicas=4), fixed(100, on_failure=LOCAL)
    site.way.way = Way.DOWN
    assert await site.fill(hold) == 25
    site.replicas = 1
    assert await site.fill(hold) == 0
    await site.store.close()


async def test_a_settlement_tells_what_is_left_too() -> None:
    site = Site(replicas=1)
    await site.counters.reserve("big", "edge", [fixed(100, 90, on_failure=LOCAL)], TTL, facts())
    await site.counters.settle("big", "edge", tokens(30))
    site.way.way = Way.DOWN
    assert await site.fill(fixed(100, on_failure=LOCAL)) == 70
    await site.store.close()


# -- the words of a refusal ---------------------------------------------------------------------------


async def test_waiting_helps_where_the_whole_has_what_the_share_has_not() -> None:
    site = Site(replicas=3)
    await site.ask(calendar(90, 30, NOON, on_failure=LOCAL))
    site.way.way = Way.DOWN
    refused = await site.ask(calendar(90, 30, NOON, on_failure=LOCAL))
    assert isinstance(refused, Exhausted)
    level = refused.levels[0]
    assert (refused.denied, refused.wait_ms, refused.local) == ((0,), 1000, True)
    assert (level.remaining, level.remaining + level.held) == (20, 90)
    assert site.counters.without.refused == 1
    await site.store.close()


async def test_waiting_for_the_window_where_nothing_was_left() -> None:
    site = Site(replicas=3)
    await site.ask(calendar(90, 80, NOON, on_failure=LOCAL))
    site.way.way = Way.DOWN
    refused = await site.ask(calendar(90, 30, NOON, on_failure=LOCAL))
    assert isinstance(refused, Exhausted)
    assert (refused.wait_ms, refused.levels[0].held) == (DAY, 0)
    never = await site.ask(calendar(90, 91, NOON, on_failure=LOCAL))
    assert isinstance(never, Exhausted)
    assert never.wait_ms == -1
    await site.store.close()


# -- a gateway's own retry -----------------------------------------------------------------------------


async def test_a_retry_is_not_counted_again(site: Site) -> None:
    hold = fixed(10, 6, on_failure=LOCAL)
    site.way.way = Way.DOWN
    first = await site.counters.reserve("same", "edge", [hold], TTL, facts())
    again = await site.counters.reserve("same", "edge", [hold], TTL, facts())
    assert isinstance(first, Reserved)
    assert isinstance(again, Reserved)
    assert (again.name, again.replay, again.local) == (first.name, True, True)
    assert again.levels == first.levels
    assert site.counters.without.waiting == 1
    assert isinstance(await site.counters.reserve("same", "other", [hold], TTL, facts()), Exhausted)
    site.clock.pass_(REPLAY)
    assert isinstance(await site.counters.reserve("same", "edge", [hold], TTL, facts()), Exhausted)


# -- caps ----------------------------------------------------------------------------------------------


async def test_no_more_are_let_through_than_are_remembered() -> None:
    site = Site(most_waiting=3)
    site.way.way = Way.DOWN
    for _ in range(3):
        await site.ask(fixed(10, on_failure=ALLOW))
    with pytest.raises(StoreUnavailable, match="3 requests were let through meanwhile"):
        await site.ask(fixed(10, on_failure=ALLOW))
    site.way.way = Way.UP
    assert await site.counters.reconcile()
    assert await site.left(fixed(10)) == 7
    assert isinstance(await site.ask(fixed(10, on_failure=ALLOW)), Reserved)
    await site.store.close()


# -- peek ----------------------------------------------------------------------------------------------


async def test_peek_answers_as_a_reservation_would_and_spends_nothing(site: Site) -> None:
    hold = fixed(10, 6, on_failure=LOCAL)
    site.way.way = Way.DOWN
    with pytest.raises(StoreUnavailable):
        await site.counters.peek([fixed(10)])
    for _ in range(3):
        peeked = await site.counters.peek([hold])
        assert isinstance(peeked, Reserved)
        assert (peeked.local, peeked.levels[0].remaining) == (True, 4)
    assert site.counters.without.waiting == 0
    await site.ask(hold)
    assert isinstance(await site.counters.peek([hold]), Exhausted)
    site.way.way = Way.UP
    assert isinstance(await site.counters.peek([hold]), Exhausted), "the store does not know of the 6 yet"


async def test_spent_units_are_told_by_unit(site: Site) -> None:
    """What is refunded of a request that never ran is refunded of its count too."""
    site.way.way = Way.DOWN
    made = await site.ask(gcra(1, on_failure=LOCAL), known=facts())
    assert isinstance(made, Reserved)
    await site.counters.settle(made.name, "edge", {Unit.REQUESTS: 0})
    assert isinstance(await site.ask(gcra(1, on_failure=LOCAL)), Reserved)
