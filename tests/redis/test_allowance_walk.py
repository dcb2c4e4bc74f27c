"""Never over, whatever happens: replicas that set units aside, lose answers, die, and tell late."""

import random
from collections.abc import Callable, Sequence
from fractions import Fraction

import pytest
from msgspec import Struct
from msgspec.structs import replace

from authz.store.protocols import Hold, Outcome, Reserved, StoreUnavailable
from authz.store.redis.link_calls import Caller
from authz.store.redis.sweeper import Sweeper
from tests.contract.kit import MINUTE, NOON, Clock, calendar, fixed, gcra, sliding, tokens
from tests.redis.allowance_kit import GATEWAY, Replica
from tests.redis.link_kit import PATIENT, linked
from tests.support.redis import RedisServer

STEPS = 250
BORDER = 6_000  # ms: where windows end
WAY = 7  # ms from a replica to Redis, and as many back
KINDS = {
    "fixed": fixed(900, window=BORDER),
    "calendar": calendar(1500, 1, NOON),
    "sliding": sliding(900, window=BORDER),
    "gcra": gcra(6000, burst=500, window=MINUTE),
}


class Admitted(Struct):
    """A request that was let through: when, by the time of Redis, and what it is charged by now."""

    at: int
    charged: int
    name: str
    settled: bool = False


class Walk:
    """What a seed makes happen."""

    def __init__(self, link: Caller, hold: Hold, seed: int, *, settles: bool) -> None:
        self.chance = random.Random(seed)
        self.link = link
        self.hold = replace(hold, allowance=200)
        self.settles = settles
        begin = hold.bounds[2] - 20_000 if hold.bounds[2] else NOON
        self.server = Clock(begin + WAY)
        self.clock = Clock(begin)
        self.admitted: list[Admitted] = []
        self.by_lots = self.killed = self.lots = 0
        self.replicas = [self.another() for _ in range(3)]

    def another(self) -> Replica:
        return Replica(self.link, self.clock, server=self.server)

    def pass_(self, milliseconds: int) -> None:
        self.server.pass_(milliseconds)
        self.clock.pass_(milliseconds)

    def hear(self) -> None:
        """What was set aside is spent from when the answer has come back: by then it is later."""
        lots = sum(replica.counters.figures.lots for replica in self.replicas)
        if lots != self.lots:
            self.lots = lots
            self.pass_(WAY)

    async def ask(self, replica: Replica) -> bool:
        """Whether it was let through."""
        self.hear()
        hold = replace(self.hold, amount=self.chance.randint(1, 12))
        before = replica.counters.figures.decisions
        try:
            outcome = await replica.ask(hold)
        except StoreUnavailable:
            return False
        if isinstance(outcome, Reserved):
            by_lot = replica.counters.figures.decisions > before
            self.by_lots += by_lot
            at = self.clock.now if by_lot else self.server.now
            self.admitted.append(Admitted(at, hold.amount, outcome.name))
        return isinstance(outcome, Reserved)

    async def settle(self) -> None:
        running = [each for each in self.admitted if not each.settled]
        if not running:
            return
        each = self.chance.choice(running)
        used, replica = self.chance.randint(0, each.charged), self.chance.choice(self.replicas)
        replica.link.unanswered.discard("settle")
        replica.link.refused.discard("settle")
        try:
            done = await replica.counters.settle(each.name, GATEWAY, tokens(used))
        except StoreUnavailable:  # what is not told yet cannot be settled
            return
        if done.outcome is Outcome.SETTLED:  # another replica's may not be told yet
            each.charged, each.settled = used, True

    async def late(self, replica: Replica) -> None:
        """Set units aside at the end of a window, and spend them when others have used up the next."""
        self.pass_(2 * BORDER - self.clock.now % BORDER - 100)
        for _ in range(40):
            await self.ask(replica)
        await replica.quiet()
        self.pass_(self.chance.choice([50, 200, 3000]))
        for other in (*[each for each in self.replicas if each is not replica], replica):
            while await self.ask(other):
                pass

    async def step(self) -> None:
        replica = self.chance.choice(self.replicas)
        what = self.chance.random()
        if what < 0.1:
            await self.late(replica)
        elif what < 0.2:
            while await self.ask(replica):
                pass
        elif what < 0.5:
            for _ in range(self.chance.randint(1, 40)):
                await self.ask(replica)
                if self.chance.random() < 0.2:
                    await replica.quiet()
        elif what < 0.75:
            self.pass_(self.chance.choice([1, 20, 94, 500, 1000, 2500, BORDER - 1, BORDER, BORDER + 1]))
        elif what < 0.87:
            await replica.quiet()
            await replica.keeper.upkeep()
        elif what < 0.92:
            script = self.chance.choice(["draw", "settle", "reserve"])
            self.chance.choice([replica.link.unanswered, replica.link.refused]).add(script)
        elif what < 0.97:
            replica.link.unanswered.clear()
            replica.link.refused.clear()
        elif what < 0.98:
            await replica.quiet()
            self.replicas[self.replicas.index(replica)] = self.another()
            self.killed += 1
        else:
            await Sweeper(replica.redis.calls).sweep()
        if self.settles:
            await self.settle()


