"""How far over a quota replicas come without their store: as far as `authz.store.shares` says, and no further."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from msgspec.structs import replace

from authz.quota import Unit
from authz.store.embedded import EngineCounters
from authz.store.engine import Engine
from authz.store.fallback import FallbackCounters
from authz.store.protocols import Hold, Outcome, Reserved, StoreUnavailable
from tests.contract.kit import MINUTE, Clock, calendar, fixed, gcra, sliding, slot
from tests.store.switched import DENY, LOCAL, Switched, Way

QUOTA = 60
TTL = 30 * MINUTE

KINDS: dict[str, Callable[[int, int], Hold]] = {
    "fixed": lambda amount, now: fixed(QUOTA, amount),
    "sliding": lambda amount, now: sliding(QUOTA, amount),
    "calendar": lambda amount, now: calendar(QUOTA, amount, now),
    "gcra": lambda amount, now: gcra(QUOTA, amount, unit=Unit.TOKENS),
    "slots": lambda amount, now: replace(slot(QUOTA), amount=min(1, amount)),
}


class Fleet:
    """Replicas, each with its own way to one store, and the books of the test."""

    def __init__(self, size: int, kind: str) -> None:
        self.clock = Clock()
        self.shared = EngineCounters(Engine(), self.clock)
        self.kind = kind
        self.size = size
        self.ways = [Switched(self.shared) for _ in range(size)]
        self.replicas = [
            FallbackCounters(way, self.clock, replicas=lambda: self.size, most_waiting=1000)
            for way in self.ways
        ]
        self.running: list[tuple[str, int, int]] = []  # name, replica, amount
        self.admitted: list[tuple[int, int]] = []  # (moment, amount)
        self.used = 0
        self.made = 0

    def hold(self, amount: int) -> Hold:
        return replace(KINDS[self.kind](amount, self.clock.now), on_failure=LOCAL)

    async def spend(self, replica: int, amount: int, *more: Hold) -> bool:
        hold = self.hold(amount)
        self.made += 1
        try:
            outcome = await self.replicas[replica].reserve(
                f"r{self.made}", "edge", [hold, *more], TTL, b"known"
            )
        except StoreUnavailable:
            assert more, "another limit wanted that"
            return False
        if not isinstance(outcome, Reserved):
            return False
        self.used += hold.amount
        self.admitted.append((self.clock.now, hold.amount))
        self.running.append((outcome.name or f"r{self.made}", replica, hold.amount))
        return True

    async def settle(self, which: int, actual: int) -> None:
        """Told to the replica that let it through."""
        if not self.running:
            return
        name, replica, amount = self.running.pop(which % len(self.running))
        actual = min(actual, amount)
        try:
            done = await self.replicas[replica].settle(name, "edge", {Unit.TOKENS: actual}, b"told")
        except StoreUnavailable:
            if self.ways[replica].way is not Way.LOST:
                return  # it stays as held
        else:
            assert done.outcome is Outcome.SETTLED
        self.used -= amount if self.kind == "slots" else amount - actual

    async def exhaust(self, replica: int) -> None:
        while await self.spend(replica, 1):
            pass

    async def look(self, replica: int) -> None:
        """A request that spends nothing: the replica sees how the counter stands."""
        await self.spend(replica, 0)

    async def left(self) -> int:
        return (await self.shared.peek([self.hold(0)])).levels[0].remaining

    async def heal(self, replica: int) -> None:
        self.ways[replica].way = Way.UP
        assert await self.replicas[replica].reconcile()


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scenario)


AMOUNT = st.one_of(st.integers(0, 8), st.integers(0, 70))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("spend"), AMOUNT),
        st.tuples(st.just("spend"), AMOUNT),
        st.tuples(st.just("mixed"), AMOUNT),
        st.tuples(st.just("settle"), st.integers(0, 20)),
        st.tuples(st.sampled_from(["down", "lost", "up", "reconcile"]), st.just(0)),
        st.tuples(st.just("calls"), st.integers(1, 4)),
    ),
    max_size=40,
)


@pytest.mark.parametrize("kind", KINDS)
@given(steps=STEPS)
@settings(max_examples=60, deadline=None)
def test_one_replica_is_never_over_however_often_its_store_fails(
    kind: str, steps: list[tuple[str, int]]
) -> None:
    async def scenario() -> None:
        fleet = Fleet(1, kind)
        way = fleet.ways[0]
        for what, number in steps:
            if what == "spend":
                await fleet.spend(0, number)
            elif what == "mixed":
                await fleet.spend(0, number, fixed(10_000, 1, key="firm", on_failure=DENY))
            elif what == "settle":
                await fleet.settle(number, number // 2)
            elif what == "calls":  # so many are answered from now on
                way.way, way.budget = Way.UP, number
            elif what == "reconcile":
                await fleet.replicas[0].reconcile()
            else:
                way.way, way.budget = Way[what.upper()], -1
            assert fleet.used <= QUOTA
        way.budget = -1
        await fleet.heal(0)
        await fleet.exhaust(0)
        assert fleet.used <= QUOTA
        if "lost" not in [what for what, _ in steps] and "calls" not in [what for what, _ in steps]:
            assert await fleet.left() == 0

    run(scenario())


def most(kind: str, milliseconds: int) -> int:
    """What may be let through within so long."""
    return QUOTA + QUOTA * milliseconds // MINUTE if kind == "gcra" else QUOTA


TIMED = st.lists(
    st.one_of(
        st.tuples(st.just("spend"), AMOUNT),
        st.tuples(st.just("spend"), AMOUNT),
        st.tuples(
            st.just("pass"), st.sampled_from([1, 400, 3_000, 20_000, MINUTE, MINUTE + 1500, 3 * MINUTE])
        ),
        st.tuples(st.sampled_from(["down", "up", "reconcile"]), st.just(0)),
    ),
    max_size=40,
)


@pytest.mark.parametrize("kind", ["fixed", "sliding", "gcra"])
@given(steps=TIMED)
@settings(max_examples=60, deadline=None)
def test_nor_in_any_later_window(kind: str, steps: list[tuple[str, int]]) -> None:
    async def scenario() -> None:
        fleet = Fleet(1, kind)
        for what, number in steps:
            if what == "spend":
                await fleet.spend(0, number)
            elif what == "pass":
                fleet.clock.pass_(number)
            elif what == "reconcile":
                await fleet.replicas[0].reconcile()
            else:
                fleet.ways[0].way = Way[what.upper()]
        for begin, (since, _) in enumerate(fleet.admitted):
            sum_ = 0
            for moment, amount in fleet.admitted[begin:]:
                within = moment - since < MINUTE
                if kind == "fixed":
                    within = moment // MINUTE == since // MINUTE
                if within or kind == "gcra":
                    sum_ += amount
                    assert sum_ <= most(kind, moment - since)

    run(scenario())


BEFORE = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 12)), max_size=12)
AFTER = st.lists(
    st.one_of(
        st.tuples(st.just("spend"), st.integers(0, 2), st.integers(1, 12)),
        st.tuples(st.just("exhaust"), st.integers(0, 2), st.just(0)),
        st.tuples(st.just("up"), st.integers(0, 2), st.just(0)),
        st.tuples(st.just("reconcile"), st.integers(0, 2), st.just(0)),
        st.tuples(st.just("down"), st.integers(0, 2), st.just(0)),
    ),
    max_size=30,
)


@pytest.mark.parametrize("kind", KINDS)
@given(before=BEFORE, cut=st.sets(st.integers(0, 2), min_size=1), after=AFTER)
@settings(max_examples=60, deadline=None)
def test_many_replicas_are_over_by_at_most_their_shares(
    kind: str, before: list[tuple[int, int]], cut: set[int], after: list[tuple[str, int, int]]
) -> None:
    """Whoever is cut off, comes back, is cut off again and spends, in whatever order."""

    async def scenario() -> None:
        fleet = Fleet(3, kind)
        saw = dict.fromkeys(range(3), QUOTA)  # what has never been seen is whole
        for replica, amount in before:
            await fleet.spend(replica, amount)
            saw[replica] = await fleet.left()
        left = await fleet.left()
        before_all = fleet.used
        for replica in cut:
            fleet.ways[replica].way = Way.DOWN
        shares = sum(saw[replica] // 3 for replica in cut)
        someone_asked_the_store = len(cut) < 3
        for what, replica, amount in after:
            if what == "spend":
                await fleet.spend(replica, amount)
            elif what == "exhaust":
                await fleet.exhaust(replica)
            elif replica in cut:  # the others stay as they are: nothing is bounded for more than one spell
                if what == "reconcile":
                    await fleet.replicas[replica].reconcile()
                elif what == "up":
                    fleet.ways[replica].way = Way.UP
                    someone_asked_the_store = True
                elif fleet.replicas[replica].without.since:
                    fleet.ways[replica].way = Way.DOWN
            assert fleet.used <= before_all + left + shares
            if not someone_asked_the_store:
                assert fleet.used <= before_all + shares
        for replica in range(3):
            await fleet.heal(replica)
        assert await fleet.left() == max(0, QUOTA - fleet.used), "counters come to the truth"
        for replica in range(3):
            await fleet.exhaust(replica)
        assert fleet.used <= before_all + left + shares

    run(scenario())


@pytest.mark.parametrize("kind", KINDS)
@given(
    before=BEFORE,
    size=st.integers(1, 5),
    spends=st.lists(st.tuples(st.integers(0, 4), st.integers(1, 12)), max_size=20),
)
@settings(max_examples=60, deadline=None)
def test_they_are_not_over_where_each_saw_what_was_left(
    kind: str, before: list[tuple[int, int]], size: int, spends: list[tuple[int, int]]
) -> None:
    """0 when nobody spends between the last look and the trouble; and what is left over is less than they are."""

    async def scenario() -> None:
        fleet = Fleet(size, kind)
        for replica, amount in before:
            await fleet.spend(replica % size, amount)
        left = await fleet.left()
        for replica in range(size):
            await fleet.look(replica)
        for way in fleet.ways:
            way.way = Way.DOWN
        for replica, amount in spends:
            await fleet.spend(replica % size, amount)
        for replica in range(size):
            await fleet.exhaust(replica)
        assert fleet.used <= QUOTA
        assert QUOTA - fleet.used == left % size, "all of it can be spent but what cannot be divided"
        for replica in range(size):
            await fleet.heal(replica)
        for replica in range(size):
            await fleet.exhaust(replica)
        assert fleet.used == QUOTA

    run(scenario())
