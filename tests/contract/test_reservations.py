"""Reserve and settle: all or nothing, one correction, never more back than was taken."""

import pytest

from authz.quota import MAX_AMOUNT, Unit
from authz.store.protocols import Exhausted, Hold, Level, Outcome, Reserved
from authz.store.store import ServiceStore
from tests.contract.kit import (
    DAY,
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
TOKENS = [
    pytest.param(gcra(1000, 400, unit=Unit.TOKENS), id="gcra"),
    pytest.param(fixed(1000, 400), id="fixed"),
    pytest.param(sliding(1000, 400), id="sliding"),
    pytest.param(calendar(1000, 400, NOON), id="calendar"),
]


async def reserve(store: ServiceStore, name: str, *holds: Hold, ttl: int = TTL) -> Reserved | Exhausted:
    return await store.counters.reserve(name, "edge", holds, ttl)


async def level(store: ServiceStore, hold: Hold) -> Level:
    answer = await store.counters.peek([Hold(hold.key, hold.kind, hold.unit, hold.quota, 0, *_rest(hold))])
    assert isinstance(answer, Reserved)
    return answer.levels[0]


def _rest(hold: Hold) -> tuple[int, int, tuple[int, int, int, int]]:
    return hold.window, hold.rate, hold.bounds


async def test_a_denial_charges_nothing(store: ServiceStore) -> None:
    roomy, tight = fixed(1000, 400, key="roomy"), fixed(100, 101, key="tight")
    refused = await reserve(store, "a", roomy, tight, slot(5), gcra(60))
    assert isinstance(refused, Exhausted)
    assert refused.denied == (1,)
    assert [each.remaining for each in refused.levels] == [1000, 100, 5, 60]
    assert (await level(store, roomy)).remaining == 1000
    assert (await level(store, gcra(60))).remaining == 60
    assert await settle(store, "a", "edge", {}) is Outcome.UNKNOWN


async def test_every_limit_that_refuses_is_named(store: ServiceStore) -> None:
    refused = await reserve(store, "a", fixed(1, 2, key="x"), fixed(9, 2, key="y"), fixed(1, 2, key="z"))
    assert isinstance(refused, Exhausted)
    assert refused.denied == (0, 2)


async def test_one_counter_twice_is_a_mistake(store: ServiceStore) -> None:
    for pair in ([fixed(10, 6), fixed(10, 6)], [slot(2), slot(2)], [fixed(10, 6, key="slots"), slot(2)]):
        if pair[0].kind is not pair[1].kind:
            continue
        with pytest.raises(ValueError, match="share a counter"):
            await reserve(store, "a", *pair)
    assert (await level(store, fixed(10))).remaining == 10


@pytest.mark.parametrize("hold", TOKENS)
async def test_what_was_not_used_comes_back_once(store: ServiceStore, hold: Hold) -> None:
    await reserve(store, "a", hold)
    assert await level(store, hold) != Level(1000, 0, 0)
    assert (await level(store, hold)).held == 400
    assert await settle(store, "a", "edge", {Unit.TOKENS: 100}) is Outcome.SETTLED
    assert (await level(store, hold)).remaining == 900
    assert (await level(store, hold)).held == 0
    assert await settle(store, "a", "edge", {Unit.TOKENS: 0}) is Outcome.ALREADY, (
        "settled once for all (attack 105)"
    )
    assert (await level(store, hold)).remaining == 900


@pytest.mark.parametrize("hold", TOKENS)
async def test_use_beyond_the_hold_is_debt(store: ServiceStore, hold: Hold) -> None:
    await reserve(store, "a", hold)
    assert await settle(store, "a", "edge", {Unit.TOKENS: 1300}) is Outcome.SETTLED
    assert (await level(store, hold)).remaining == 0
    assert isinstance(await reserve(store, "b", hold), Exhausted)


async def test_debt_goes_on_into_the_next_window(store: ServiceStore, clock: Clock) -> None:
    await reserve(store, "a", fixed(1000, 400))
    await store.counters.settle("a", "edge", {Unit.TOKENS: 1300})
    clock.pass_(MINUTE)
    assert (await level(store, fixed(1000))).remaining == 700
    clock.pass_(MINUTE)
    assert (await level(store, fixed(1000))).remaining == 1000


async def test_debt_carries_at_most_one_quota(store: ServiceStore, clock: Clock) -> None:
    await reserve(store, "a", fixed(1000, 400))
    await store.counters.settle("a", "edge", {Unit.TOKENS: 50_000})
    clock.pass_(MINUTE)
    assert (await level(store, fixed(1000))).remaining == 0
    clock.pass_(2 * MINUTE)
    assert (await level(store, fixed(1000))).remaining == 1000


async def test_a_closed_window_takes_no_refund(store: ServiceStore, clock: Clock) -> None:
    await reserve(store, "a", fixed(1000, 900))
    clock.pass_(MINUTE)
    await reserve(store, "b", fixed(1000, 900))
    await store.counters.settle("a", "edge", {Unit.TOKENS: 0})
    assert (await level(store, fixed(1000))).remaining == 100


async def test_debt_of_yesterday_is_charged_today(store: ServiceStore, clock: Clock) -> None:
    clock.now = at("2024-05-01 23:59")
    await reserve(store, "a", calendar(1000, 400, clock.now))
    clock.pass_(2 * MINUTE)
    await store.counters.settle("a", "edge", {Unit.TOKENS: 600})
    assert (await level(store, calendar(1000, 0, clock.now))).remaining == 800


class TestGcraRefunds:
    """Each guard's absence would make capacity."""

    async def test_what_drained_meanwhile_does_not_come_back(self, store: ServiceStore, clock: Clock) -> None:
        hold = gcra(600, 600, unit=Unit.TOKENS)
        await reserve(store, "a", hold)
        clock.pass_(45_000)
        await store.counters.settle("a", "edge", {Unit.TOKENS: 0})
        assert (await level(store, hold)).remaining == 600

    async def test_an_emptied_bucket_owes_nothing_to_older_holds(
        self, store: ServiceStore, clock: Clock
    ) -> None:
        hold = gcra(600, 300, unit=Unit.TOKENS)
        await reserve(store, "a", hold)
        await reserve(store, "b", hold)
        await store.counters.settle("a", "edge", {Unit.TOKENS: 0})
        clock.pass_(30_000)  # what b held has drained, though by its label alone 300 would be left
        await reserve(store, "c", hold)
        await store.counters.settle("b", "edge", {Unit.TOKENS: 0})
        assert (await level(store, hold)).remaining == 300, "what c holds was given away"

    async def test_two_refunds_do_not_give_the_same_twice(self, store: ServiceStore, clock: Clock) -> None:
        hold = gcra(600, 300, unit=Unit.TOKENS)
        await reserve(store, "a", hold)
        await reserve(store, "b", hold)
        await store.counters.settle("a", "edge", {Unit.TOKENS: 0})
        clock.pass_(20_000)  # 100 of b are left
        await reserve(store, "c", hold)
        await store.counters.settle("b", "edge", {Unit.TOKENS: 0})
        assert (await level(store, hold)).remaining == 300, "what c holds was given away"


async def test_release_gives_everything_back(store: ServiceStore) -> None:
    holds = (gcra(60), fixed(1000, 400), slot(1))
    await reserve(store, "a", *holds)
    assert await settle(store, "a", "edge", dict.fromkeys(Unit, 0)) is Outcome.SETTLED
    assert [(await level(store, hold)).remaining for hold in holds] == [60, 1000, 1]


async def test_a_missing_unit_stays_as_held(store: ServiceStore) -> None:
    await reserve(store, "a", fixed(1000, 400), fixed(1000, 400, key="cost", unit=Unit.COST))
    await store.counters.settle("a", "edge", {Unit.COST: 0})
    assert (await level(store, fixed(1000))).remaining == 600
    assert (await level(store, fixed(1000, key="cost", unit=Unit.COST))).remaining == 1000


async def test_100_a_negative_or_huge_report_is_clamped(store: ServiceStore) -> None:
    await reserve(store, "a", fixed(1000, 400))
    await store.counters.settle("a", "edge", {Unit.TOKENS: -5})
    assert (await level(store, fixed(1000))).remaining == 1000
    await reserve(store, "b", fixed(1000, 400))
    await store.counters.settle("b", "edge", {Unit.TOKENS: 2**70})
    assert (await level(store, fixed(1000))).remaining == 0


async def test_105_only_the_gateway_that_holds_it_settles(store: ServiceStore) -> None:
    await reserve(store, "a", fixed(1000, 400))
    assert await settle(store, "a", "other", {Unit.TOKENS: 0}) is Outcome.FOREIGN
    assert await settle(store, "never", "edge", {Unit.TOKENS: 0}) is Outcome.UNKNOWN
    assert (await level(store, fixed(1000))).remaining == 600
    assert await settle(store, "a", "edge", {Unit.TOKENS: 0}) is Outcome.SETTLED


async def test_unsettled_stays_charged_and_may_be_corrected_late(store: ServiceStore, clock: Clock) -> None:
    hold = fixed(1000, 400, window=10 * DAY)
    await reserve(store, "a", hold, slot(1), ttl=MINUTE)
    await reserve(store, "b", hold, ttl=MINUTE)
    clock.pass_(MINUTE)
    assert (await level(store, slot(1))).remaining == 1
    clock.pass_(100)
    assert await level(store, hold) == Level(200, 10 * DAY - clock.now % (10 * DAY), 0)
    clock.pass_(DAY - 101)
    assert await settle(store, "a", "edge", {Unit.TOKENS: 100}) is Outcome.CORRECTED
    assert (await level(store, hold)).remaining == 500
    clock.pass_(1)
    assert await settle(store, "b", "edge", {Unit.TOKENS: 100}) is Outcome.UNKNOWN, "too late"
    assert (await level(store, hold)).remaining == 500


class TestReplay:
    async def test_95_the_gateways_own_retry_is_not_charged_again(
        self, store: ServiceStore, clock: Clock
    ) -> None:
        for holds in ([gcra(60)], [fixed(1000, 400), slot(1)]):
            first = await reserve(store, f"r-{len(holds)}", *holds)
            clock.pass_(1000)
            again = await reserve(store, f"r-{len(holds)}", *holds)
            assert isinstance(first, Reserved)
            assert isinstance(again, Reserved)
            assert (first.replay, again.replay) == (False, True)
        assert (await level(store, fixed(1000))).remaining == 600

    @pytest.mark.parametrize("hold", [gcra(60), fixed(60)], ids=["requests", "tokens"])
    async def test_106_later_the_same_id_is_charged(
        self, store: ServiceStore, clock: Clock, hold: Hold
    ) -> None:
        await reserve(store, "a", hold)
        clock.pass_(5000)
        used = await level(store, hold)
        again = await reserve(store, "a", hold)
        assert isinstance(again, Reserved)
        assert not again.replay
        assert (await level(store, hold)).remaining == used.remaining - 1

    async def test_106_after_its_settlement_the_same_id_is_charged_for_good(
        self, store: ServiceStore
    ) -> None:
        await reserve(store, "a", fixed(1000, 400))
        assert await settle(store, "a", "edge", {Unit.TOKENS: 100}) is Outcome.SETTLED
        again = await reserve(store, "a", fixed(1000, 400))
        assert isinstance(again, Reserved)
        assert not again.replay
        assert await settle(store, "a", "edge", {Unit.TOKENS: 0}) is Outcome.ALREADY
        assert (await level(store, fixed(1000))).remaining == 500

    async def test_106_another_gateways_id_is_no_retry(self, store: ServiceStore) -> None:
        await reserve(store, "a", fixed(1000, 400))
        again = await store.counters.reserve("a", "other", [fixed(1000, 400)], TTL)
        assert isinstance(again, Reserved)
        assert not again.replay
        assert (await level(store, fixed(1000))).remaining == 200

    async def test_a_used_id_still_has_to_fit(self, store: ServiceStore, clock: Clock) -> None:
        await reserve(store, "a", fixed(1000, 600))
        clock.pass_(5000)
        assert isinstance(await reserve(store, "a", fixed(1000, 600)), Exhausted)

    async def test_what_is_not_to_be_remembered_is_not(self, store: ServiceStore) -> None:
        for left in (59, 58):
            answer = await reserve(store, "a", gcra(60), ttl=0)
            assert isinstance(answer, Reserved)
            assert (answer.replay, answer.levels[0].remaining) == (False, left)


class TestShadow:
    async def test_it_is_charged_and_never_denies(self, store: ServiceStore) -> None:
        for expected in ((), (), (1,), (1,)):
            answer = await reserve(store, f"s{expected}", gcra(60), fixed(2, shadow=True), ttl=0)
            assert isinstance(answer, Reserved)
            if answer.replay:
                continue
            assert answer.over == expected or expected == ()
        assert isinstance(await reserve(store, "live", fixed(2)), Exhausted)

    async def test_slots_too(self, store: ServiceStore) -> None:
        assert isinstance(await reserve(store, "a", slot(1, shadow=True)), Reserved)
        answer = await reserve(store, "b", slot(1, shadow=True))
        assert isinstance(answer, Reserved)
        assert answer.over == (0,)

    async def test_a_refusal_by_another_limit_does_not_charge_it(self, store: ServiceStore) -> None:
        await reserve(store, "a", fixed(5, key="dry", shadow=True), fixed(1, 2))
        assert (await level(store, fixed(5, key="dry"))).remaining == 5

    async def test_amounts_that_no_store_keeps_are_cut(self, store: ServiceStore) -> None:
        for name in ("a", "b", "c"):
            for hold in (
                gcra(9, 2**70, shadow=True),
                fixed(9, 2**70, shadow=True),
                sliding(9, 2**70, shadow=True),
            ):
                assert isinstance(await reserve(store, f"{name}{hold.key}", hold), Reserved)
        await kept_up(store)
        assert (await level(store, fixed(MAX_AMOUNT))).remaining == 0

    async def test_what_was_cut_does_not_come_back(self, store: ServiceStore, clock: Clock) -> None:
        """Else a limit in a trial would begin in earnest with more than its quota."""
        for kind in (fixed, sliding):
            for name in ("a", "b"):
                await reserve(store, f"{name}{kind.__name__}", kind(9, 2**70, shadow=True))
            clock.pass_(2000)
            for name in ("a", "b"):
                await settle(store, f"{name}{kind.__name__}", "edge", {Unit.TOKENS: 0})
            assert (await level(store, kind(9))).remaining == 9
            assert isinstance(await reserve(store, f"c{kind.__name__}", kind(9, 10)), Exhausted)


async def test_peek_answers_like_reserve_and_charges_nothing(store: ServiceStore) -> None:
    holds = [gcra(60), fixed(1000, 400), sliding(500, 100), slot(2)]
    seen = [await store.counters.peek(holds) for _ in range(3)]
    done = await reserve(store, "a", *holds)
    assert isinstance(done, Reserved)
    for answer in seen:
        assert isinstance(answer, Reserved)
        assert [each.remaining for each in answer.levels] == [each.remaining for each in done.levels]
    await reserve(store, "b", fixed(1000, 500))
    refused = await store.counters.peek([fixed(1000, 400)])
    assert isinstance(refused, Exhausted)
    assert refused.denied == (0,)
    assert refused.levels[0].held == 900


async def test_held_tells_running_from_settled(store: ServiceStore) -> None:
    await reserve(store, "a", fixed(1000, 500))
    await reserve(store, "b", fixed(1000, 500))
    await store.counters.settle("a", "edge", {Unit.TOKENS: 400})
    refused = await reserve(store, "c", fixed(1000, 200))
    assert isinstance(refused, Exhausted)
    assert refused.levels[0] == Level(100, MINUTE, 500)
