"""Random sequences done to the engine and to Redis: every answer, every end of a reservation, every counter equal."""

import random
from collections import Counter
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from authz.quota import MAX_AMOUNT, Unit
from authz.store.protocols import Hold, Reserved
from tests.contract.kit import (
    DAY,
    HOUR,
    MINUTE,
    Clock,
    at,
    calendar,
    facts,
    fixed,
    gcra,
    note,
    sliding,
    slot,
    tokens,
)
from tests.redis.direct import DirectLink
from tests.redis.twins import Twins
from tests.support.redis import RedisServer

STARTS = [
    at("2024-03-31 02:00", "Europe/Helsinki"),
    at("2024-10-26 23:59:58", "Europe/Helsinki"),
    at("2024-02-29 18:00"),
    1_700_000_000_123,
]
MONTH = 30 * DAY
HUGE = [MAX_AMOUNT, MAX_AMOUNT - 1, 2**52, 2**52 + 1, 2**53, 2**70]


@pytest.fixture
def link(server: RedisServer) -> Iterator[DirectLink]:
    link = DirectLink(server.port)
    yield link
    link.connection.disconnect()


def small(pick: random.Random, now: int) -> list[Hold]:
    """Limits that a few requests fill."""
    amount = pick.choice([0, 1, 5, 20, 60, 100, 101])
    everything = [
        fixed(100, amount, window=1000),
        fixed(300, 1, key="requests", window=MINUTE, unit=Unit.REQUESTS),
        sliding(100, amount, window=1200),
        sliding(pick.choice([100, 90]), amount, key="s2", window=MINUTE, unit=Unit.COST),
        gcra(100, amount, window=1000, burst=60, unit=Unit.TOKENS),
        gcra(7, pick.choice([0, 1, 3]), key="slow", window=3000, burst=9, unit=Unit.COST),
        gcra(60, key="rate"),
        calendar(150, amount, now, zone="Europe/Helsinki"),
        calendar(120, amount, now, "week", "America/Havana", week_start=6, key="week", unit=Unit.COST),
        calendar(90, amount, now, "month", "Asia/Kathmandu", key="month", unit=Unit.INPUT_TOKENS),
        slot(3),
        fixed(40, amount, key="dry", window=1000, shadow=True),
        sliding(40, amount, key="dry-sliding", window=1200, shadow=True),
        gcra(40, amount, key="dry-gcra", window=1000, shadow=True, unit=Unit.TOKENS),
        slot(1, key="dry-slots", shadow=True),
        pick.choice([fixed, sliding, gcra])(50, amount, key="shape", unit=Unit.TOKENS, window=MINUTE),
    ]
    return pick.sample(everything, pick.choice([1, 2, 4, 5]))


def large(pick: random.Random, now: int) -> list[Hold]:
    """Money by the month, and numbers at the end of what a double holds."""
    nano = pick.choice([10**9, 3 * 10**9 + 7, 250 * 10**9])
    huge = pick.choice(HUGE)
    everything = [
        fixed(1000 * 10**9, nano, window=MONTH, unit=Unit.COST),
        sliding(1000 * 10**9, nano, window=MONTH, unit=Unit.COST),
        gcra(1000 * 10**9, nano, window=MONTH, unit=Unit.COST),
        gcra(10**6, pick.choice([1, 997, 10**5]), key="tokens", window=MONTH, unit=Unit.TOKENS),
        calendar(1000 * 10**9, nano, now, "month", key="cost", unit=Unit.COST),
        fixed(MAX_AMOUNT, huge, key="most", window=MINUTE),
        sliding(MAX_AMOUNT, huge, key="most-sliding"),
        gcra(2**52, huge, key="most-gcra", window=2**20, unit=Unit.TOKENS),
        fixed(MAX_AMOUNT - 1, huge, key="dry", window=MINUTE, shadow=True),
        sliding(9, huge, key="dry-sliding", shadow=True),
        calendar(9, huge, now, key="dry-day", shadow=True),
    ]
    return pick.sample(everything, pick.choice([1, 3, 4]))


