"""Units set aside ahead: no call for most decisions, and what comes of every way to lose one."""

import asyncio

import pytest
from msgspec.structs import replace

from authz.quota import Unit
from authz.store.protocols import Hold, Level, Outcome, Remembered, Reserved, StoreUnavailable
from authz.store.redis import names
from authz.store.redis.allowance.counters import BY_LOT, WAITED_MS
from authz.store.redis.allowance.drawing import AT_ONCE
from authz.store.redis.allowance.keeping import KEPT_MS, TRIED_MS
from authz.store.redis.allowance.lot import LIFE_MS, Lot
from authz.store.redis.allowance.pool import HOT, IDLE_MS, NEAR
from authz.store.redis.link_calls import Caller
from authz.store.redis.sweeper import Sweeper
from tests.contract.kit import (
    DAY,
    HOUR,
    MINUTE,
    NOON,
    Clock,
    calendar,
    facts,
    fixed,
    gcra,
    sliding,
    slot,
    tokens,
)
from tests.redis.allowance_kit import GATEWAY, TTL, Replica
from tests.redis.link_kit import PATIENT, linked
from tests.support.redis import RedisCluster, RedisServer

AHEAD = 1000
LOT = AHEAD // 2  # one is spent from, and one follows
LIMIT = fixed(1_000_000, 10, window=DAY, allowance=AHEAD)
PACE = gcra(1_000_000, window=HOUR, allowance=AHEAD)


async def used(replica: Replica, hold: Hold = LIMIT) -> int:
    answer = await replica.redis.peek([replace(hold, amount=0)])
    return hold.quota - answer.levels[0].remaining


async def entries(wire: Caller) -> int:
    found: int = await wire.command("XLEN", names.closed("0"), key=names.closed("0"))
    return found


