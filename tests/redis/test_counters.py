"""The counters over real links: on a server, and on a Cluster where a request's holds lie on several."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from authz.quota import Unit
from authz.store.engine import Engine
from authz.store.levels import level_of, settled_of
from authz.store.protocols import Exhausted, Hold, Kind, Outcome, Remembered, Reserved, StoreUnavailable
from authz.store.redis import names
from authz.store.redis.client import sync_client
from authz.store.redis.counters import RedisCounters
from authz.store.redis.link_calls import Caller
from authz.store.redis.standing import AT_ONCE, counter_levels
from authz.store.redis.sweeper import Sweeper
from authz.store.redis.target import Target
from tests.contract.kit import (
    DAY,
    MINUTE,
    NOON,
    Clock,
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
from tests.redis.link_kit import PATIENT, linked
from tests.support.redis import RedisCluster, RedisServer

TTL = 10 * MINUTE


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def single(server: RedisServer) -> AsyncIterator[Caller]:
    async with linked(server.url + PATIENT) as link:
        yield link


@pytest.fixture
async def spread(cluster: RedisCluster) -> AsyncIterator[Caller]:
    async with linked(cluster.url + PATIENT) as link:
        yield link


def of(owner: str, hold: Hold) -> Hold:
    return msgspec.structs.replace(hold, key=f"{hold.key}|{owner}", owner=owner)


def bare(hold: Hold) -> Hold:
    return msgspec.structs.replace(hold, amount=0)


async def left(counters: RedisCounters, *holds: Hold) -> list[tuple[int, int]]:
    answer = await counters.peek([bare(hold) for hold in holds])
    return [(level.remaining, level.held) for level in answer.levels]


ALICE = [of("team:nlp", fixed(1000, 400)), of("team:nlp", slot(2))]
EVERYBODY = sliding(2000, 400, key="global")
ADDRESS = gcra(60, key="ip|10.0.0.1")
MIXED = [ADDRESS, *ALICE, EVERYBODY]


class TestOneServer:
    async def test_its_own_time(self, single: Caller) -> None:
        counters = RedisCounters(single)
        await counters.reserve("a", "edge", [fixed(1000, 400)], TTL, b"facts")
        found = await counters.find("a", "edge")
        assert isinstance(found, Remembered)
        seconds, _ = await single.command("TIME")
        assert 0 <= int(seconds) - found.created // 1000 < 60
        assert (await counters.settle("a", "edge", tokens(100))).outcome is Outcome.SETTLED

    async def test_no_shard_is_in_an_id(self, single: Caller) -> None:
        assert RedisCounters(single).place(MIXED) == ""

    async def test_104_replicas_admit_no_more_than_there_is(self, single: Caller, clock: Clock) -> None:
        replicas = [RedisCounters(single, clock) for _ in range(3)]
        answers = await asyncio.gather(
            *(replicas[n % 3].reserve(f"r{n}", "edge", [fixed(1000, 16), slot(999)], TTL) for n in range(200))
        )
        assert sum(isinstance(answer, Reserved) for answer in answers) == 1000 // 16

    async def test_any_replica_ends_what_is_over(self, single: Caller, clock: Clock) -> None:
        counters, other = RedisCounters(single, clock), RedisCounters(single, clock)
        for n in range(450):
            await counters.reserve(f"r{n}", "edge", [fixed(10**6, 400, window=DAY)], 50, facts())
        clock.pass_(MINUTE)
        sweepers = [Sweeper(counters.calls), Sweeper(other.calls)]
        ended = await asyncio.gather(*(sweeper.sweep() for sweeper in sweepers))
        assert sum(ended) == counters.expired + other.expired == 450
        assert await single.command("XLEN", names.closed("0"), key=names.closed("0")) == 450

    async def test_it_is_swept_without_anybody_asking(self, single: Caller) -> None:
        counters = RedisCounters(single)
        await counters.reserve("a", "edge", [fixed(1000, 400)], 1, b"facts")
        sweeper = Sweeper(counters.calls)
        await sweeper.start()
        async with asyncio.timeout(60):
            while not counters.expired:
                await asyncio.sleep(0.05)
        await sweeper.close()
        assert await single.command("ZCARD", names.running("0"), key=names.running("0")) == 0


class TestCluster:
    async def test_an_id_says_where_its_reservation_is(self, spread: Caller) -> None:
        counters = RedisCounters(spread)
        place = counters.place(MIXED)
        assert place == f"-{names.shard_of('team:nlp', names.SPREAD)}"
        assert counters.place([ADDRESS]) == f"-{names.shard_of(ADDRESS.key, names.SPREAD)}"
        assert counters.place([]) == "", "so that a gateway's own retry has the same id"
        homes = {counters.home(f"rsv_{n}{counters.place([])}") for n in range(64)}
        assert len(homes) > 1, "requests without limits are everywhere"

    async def test_all_parts_are_held_and_settled(self, spread: Caller, clock: Clock) -> None:
        counters = RedisCounters(spread, clock)
        name = f"a{counters.place(MIXED)}"
        answer = await counters.reserve(name, "edge", MIXED, TTL, facts())
        assert isinstance(answer, Reserved)
        assert [level.remaining for level in answer.levels] == [59, 600, 1, 1600]
        assert await left(counters, *MIXED) == [(59, 0), (600, 400), (1, 1), (1600, 400)]
        again = await counters.reserve(name, "edge", MIXED, TTL, facts())
        assert isinstance(again, Reserved)
        assert again.replay
        assert await counters.extend(name, "edge", 2 * TTL, DAY)
        clock.pass_(TTL)
        settled = await counters.settle(name, "edge", {Unit.TOKENS: 100, Unit.REQUESTS: 0}, note(100))
        assert settled.outcome is Outcome.SETTLED
        assert {hold.key for hold in settled.holds} == {
            hold.key for hold in MIXED if hold.kind != Kind.CONCURRENCY
        }
        assert await left(counters, *ALICE[1:]) == [(2, 0)]
        again = await counters.settle(name, "edge", tokens(0))
        assert again.outcome is Outcome.ALREADY
        home = counters.place(MIXED)[1:]
        assert await spread.command("XLEN", names.closed(home), key=names.closed(home)) == 1

    async def test_a_refusal_by_one_part_takes_the_others_back(self, spread: Caller, clock: Clock) -> None:
        counters = RedisCounters(spread, clock)
        before = await left(counters, *MIXED)
        for place, tight in enumerate(MIXED):
            holds = list(MIXED)
            holds[place] = msgspec.structs.replace(tight, quota=0)
            name = f"r{place}{counters.place(holds)}"
            refused = await counters.reserve(name, "edge", holds, TTL, facts())
            assert isinstance(refused, Exhausted)
            assert (refused.denied, refused.wait_ms) == ((place,), -1)
            expected = [hold.quota for hold in holds]
            assert [level.remaining for level in refused.levels] == expected
            assert await counters.peek(holds) == refused
            assert await left(counters, *MIXED) == before
            assert await counters.find(name, "edge") is Outcome.UNKNOWN

    async def test_104_spread_over_servers_it_is_never_over(self, spread: Caller, clock: Clock) -> None:
        counters = RedisCounters(spread, clock)

        async def ask(n: int) -> bool:
            holds = [of(f"team:{n % 7}", fixed(100, 16)), sliding(400, 16, key="global"), slot(12, key="all")]
            name = f"r{n}{counters.place(holds)}"
            return isinstance(await counters.reserve(name, "edge", holds, TTL, facts()), Reserved)

        admitted = sum(await asyncio.gather(*(ask(n) for n in range(100))))
        assert 1 <= admitted <= 12
        holds = [sliding(400, 16, key="global"), slot(12, key="all")]
        assert await left(counters, *holds) == [
            (400 - 16 * admitted, 16 * admitted),
            (12 - admitted, admitted),
        ]

    @pytest.mark.parametrize("asked", [1, 3], ids=["others-asked", "home-asked"])
    async def test_who_goes_away_half_way_takes_nothing_from_all(
        self, spread: Caller, clock: Clock, asked: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        counters = RedisCounters(spread, clock)
        before = await left(counters, *MIXED)
        run, calls = spread.run, 0

        def until_gone(*args: Any, **more: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == asked:
                asyncio.get_running_loop().call_soon(going.cancel)
            return run(*args, **more)

        monkeypatch.setattr(spread, "run", until_gone)
        name = f"a{counters.place(MIXED)}"
        going = asyncio.ensure_future(counters.reserve(name, "edge", MIXED, TTL, facts()))
        with pytest.raises(asyncio.CancelledError):
            await going
        async with asyncio.timeout(60):
            while spread.owed or await left(counters, *MIXED) != before:
                await asyncio.sleep(0.02)
        assert await counters.find(name, "edge") is Outcome.UNKNOWN

    async def test_ids_without_a_place_are_found_too(self, spread: Caller, clock: Clock) -> None:
        counters = RedisCounters(spread, clock)
        for name in ("a", "x-999", "y-7", ""):
            await counters.reserve(name, "edge", [fixed(1000, 400, key=name)], TTL)
            assert (await counters.settle(name, "edge", tokens(0))).outcome is Outcome.SETTLED
            assert await left(counters, fixed(1000, key=name)) == [(1000, 0)]


class Broken(DirectLink):
    """Some calls fail, when they should."""

    fails = ""
    shard = ""

    def run(self, script: Any, keys: Any, args: Any, **more: Any) -> Any:
        if script.name == self.fails and self.shard in keys[0]:
            answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            answer.set_exception(StoreUnavailable("no answer"))
            return answer
        return super().run(script, keys, args, **more)


class TestApart:
    """All shards on one server: as on a Cluster, but quicker to try."""

    @pytest.mark.parametrize("down", ["home", "other"])
    async def test_a_part_without_an_answer_takes_the_others_back(
        self, server: RedisServer, clock: Clock, down: str
    ) -> None:
        link = Broken(server.port, names.SPREAD)
        counters = RedisCounters(link, clock)
        home = counters.place(MIXED)[1:]
        before = await left(counters, *MIXED)
        link.fails = "reserve"
        link.shard = f"{{{home if down == 'home' else names.shard_of(ADDRESS.key, names.SPREAD)}}}"
        with pytest.raises(StoreUnavailable, match="no answer"):
            await counters.reserve(f"a-{home}", "edge", MIXED, TTL, facts())
        assert await left(counters, *MIXED) == before
        link.connection.disconnect()

    async def test_a_settlement_goes_as_far_as_it_can(self, server: RedisServer, clock: Clock) -> None:
        link = Broken(server.port, names.SPREAD)
        counters = RedisCounters(link, clock)
        home = counters.place(MIXED)[1:]
        await counters.reserve(f"a-{home}", "edge", MIXED, TTL, facts())
        link.fails, link.shard = "settle", f"{{{names.shard_of(EVERYBODY.key, names.SPREAD)}}}"
        assert (await counters.settle(f"a-{home}", "edge", tokens(100))).outcome is Outcome.SETTLED
        assert await left(counters, *MIXED) == [(59, 0), (900, 0), (2, 0), (1600, 400)]
        link.connection.disconnect()

    @pytest.mark.parametrize("seed", range(4))
    async def test_every_answer_is_the_engines(self, server: RedisServer, seed: int) -> None:
        pick, clock, engine = random.Random(seed), Clock(NOON), Engine()
        link = DirectLink(server.port, names.SPREAD)
        counters = RedisCounters(link, clock)
        open_: list[str] = []
        for step in range(120):
            clock.pass_(pick.choice([0, 10, 500, 5000]))
            everything = [
                of("team:a", fixed(500, pick.choice([1, 60, 501]))),
                of("team:a", slot(3)),
                of("user:b", sliding(500, 60)),
                gcra(20, key="ip"),
                calendar(9000, 60, clock.now, key="all"),
                slot(9, key="of-all"),
                gcra(1, 1, key="dry", shadow=True),
            ]
            holds = pick.sample(everything, pick.choice([0, 1, 3, 5]))
            if pick.random() < 0.6:
                name = f"r{step}{counters.place(holds)}"
                theirs = engine.reserve(clock.now, name, "edge", holds, DAY, b"facts")
                ours = await counters.reserve(name, "edge", holds, DAY, b"facts")
                if isinstance(theirs, Reserved):
                    open_.append(name)
            elif open_ and pick.random() < 0.7:
                name, actual = open_.pop(pick.randrange(len(open_))), tokens(pick.choice([0, 7, 90]))
                done, told = (
                    engine.settle(clock.now, name, "edge", actual),
                    await counters.settle(name, "edge", actual),
                )
                assert done.outcome is told.outcome
                their, our = (
                    dict(zip([h.key for h in x.holds], x.levels, strict=True)) for x in (done, told)
                )
                assert their == our
                continue
            else:
                theirs, ours = engine.peek(clock.now, holds), await counters.peek(holds)
            assert type(theirs) is type(ours)
            for hold, their, our in zip(holds, theirs.levels, ours.levels, strict=True):
                if hold.kind is Kind.CONCURRENCY:
                    assert (their.remaining, their.held) == (our.remaining, our.held)
                else:
                    assert their == our
            if isinstance(theirs, Reserved):
                assert theirs.over == ours.over
            else:
                assert theirs.denied == ours.denied
        link.connection.disconnect()


class TestStanding:
    @pytest.mark.parametrize("where", ["single", "spread"])
    async def test_it_tells_what_a_peek_does(
        self, request: pytest.FixtureRequest, where: str, clock: Clock
    ) -> None:
        place: RedisServer | RedisCluster = request.getfixturevalue(
            "server" if where == "single" else "cluster"
        )
        async with linked(place.url + PATIENT) as link:
            counters = RedisCounters(link, clock)
            limits = [
                gcra(60, key="p|rate"),
                gcra(600, 100, key="p|tokens", unit=Unit.TOKENS),
                fixed(1000, 400, key="p|fixed"),
                sliding(1000, 400, key="p|sliding"),
                calendar(1000, 400, clock.now, key="p|day"),
                slot(3, key="p|slots"),
            ]
            for n in range(2):
                await counters.reserve(f"r{n}", "edge", limits, TTL, facts())
                clock.pass_(1000)
            await counters.settle("r0", "edge", tokens(300))
            peeked = await counters.peek([bare(hold) for hold in limits])
        with sync_client(Target.parse(place.url)) as client:
            found = counter_levels(client, "p|")
            assert set(found) == {hold.key for hold in limits}
            for hold, level in zip(limits, peeked.levels, strict=True):
                assert level_of(found[hold.key], hold, clock.now) == level
                if hold.kind is not Kind.CONCURRENCY:
                    assert (
                        settled_of(found[hold.key], hold, clock.now)
                        == hold.quota - level.remaining - level.held
                    )
            assert set(counter_levels(client, "p|s")) == {"p|sliding", "p|slots"}

    async def test_nothing_in_a_name_is_a_pattern(
        self, single: Caller, server: RedisServer, clock: Clock
    ) -> None:
        counters = RedisCounters(single, clock)
        keys = ["a*b", "a?b", "a[b]", "a\\b", "axb", "a^b", "a-b", "}:c:x", "п|2:é"]
        await counters.reserve("r", "edge", [fixed(9, key=key) for key in keys], TTL)
        with sync_client(Target.parse(server.url)) as client:
            assert set(counter_levels(client)) == set(keys)
            for key in keys:
                assert set(counter_levels(client, key)) == {key}

    async def test_there_may_be_many(self, single: Caller, server: RedisServer, clock: Clock) -> None:
        counters = RedisCounters(single, clock)
        many = 2 * AT_ONCE + 10
        for first in range(0, many, 10):
            holds = [fixed(9, key=f"k{n}") for n in range(first, first + 10)]
            await counters.reserve(f"r{first}", "edge", holds, TTL)
        with sync_client(Target.parse(server.url)) as client:
            assert len(counter_levels(client)) == many
