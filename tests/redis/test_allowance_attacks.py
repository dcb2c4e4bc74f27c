"""What lots must stand beyond the walk: buckets that were empty meanwhile, callers that go away, late tellings."""

import asyncio
import time

import pytest
from msgspec.structs import replace

from authz.quota import Unit
from authz.store.protocols import Hold, Outcome, Remembered, Reserved
from authz.store.redis.allowance.drawing import AT_ONCE
from authz.store.redis.allowance.pool import IDLE_MS
from authz.store.redis.link_calls import Caller
from authz.store.redis.store import _steady_ms
from tests.contract.kit import DAY, MINUTE, Clock, fixed, gcra, tokens
from tests.redis.allowance_kit import GATEWAY, Replica

LIMIT = fixed(1_000_000, 10, window=DAY, allowance=1000)


async def admitted(replica: Replica, hold: Hold = LIMIT) -> str:
    """The name of what was let through."""
    outcome = await replica.ask(hold)
    assert isinstance(outcome, Reserved)
    return outcome.name


async def used(replica: Replica) -> int:
    answer = await replica.redis.peek([replace(LIMIT, amount=0)])
    return LIMIT.quota - answer.levels[0].remaining


async def test_of_an_empty_bucket_a_lot_gives_back_only_what_did_not_drain(
    replica: Replica, clock: Clock
) -> None:
    """20 drain in a second. What was spent late of a lot is in the bucket in full."""
    pace = gcra(1200, window=MINUTE, burst=1000, allowance=500)
    at: list[tuple[int, int]] = []

    async def ask(amount: int) -> bool:
        admitted = isinstance(await replica.ask(replace(pace, amount=amount)), Reserved)
        if admitted:
            at.append((clock.now, amount))
        return admitted

    for _ in range(20):
        assert await ask(1)
    await replica.quiet()
    assert replica.counters.figures.lots == 1
    replica.keeper._closing = True  # no other lot
    for _ in range(3):
        clock.pass_(900)
        assert await ask(1)
    clock.pass_(300)
    assert await ask(56)
    clock.pass_(IDLE_MS)
    await replica.keeper.upkeep()
    assert replica.counters.figures.outstanding == {}
    while await ask(1):
        pass
    level, before = 0.0, 0
    for moment, amount in at:
        level, before = max(0.0, level - (moment - before) * 20 / 1000) + amount, moment
    assert level <= pace.quota


class TestWhoeverTells:
    """A telling is everybody's: one that goes away must not take along what others have spent."""

    async def test_may_go_away(self, replica: Replica, clock: Clock) -> None:
        await replica.hot(LIMIT)
        made = [await admitted(replica) for _ in range(3)]
        report = asyncio.ensure_future(replica.counters.find(made[0], GATEWAY))
        await asyncio.sleep(0)
        report.cancel()
        await asyncio.wait([report])
        clock.pass_(IDLE_MS)
        await replica.keeper.upkeep()
        await replica.keeper.upkeep()
        assert not len(replica.counters._drawing)
        assert replica.counters.figures.outstanding == {}
        for each in made:
            assert isinstance(await replica.counters.find(each, GATEWAY), Remembered)

    async def test_has_others_wait_for_it(self, replica: Replica) -> None:
        """Else a report would come before what it reports."""
        small = replace(LIMIT, amount=1)
        await replica.hot(small)
        made = [await admitted(replica, small) for _ in range(2 * AT_ONCE + 1)]
        done = await asyncio.gather(
            *[replica.counters.settle(each, GATEWAY, tokens(0)) for each in (made[0], made[-1])]
        )
        assert [each.outcome for each in done] == [Outcome.SETTLED] * 2

    async def test_leaves_the_rest_for_later_where_nobody_answers(self, replica: Replica) -> None:
        """In an outage all that is untold would be put into words again and again."""
        small = replace(LIMIT, amount=1)
        await replica.hot(small)
        replica.link.refused.add("draw")
        for _ in range(3 * AT_ONCE):
            await replica.ask(small)
        await replica.quiet()
        before = replica.link.calls["draw"]
        await replica.keeper.upkeep()
        assert replica.link.calls["draw"] == before + 1
        replica.link.refused.clear()
        await replica.keeper.upkeep()
        assert not len(replica.counters._drawing)