class TestWhatIsAskedForMuch:
    async def test_needs_no_call(self, replica: Replica) -> None:
        assert await replica.hot(LIMIT, PACE) == HOT
        calls = replica.link.calls.copy()
        for _ in range(20):
            assert isinstance(await replica.ask(LIMIT, PACE), Reserved)
        await replica.quiet()
        assert replica.link.calls == calls
        assert replica.counters.figures.decisions == 20
        assert replica.counters.figures.outstanding == {Unit.TOKENS: LOT - 200, Unit.REQUESTS: LOT - 20}

    async def test_it_is_told_how_the_counters_stand(self, replica: Replica, clock: Clock) -> None:
        await replica.hot(LIMIT)
        clock.pass_(1)
        told = await replica.ask(LIMIT)
        level = told.levels[0]
        assert level.remaining == LIMIT.quota - (HOT + 1) * LIMIT.amount
        assert level.reset_ms == DAY - 1
        assert (await replica.ask(LIMIT)).levels[0].remaining == level.remaining - LIMIT.amount

    async def test_a_lot_is_followed_by_another(self, replica: Replica) -> None:
        await replica.hot(LIMIT)
        for _ in range(2 * AHEAD // LIMIT.amount):
            assert isinstance(await replica.ask(LIMIT), Reserved)
            await replica.quiet()
        figures = replica.counters.figures
        assert figures.decisions == 2 * AHEAD // LIMIT.amount
        assert figures.lots > 2
        assert figures.outstanding[Unit.TOKENS] <= AHEAD

    async def test_it_becomes_reservations_many_in_a_call(self, replica: Replica, wire: Caller) -> None:
        await replica.hot(LIMIT)
        before = replica.link.calls.copy()
        made = [await replica.ask(LIMIT) for _ in range(20)]
        await replica.keeper.upkeep()
        assert replica.link.calls - before == {"draw": 1}
        for each in made:
            assert isinstance(each, Reserved)
            assert each.name.endswith(BY_LOT)
            found = await replica.counters.find(each.name, GATEWAY)
            assert isinstance(found, Remembered)
            assert found.facts == b"facts"
        assert await used(replica) == HOT * LIMIT.amount + LOT

    async def test_many_are_told_before_their_time(self, replica: Replica) -> None:
        small = replace(LIMIT, amount=1)
        await replica.hot(small)
        for _ in range(AT_ONCE):
            await replica.ask(small)
        await replica.quiet()
        assert replica.link.calls["draw"] == 1
        assert not len(replica.counters._drawing)

    async def test_counters_come_to_the_truth(self, replica: Replica, wire: Caller, clock: Clock) -> None:
        await replica.hot(LIMIT)
        made = [await replica.ask(LIMIT, facts=facts(f"r{n}")) for n in range(30)]
        await replica.keeper.upkeep()
        for each in made:
            settled = await replica.counters.settle(each.name, GATEWAY, tokens(3))
            assert settled.outcome is Outcome.SETTLED
            assert settled.holds[0].amount == LIMIT.amount
            assert await replica.counters.find(each.name, GATEWAY) is Outcome.ALREADY
        clock.pass_(IDLE_MS)
        await replica.keeper.upkeep()
        assert await used(replica) == HOT * LIMIT.amount + 30 * 3
        assert replica.counters.figures.outstanding == {}
        assert await entries(wire) == 30
        level = (await replica.redis.peek([LIMIT])).levels[0]
        assert level.held == HOT * LIMIT.amount, "what runs, and none of what was set aside"

    async def test_a_report_that_comes_at_once_has_it_told(self, replica: Replica) -> None:
        await replica.hot(LIMIT)
        made = await replica.ask(LIMIT)
        assert isinstance(await replica.counters.find(made.name, GATEWAY), Remembered)
        assert (await replica.counters.settle(made.name, GATEWAY, tokens(3))).outcome is Outcome.SETTLED

    async def test_it_may_be_extended(self, replica: Replica) -> None:
        await replica.hot(LIMIT)
        made = await replica.ask(LIMIT)
        assert await replica.counters.extend(made.name, GATEWAY, 2 * TTL, 3 * TTL)

    async def test_requests_alone_are_charged_too(self, replica: Replica, clock: Clock) -> None:
        await replica.hot(PACE)
        for _ in range(5):
            await replica.ask(PACE, facts=b"")
        clock.pass_(IDLE_MS)
        await replica.keeper.upkeep()
        drained = IDLE_MS * PACE.rate // PACE.window
        assert await used(replica, PACE) <= HOT + 5
        assert await used(replica, PACE) >= HOT + 5 - drained - 1


class TestWhatIsNot:
    @pytest.mark.parametrize(
        "holds",
        [
            pytest.param([replace(LIMIT, allowance=0)], id="no limit says so"),
            pytest.param([LIMIT, replace(PACE, allowance=0)], id="one does not"),
            pytest.param([LIMIT, slot(10**6)], id="one counts what runs"),
            pytest.param([replace(LIMIT, allowance=9)], id="one needs more than that"),
        ],
    )
    async def test_is_asked_for_each_time(self, replica: Replica, holds: list[Hold]) -> None:
        for _ in range(3 * HOT):
            assert isinstance(await replica.ask(*holds), Reserved)
            await replica.quiet()
        assert replica.link.calls == {"reserve": 3 * HOT}

    async def test_nor_what_is_asked_for_now_and_then(self, replica: Replica, clock: Clock) -> None:
        for _ in range(3 * HOT):
            await replica.ask(LIMIT)
            clock.pass_(1000 // (HOT - 1) + 1)
        assert replica.counters.figures.lots == 0

    async def test_nor_while_something_is_owed_to_the_store(self, wire: Caller, clock: Clock) -> None:
        owes = True
        replica = Replica(wire, clock, may_grow=lambda: not owes)
        for _ in range(3 * HOT):
            await replica.ask(LIMIT)
        assert replica.counters.figures.lots == 0
        owes = False
        clock.pass_(1000)
        await replica.hot(LIMIT)

    async def test_nor_what_nobody_will_tell_the_end_of(self, replica: Replica) -> None:
        await replica.hot(LIMIT)
        await replica.counters.reserve("a", GATEWAY, [LIMIT], 0, facts())
        assert replica.counters.figures.decisions == 0

    async def test_another_quota_is_another_limit(self, replica: Replica) -> None:
        await replica.hot(LIMIT)
        await replica.ask(replace(LIMIT, quota=LIMIT.quota - 1))
        assert replica.counters.figures.decisions == 0

    async def test_what_a_trial_would_refuse_is_asked_for(self, replica: Replica) -> None:
        trial = replace(LIMIT, key="trial", quota=100, shadow=True)
        outcomes = [await replica.ask(LIMIT, trial) for _ in range(3 * HOT)]
        over = [each.over for each in outcomes if isinstance(each, Reserved)]
        assert over == [()] * 10 + [(1,)] * (3 * HOT - 10)

    async def test_near_the_limit_it_is_strict(self, replica: Replica, clock: Clock) -> None:
        """Whoever asks until all is refused, gets all there is."""
        limit = replace(LIMIT, quota=5000, amount=7)
        while isinstance(await replica.ask(limit), Reserved):
            await replica.quiet()
        clock.pass_(IDLE_MS)
        await replica.keeper.upkeep()
        while isinstance(await replica.ask(limit), Reserved):
            pass
        assert limit.quota - limit.amount < await used(replica, limit) <= limit.quota
        assert replica.counters.figures.decisions > 100

    async def test_no_more_than_a_part_of_what_is_left(self, wire: Caller, clock: Clock) -> None:
        replica = Replica(wire, clock, replicas=3)
        limit = replace(LIMIT, quota=10_000)
        await replica.hot(limit)
        left = limit.quota - HOT * limit.amount
        assert replica.counters.figures.outstanding == {Unit.TOKENS: left // (NEAR * 3) // 2}


class TestTheGatewaysOwnRetry:
    async def test_charges_nothing_twice(self, replica: Replica, clock: Clock) -> None:
        await replica.hot(LIMIT)
        for _ in range(3):
            made = await replica.ask(LIMIT, name="again")
        await replica.keeper.upkeep()
        assert isinstance(await replica.ask(LIMIT, name="again"), Reserved)
        await replica.keeper.upkeep()
        assert (await replica.counters.settle(made.name, GATEWAY, tokens(10))).outcome is Outcome.SETTLED
        clock.pass_(IDLE_MS)
        await replica.keeper.upkeep()
        assert await used(replica) == (HOT + 1) * LIMIT.amount

    @pytest.mark.parametrize("first", ["by a lot", "by Redis"])
    async def test_nor_at_another_replica(self, wire: Caller, clock: Clock, first: str) -> None:
        a, b = Replica(wire, clock), Replica(wire, clock)
        await a.hot(LIMIT)
        attempts = [a, b] if first == "by a lot" else [b, a]
        for each in attempts:
            assert isinstance(await each.ask(LIMIT, name="again"), Reserved)
        clock.pass_(IDLE_MS)
        await a.keeper.upkeep()
        assert await used(a) == (HOT + 1) * LIMIT.amount

    async def test_a_new_attempt_under_an_old_name_is_charged(self, replica: Replica, clock: Clock) -> None:
        await replica.hot(LIMIT)
        await replica.ask(LIMIT, name="again")
        await replica.keeper.upkeep()
        await replica.counters.settle("again", GATEWAY, tokens(0))
        await replica.ask(LIMIT, name="again")
        clock.pass_(IDLE_MS)
        await replica.keeper.upkeep()
        assert await used(replica) == (HOT + 1) * LIMIT.amount


class TestAnotherReplica:
    async def test_settles_it(self, wire: Caller, clock: Clock) -> None:
        a, b = Replica(wire, clock), Replica(wire, clock)
        await a.hot(LIMIT)
        made = await a.ask(LIMIT)
        await a.keeper.upkeep()
        assert isinstance(await b.counters.find(made.name, GATEWAY), Remembered)
        assert (await b.counters.settle(made.name, GATEWAY, tokens(1))).outcome is Outcome.SETTLED

    async def test_waits_for_what_it_is_not_told_yet(self, wire: Caller, clock: Clock) -> None:
        a = Replica(wire, clock)

        async def meanwhile(_: float) -> None:
            await a.keeper.upkeep()

        b = Replica(wire, clock, pause=meanwhile)
        await a.hot(LIMIT)
        made = await a.ask(LIMIT)
        assert isinstance(await b.counters.find(made.name, GATEWAY), Remembered)

    async def test_does_not_wait_for_what_was_never_made(self, wire: Caller, clock: Clock) -> None:
        async def never(_: float) -> None:
            raise AssertionError("it waited")

        b = Replica(wire, clock, pause=never)
        assert await b.counters.find("unheard-of", GATEWAY) is Outcome.UNKNOWN

    async def test_waits_once_for_many_that_nobody_will_tell(self, wire: Caller, clock: Clock) -> None:
        """Those of a replica that was killed: the rest of what a gateway reports shall not wait for each."""
        waited = []

        async def pause(seconds: float) -> None:
            waited.append(seconds)
            clock.pass_(int(seconds * 1000))

        b = Replica(wire, clock, pause=pause)
        for n in range(10):
            assert await b.counters.find(f"lost{n}{BY_LOT}", GATEWAY) is Outcome.UNKNOWN
        assert len(waited) == 1
        clock.pass_(WAITED_MS)
        await b.counters.find(f"later{BY_LOT}", GATEWAY)
        assert len(waited) == 2
        await asyncio.create_task(b.counters.find(f"of-another-report{BY_LOT}", GATEWAY))
        assert len(waited) == 3

    async def test_may_not_settle_for_another_gateway(self, wire: Caller, clock: Clock) -> None:
        a, b = Replica(wire, clock), Replica(wire, clock)
        await a.hot(LIMIT)
        made = await a.ask(LIMIT)
        await a.keeper.upkeep()
        assert (await b.counters.settle(made.name, "other", tokens(1))).outcome is Outcome.FOREIGN


class TestWindows:
    """A lot is over before what is spent of it would belong to another window than it was charged to."""

    @pytest.mark.parametrize(
        ("hold", "lasts"),
        [
            pytest.param(fixed(10**6, 10, window=MINUTE), 399, id="fixed"),
            pytest.param(calendar(10**6, 10, NOON - 400), 399, id="calendar"),
            pytest.param(sliding(10**6, 10, window=MINUTE), 399, id="sliding"),
            pytest.param(gcra(10**6, 10, window=100 * DAY), LIFE_MS, id="gcra"),
        ],
    )
    async def test_it_ends_with_its_window(
        self, replica: Replica, clock: Clock, hold: Hold, lasts: int
    ) -> None:
        clock.pass_(-400)
        hold = replace(hold, allowance=AHEAD)
        await replica.hot(hold)
        replica.keeper._closing = True  # no other lot
        clock.pass_(lasts - 1)
        await replica.ask(hold)
        assert replica.counters.figures.decisions == 1
        clock.pass_(1)
        await replica.ask(hold)
        assert replica.counters.figures.decisions == 1

    async def test_what_was_spent_in_it_is_told_when_it_is_over(self, replica: Replica, clock: Clock) -> None:
        clock.pass_(-10)
        hold = replace(LIMIT, window=MINUTE)
        await replica.hot(hold)
        made = [await replica.ask(hold) for _ in range(5)]
        clock.pass_(10)
        await replica.keeper.upkeep()
        assert await used(replica, hold) == 0
        await replica.counters.settle(made[0].name, GATEWAY, tokens(0))
        assert await used(replica, hold) == 0, "the window of its hold is closed"
        await replica.counters.settle(made[1].name, GATEWAY, tokens(25))
        assert await used(replica, hold) == 15, "what is beyond a hold is owed to the window at hand"

    def test_of_a_bucket_that_drains_less_can_be_spent(self) -> None:
        hold = gcra(600, 100)  # 10 drain in a second
        lot = Lot("lot", "0", (hold,), [Level(500, 10_000)], asked_at=NOON)
        assert lot.outstanding(0, NOON) == 100
        assert lot.outstanding(0, NOON + 1) == 99, "rounded up"
        assert lot.outstanding(0, NOON + 1000) == 90
        assert lot.spend((replace(hold, amount=91),), NOON + 1000) is None
        assert lot.spend((replace(hold, amount=90),), NOON + 1000) == (Level(500, 9_000),)
        assert lot.outstanding(0, NOON + 1000) == 0, "what was not spent has drained"

    async def test_nobody_knows_when_on_the_way_redis_looked(self, wire: Caller, clock: Clock) -> None:
        clock.pass_(-1000)
        server = Clock(clock.now)
        replica = Replica(wire, clock, server=server)
        hold = replace(LIMIT, window=MINUTE)
        for _ in range(HOT):
            await replica.ask(hold)
        server.pass_(200)  # on the way there
        replica.link.on_the_way_back = lambda: (server.pass_(200), clock.pass_(400))
        await replica.quiet()
        assert replica.counters.figures.lots == 1
        replica.keeper._closing = True
        clock.pass_(398)
        await replica.ask(hold)
        assert replica.counters.figures.decisions == 1
        clock.pass_(1)
        assert clock.now == NOON - 201, "the window is not over, but for all the replica knows it may be"
        await replica.ask(hold)
        assert replica.counters.figures.decisions == 1


class TestTroubles:
    async def test_a_telling_that_is_not_answered_is_told_again(
        self, replica: Replica, wire: Caller, clock: Clock
    ) -> None:
        await replica.hot(LIMIT)
        made = [await replica.ask(LIMIT) for _ in range(5)]
        replica.link.unanswered.add("draw")
        await replica.keeper.upkeep()
        made += [await replica.ask(LIMIT) for _ in range(5)]
        await replica.keeper.upkeep()
        with pytest.raises(StoreUnavailable):
            await replica.counters.find(made[0].name, GATEWAY)
        replica.link.unanswered.clear()
        clock.pass_(IDLE_MS)
        await replica.keeper.upkeep()
        assert await used(replica) == (HOT + 10) * LIMIT.amount
        for each in made:
            assert (await replica.counters.settle(each.name, GATEWAY, tokens(1))).outcome is Outcome.SETTLED
        assert await used(replica) == HOT * LIMIT.amount + 10

    async def test_nothing_is_given_back_before_all_is_told(self, replica: Replica, clock: Clock) -> None:
        await replica.hot(LIMIT)
        await replica.ask(LIMIT)
        replica.link.refused.add("draw")
        clock.pass_(LIFE_MS)
        await replica.keeper.upkeep()
        assert await used(replica) == HOT * LIMIT.amount + LOT

    async def test_a_lot_that_expired_meanwhile_is_told_of_all_the_same(
        self, replica: Replica, wire: Caller, clock: Clock
    ) -> None:
        await replica.hot(LIMIT)
        made = await replica.ask(LIMIT)
        replica.link.refused |= {"draw", "settle"}
        clock.pass_(KEPT_MS + 1000)
        await Sweeper(replica.redis.calls).sweep()
        await replica.keeper.upkeep()
        replica.link.refused.clear()
        await replica.keeper.upkeep()
        assert await used(replica) == (HOT + 1) * LIMIT.amount
        found = await replica.counters.find(made.name, GATEWAY)
        assert isinstance(found, Remembered)
        assert found.created == NOON, "when it was let through"

    async def test_a_settlement_of_a_lot_that_is_not_answered_is_asked_again(
        self, replica: Replica, clock: Clock
    ) -> None:
        await replica.hot(LIMIT)
        replica.link.unanswered.add("settle")
        clock.pass_(IDLE_MS)
        await replica.keeper.upkeep()
        assert replica.counters.figures.outstanding == {Unit.TOKENS: LOT}
        replica.link.unanswered.clear()
        await replica.keeper.upkeep()
        assert replica.counters.figures.outstanding == {}
        assert await used(replica) == HOT * LIMIT.amount

    async def test_what_cannot_be_given_back_is_said(self, replica: Replica, clock: Clock) -> None:
        await replica.hot(LIMIT)
        replica.link.refused.add("settle")
        clock.pass_(TRIED_MS)
        await replica.keeper.upkeep()
        assert replica.counters.figures.stranded == 1
        assert replica.counters.figures.outstanding == {}

    async def test_a_server_that_lost_its_data_is_told_what_was_let_through(
        self, replica: Replica, wire: Caller
    ) -> None:
        await replica.hot(LIMIT)
        made = [await replica.ask(LIMIT) for _ in range(3)]
        await wire.command("FLUSHALL")
        await replica.keeper.upkeep()
        assert await used(replica) == 3 * LIMIT.amount
        for each in made:
            assert (await replica.counters.settle(each.name, GATEWAY, tokens(1))).outcome is Outcome.SETTLED

    async def test_a_replica_that_is_killed_leaves_its_lot_charged(self, wire: Caller, clock: Clock) -> None:
        """Less is let through until the window ends, never more; and no more than it may set aside."""
        a, b = Replica(wire, clock), Replica(wire, clock)
        await a.hot(LIMIT)
        for _ in range(5):
            await a.ask(LIMIT)
        clock.pass_(KEPT_MS + 1000)
        await Sweeper(b.redis.calls).sweep()
        assert await used(b) == HOT * LIMIT.amount + LOT
        assert await entries(wire) == 0, "nobody used it"
        clock.pass_(DAY)
        assert await used(b) == 0

    async def test_a_stop_gives_everything_back(self, replica: Replica) -> None:
        await replica.counters.start()
        await replica.hot(LIMIT)
        made = [await replica.ask(LIMIT) for _ in range(5)]
        await replica.counters.close()
        assert await used(replica) == (HOT + 5) * LIMIT.amount
        assert isinstance(await replica.redis.find(made[0].name.removesuffix(BY_LOT), GATEWAY), Remembered)

    async def test_the_upkeep_does_it_by_itself(self, server: RedisServer, wire: Caller) -> None:
        """By Redis's own time."""
        replica = Replica(wire, Clock(0))
        await replica.counters.start()
        try:
            await replica.hot(LIMIT)
            made = await replica.ask(LIMIT)
            async with asyncio.timeout(60):
                while len(replica.counters._drawing):
                    await asyncio.sleep(0.01)
            assert isinstance(await replica.redis.find(made.name.removesuffix(BY_LOT), GATEWAY), Remembered)
        finally:
            await replica.counters.close()


async def test_on_a_cluster_what_lies_together_is_set_aside(cluster: RedisCluster, clock: Clock) -> None:
    async with linked(cluster.url + PATIENT) as wire:
        replica = Replica(wire, clock)
        together = [replace(LIMIT, owner="team:nlp"), replace(PACE, owner="team:nlp")]
        place = replica.counters.place(together)
        for n in range(3 * HOT):
            outcome = await replica.ask(*together, name=f"r{n}{place}")
            assert isinstance(outcome, Reserved)
            await replica.quiet()
        assert replica.counters.figures.decisions > HOT
        assert isinstance(await replica.counters.find(outcome.name, GATEWAY), Remembered)
        apart = [replace(LIMIT, key="one", owner="team:nlp"), replace(PACE, key="other", owner="team:vision")]
        before = replica.counters.figures.decisions
        for n in range(3 * HOT):
            assert isinstance(
                await replica.ask(*apart, name=f"a{n}{replica.counters.place(apart)}"), Reserved
            )
            await replica.quiet()
        assert replica.counters.figures.decisions == before
        await replica.counters.close()