def in_set_windows(hold: Hold, admitted: Sequence[Admitted]) -> int:
    """The most in one window."""
    length, start = hold.window or hold.bounds[2] - hold.bounds[1], hold.bounds[1]
    sums: dict[int, int] = {}
    for each in admitted:
        window = (each.at - start) // length
        sums[window] = sums.get(window, 0) + each.charged
    return max(sums.values())


def in_any_interval(hold: Hold, admitted: Sequence[Admitted]) -> int:
    """The most in an interval of the window's length."""
    most = total = first = 0
    for each in admitted:
        total += each.charged
        while admitted[first].at <= each.at - hold.window:
            total -= admitted[first].charged
            first += 1
        most = max(most, total)
    return most


def in_a_bucket(hold: Hold, admitted: Sequence[Admitted]) -> int:
    """The highest level, rounded up."""
    level, at, most = Fraction(0), 0, Fraction(0)
    for each in admitted:
        level = max(Fraction(0), level - Fraction(hold.rate * (each.at - at), hold.window)) + each.charged
        at, most = each.at, max(most, level)
    return -(-most.numerator // most.denominator)


MOST: dict[str, Callable[[Hold, Sequence[Admitted]], int]] = {
    "fixed": in_set_windows,
    "calendar": in_set_windows,
    "sliding": in_any_interval,
    "gcra": in_a_bucket,
}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", KINDS)
async def test_never_over(server: RedisServer, kind: str, seed: int) -> None:
    hold = KINDS[kind]
    async with linked(server.url + PATIENT) as link:
        walk = Walk(link, hold, seed, settles=False)
        for _ in range(STEPS):
            await walk.step()
        for replica in walk.replicas:
            await replica.quiet()
    most = MOST[kind](hold, sorted(walk.admitted, key=lambda each: each.at))
    assert most <= hold.quota
    assert most > hold.quota // 2, "the limit was met"
    assert walk.by_lots > len(walk.admitted) // 10


@pytest.mark.parametrize("seed", range(2))
async def test_what_is_charged_is_what_was_used(server: RedisServer, seed: int) -> None:
    """Of a window that never ends, with settlements; at the end Redis knows exactly that."""
    hold = replace(KINDS["fixed"], quota=40_000, window=1000 * MINUTE)
    async with linked(server.url + PATIENT) as link:
        walk = Walk(link, hold, seed, settles=True)
        for _ in range(STEPS):
            await walk.step()
            assert sum(each.charged for each in walk.admitted) <= hold.quota
        for replica in walk.replicas:
            await replica.quiet()
            replica.link.unanswered.clear()
            replica.link.refused.clear()
            await replica.counters.close()
        level = (await walk.replicas[0].redis.peek([replace(hold, amount=0)])).levels[0]
        charged = sum(each.charged for each in walk.admitted)
        known = hold.quota - level.remaining
        assert walk.by_lots > len(walk.admitted) // 10
        assert charged <= known <= charged + walk.killed * walk.hold.allowance