def beside_owed(pick: random.Random, holds: list[Hold]) -> list[Hold]:
    """Now and then something is owed: little, much, or the whole quota."""
    return [
        replace(hold, owed=pick.choice([1, hold.quota // 3, hold.quota - 1, hold.quota]))
        if hold.quota and pick.random() < 0.2
        else hold
        for hold in holds
    ]


def turn(pick: random.Random, twins: Twins, name: str) -> None:
    """A debt goes on into the next window: with whoever comes first, or is settled first, beside what is owed."""
    day = pick.random() < 0.5

    def hold(amount: int, owed: int) -> Hold:
        now = twins.clock.now
        whole = calendar(100, amount, now, key="debt-day") if day else fixed(100, amount, key="debt")
        return replace(whole, owed=owed)

    twins.reserve(f"{name}-a", "edge", [hold(5, 0)], DAY, b"")
    twins.reserve(f"{name}-b", "edge", [hold(1, pick.choice([0, 30, 80]))], 2 * DAY, b"")
    twins.settle(f"{name}-a", "edge", tokens(pick.choice([90, 120, 150, 300])), b"")
    twins.clock.pass_(DAY - twins.clock.now % DAY if day else MINUTE - twins.clock.now % MINUTE)
    if pick.random() < 0.5:
        twins.settle(f"{name}-b", "edge", tokens(pick.choice([0, 2])), b"")
    else:
        twins.reserve(f"{name}-c", "edge", [hold(pick.choice([0, 1]), pick.choice([30, 80, 100]))], 0, b"")
    state = twins.engine.tables.counters.get("debt-day" if day else "debt")
    twins.answers["carried"] += state is not None and state[-1] > 0


def walk(link: DirectLink, seed: int, steps: int) -> Twins:
    pick = random.Random(seed)
    clock = Clock(pick.choice(STARTS))
    link.command("FLUSHALL")
    twins = Twins(link, clock)
    holds_of = large if seed % 3 == 2 else small
    used = MAX_AMOUNT if holds_of is large else 200
    open_: list[str] = []
    for step in range(steps):
        _pass_time(pick, clock)
        name = f"r{step}" if pick.random() < 0.85 or not open_ else pick.choice(open_)
        gateway = "edge" if pick.random() < 0.95 else "other"
        known = pick.choice(open_) if open_ and pick.random() < 0.95 else "never"
        weights = {"reserve": 50, "settle": 30, "peek": 6, "find": 4, "extend": 7, "cancel": 4, "turn": 2}
        match pick.choices(list(weights), list(weights.values()))[0]:
            case "reserve" | "cancel" as what:
                holds = beside_owed(pick, holds_of(pick, clock.now))
                told = facts(f"q{step}") if pick.random() < 0.7 else b""
                ttl = pick.choice([0, 50, 500, 3000, 60_000, HOUR])
                taken = twins.engine.reservations.get(name) or twins.engine.reservations.was_settled(name)
                answer = twins.reserve(name, gateway, holds, ttl, told)
                if isinstance(answer, Reserved):
                    if what == "cancel" and not taken and twins.engine.reservations.get(name):
                        twins.cancel(name)
                    else:
                        open_.append(name)
            case "settle":
                actual = {
                    unit: pick.choice([0, 1, 5, pick.randrange(used), used, -3, 2**70])
                    for unit in Unit
                    if pick.random() < 0.7
                }
                twins.settle(known, gateway, actual, note(step) if pick.random() < 0.8 else b"")
                if pick.random() < 0.9 and known in open_:
                    open_.remove(known)
            case "peek":
                twins.peek(beside_owed(pick, holds_of(pick, clock.now)))
            case "find":
                twins.find(known, gateway)
            case "turn":
                turn(pick, twins, f"r{step}")
            case "extend":
                twins.extend(known, gateway, pick.choice([100, 4000, 50_000, HOUR]), 2 * MINUTE)
    return twins


def _pass_time(pick: random.Random, clock: Clock) -> None:
    chance = pick.random()
    if chance < 0.75:
        clock.pass_(pick.choice([0, 0, 1, 7, 20, 99, 700, 1200, 4999]))
    elif chance < 0.85:
        clock.pass_(-pick.choice([1, 50, 200, 3000]))
    elif chance < 0.95:
        clock.pass_(pick.choice([5000, 30_000, MINUTE, 10 * MINUTE]))
    else:
        clock.pass_(pick.choice([HOUR, 23 * HOUR, DAY - MINUTE, DAY, 25 * HOUR, 31 * DAY]))


def walks(link: DirectLink, seeds: range, steps: int) -> int:
    """Many of them. How many steps that were."""
    seen: Counter[str] = Counter()
    done = 0
    for seed in seeds:
        try:
            twins = walk(link, seed, steps)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}") from error
        seen += twins.answers
        done += twins.steps
    assert set(seen) >= {
        *("reserved", "over", "replay", "exhausted", "settled", "corrected", "already", "foreign", "unknown"),
        *("extended True", "extended False"),
    }
    assert seen["owed"] >= 50
    assert seen["carried"] >= 10
    return done


@pytest.mark.parametrize("part", range(4))
def test_every_answer_is_the_engines(link: DirectLink, part: int) -> None:
    assert walks(link, range(9 * part, 9 * part + 9), 100) >= 900