async def test_a_stop_in_the_middle_of_giving_back_gives_back(replica: Replica, clock: Clock) -> None:
    await replica.hot(LIMIT)
    replica.link.refused.add("settle")
    clock.pass_(IDLE_MS)
    await replica.keeper.upkeep()
    replica.link.refused.clear()
    upkeep = asyncio.ensure_future(replica.keeper._give_back(clock.now))
    await asyncio.sleep(0)
    upkeep.cancel()
    await asyncio.wait([upkeep])
    await replica.counters.close()
    assert replica.counters.figures.outstanding == {}


async def test_a_retry_told_late_is_a_retry(replica: Replica, clock: Clock) -> None:
    await replica.hot(LIMIT)
    replica.link.refused.add("draw")
    for _ in range(2):
        await replica.ask(LIMIT, name="again")
    clock.pass_(6_000)
    replica.link.refused.clear()
    await replica.keeper.upkeep()
    assert await used(replica) == 21 * LIMIT.amount


async def test_what_was_lost_is_charged_though_the_first_answer_was_lost_too(
    replica: Replica, wire: Caller
) -> None:
    await replica.hot(LIMIT)
    made = [await admitted(replica) for _ in range(3)]
    await wire.command("FLUSHALL")
    replica.link.unanswered.add("draw")
    await replica.keeper.upkeep()
    replica.link.unanswered.clear()
    await replica.keeper.upkeep()
    assert await used(replica) == 3 * LIMIT.amount
    assert isinstance(await replica.counters.find(made[0], GATEWAY), Remembered)


async def test_an_attempt_under_an_old_name_does_not_replace_another(
    replica: Replica, wire: Caller, clock: Clock
) -> None:
    await replica.hot(LIMIT)
    await replica.ask(LIMIT, name="again")
    await replica.keeper.upkeep()
    await replica.counters.settle("again", GATEWAY, tokens(0))
    open_before = await wire.command("ZCARD", "az:{0}:open", key="az:{0}:open")
    for _ in range(2):
        await replica.ask(LIMIT, name="again")
    await replica.keeper.upkeep()
    assert await wire.command("ZCARD", "az:{0}:open", key="az:{0}:open") == open_before + 2


async def test_nothing_is_set_aside_that_would_not_be_remembered(replica: Replica, clock: Clock) -> None:
    """Its rest could not be given back, and what is spent of it would be charged again."""
    replica.redis.calls.most_open = 5
    for _ in range(30):
        await admitted(replica)
        await replica.quiet()
    clock.pass_(IDLE_MS)
    await replica.keeper.upkeep()
    assert await used(replica) == 30 * LIMIT.amount
    assert replica.counters.figures.lots == 0


async def test_what_others_have_spent_meanwhile_is_not_set_aside(wire: Caller, clock: Clock) -> None:
    """The first lot told how the counter stood before the others came."""
    a, b = Replica(wire, clock), Replica(wire, clock)
    limit = replace(LIMIT, quota=10_000)
    await a.hot(limit)
    await b.ask(replace(limit, amount=10_000 - 20 * limit.amount - LIMIT.allowance // 2 - 510))
    for _ in range(26):
        await a.ask(limit)
        await a.quiet()
    assert a.counters.figures.lots == 2
    await a.keeper.upkeep()
    assert a.counters.figures.outstanding[Unit.TOKENS] == LIMIT.allowance // 2 - 26 * limit.amount


def test_a_suspended_machine_is_not_younger_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would go on with a lot of a window that is long over."""
    clocks = {time.CLOCK_MONOTONIC: 1_000_000, time.CLOCK_BOOTTIME: 3_600_000_000_000}
    monkeypatch.setattr(time, "clock_gettime_ns", clocks.__getitem__)
    assert _steady_ms() == 3_600_000
