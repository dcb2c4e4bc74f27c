"""Requests that are counted in one call: each as if it were alone, and none charged that had no answer."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authz.quota import MAX_AMOUNT, Unit
from authz.store.engine import Engine
from authz.store.protocols import Exhausted, Hold, Reserved, StoreUnavailable
from authz.store.redis import names, scripts
from authz.store.redis.counters import RedisCounters
from authz.store.redis.link import Script, Undo
from authz.store.redis.link_calls import Caller
from authz.store.redis.link_open import open_link
from authz.store.redis.target import Target
from authz.store.redis.together import MOST_HOLDS
from tests.contract.kit import DAY, HOUR, MINUTE, NOON, Clock, facts, fixed, gcra, tokens
from tests.redis.link_kit import PATIENT, linked, outcome, until
from tests.support.redis import RedisCluster, RedisServer
from tests.support.toxic import Toxic

UNDONE_WITHIN_MS = 600_000  # however busy the machine is

Answer = Reserved | Exhausted
_serial = count()


def ask(key: str = "a", quota: int = 10, amount: int = 1, **more: Any) -> Hold:
    return fixed(quota, amount, key=key, unit=Unit.REQUESTS, **more)


class Recorded:
    """A link that notes what is run over it."""

    def __init__(self, link: Caller) -> None:
        self._link = link
        self.ran: list[tuple[Script, Sequence[str], Sequence[Any], Undo | None]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)

    def run(
        self,
        script: Script,
        keys: Sequence[str],
        args: Sequence[Any],
        *,
        undo: Undo | None = None,
        **more: Any,
    ) -> "asyncio.Future[Any]":
        self.ran.append((script, keys, args, undo))
        return self._link.run(script, keys, args, undo=undo, **more)

    def calls(self, script: Script) -> int:
        return sum(ran[0] is script for ran in self.ran)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


@pytest.fixture
def link(wire: Caller) -> Recorded:
    return Recorded(wire)


@pytest.fixture
def counters(link: Recorded, clock: Clock) -> RedisCounters:
    return RedisCounters(link, clock)  # type: ignore[arg-type]


async def both(counters: RedisCounters, requests: Sequence[Sequence[Hold]]) -> list[Answer | str]:
    """The answers of requests that come in one tick."""
    asked = [
        asyncio.ensure_future(counters.reserve(f"r{next(_serial)}", "", holds, UNDONE_WITHIN_MS))
        for holds in requests
    ]
    return [await outcome(each) for each in asked]


async def left(counters: RedisCounters, *holds: Hold) -> list[int]:
    answer = await counters.peek([fixed(each.quota, 0, key=each.key, unit=each.unit) for each in holds])
    return [level.remaining for level in answer.levels]


# -- as if each were alone ---------------------------------------------------------------------------

_amounts = st.sampled_from([0, 1, 1, 1, 2, 5, MAX_AMOUNT, MAX_AMOUNT + 7])
_quotas = st.sampled_from([0, 3, 10, 10, 100, MAX_AMOUNT])
_windows = st.sampled_from([MINUTE, MINUTE, MINUTE, HOUR])
_hold = st.builds(ask, st.sampled_from("abc"), _quotas, _amounts, window=_windows, shadow=st.booleans())
_request = st.lists(_hold, min_size=1, max_size=3, unique_by=lambda hold: hold.key)
_ticks = st.lists(
    st.tuples(st.sampled_from([0, 1, 59_000, MINUTE, -1]), st.lists(_request, max_size=12)), max_size=6
)


async def opened(server: RedisServer) -> Caller:
    link = open_link(Target.parse(server.url + PATIENT))
    await link.start()
    return link


def test_a_call_is_the_same_as_its_requests_one_by_one(server: RedisServer) -> None:
    """By hundreds of random ticks, against the engine of the embedded stores."""
    with asyncio.Runner() as runner:
        link = runner.run(opened(server))

        @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
        @given(ticks=_ticks)
        def check(ticks: list[tuple[int, list[list[Hold]]]]) -> None:
            server.call("FLUSHDB")
            runner.run(compare(link, ticks))

        check()
        runner.run(link.close())


async def compare(link: Caller, ticks: list[tuple[int, list[list[Hold]]]]) -> None:
    engine, clock = Engine(), Clock(NOON + 30_500)
    counters = RedisCounters(link, clock)
    for passed, requests in ticks:
        clock.pass_(passed)
        answers = await both(counters, requests)
        for holds, answer in zip(requests, answers, strict=True):
            assert answer == engine.reserve(clock(), f"r{next(_serial)}", "", holds, 0)


async def test_many_requests_are_one_call(counters: RedisCounters, link: Recorded) -> None:
    answers = await both(counters, [[ask(quota=30)]] * 40)
    assert [isinstance(answer, Reserved) for answer in answers] == [True] * 30 + [False] * 10
    assert link.calls(scripts.COUNT) == len(link.ran) == 1


async def test_a_call_has_an_end(counters: RedisCounters, link: Recorded) -> None:
    """However many ask: Redis answers others in between."""
    largest = [ask(f"k{number}", 2) for number in range(MOST_HOLDS + 1)]
    answers = await both(counters, [largest, *([[ask(quota=1000)]] * (MOST_HOLDS + 1))])
    assert all(isinstance(answer, Reserved) for answer in answers)
    assert link.calls(scripts.COUNT) == 3
    assert await left(counters, ask(quota=1000)) == [1000 - MOST_HOLDS - 1]


async def test_what_is_found_later_is_asked_for_alone(counters: RedisCounters, link: Recorded) -> None:
    alone = [
        ("edge", [ask()], b""),
        ("", [ask()], facts()),
        ("", [ask(), gcra(5)], b""),
        ("", [fixed(9, key="tokens")], b""),
        ("", [ask(owner="user:alice")], b""),
        ("", [ask(owed=3)], b""),
    ]
    for number, (gateway, holds, known) in enumerate(alone):
        await counters.reserve(f"r{number}", gateway, holds, UNDONE_WITHIN_MS, known)
    assert (link.calls(scripts.COUNT), link.calls(scripts.RESERVE)) == (0, len(alone))
    assert await left(counters, ask()) == [5]


async def test_the_counters_are_those_of_other_requests(
    counters: RedisCounters, clock: Clock, server: RedisServer
) -> None:
    """What runs is told, and a debt is carried into the window that follows."""
    runs = fixed(10, 4, key="a")
    await counters.reserve("runs", "edge", [runs], HOUR, facts())
    (told,) = await both(counters, [[ask()]])
    assert isinstance(told, Reserved)
    assert [(level.remaining, level.held) for level in told.levels] == [(5, 4)]
    await counters.settle("runs", "edge", tokens(16))
    clock.pass_(MINUTE)
    (carried,) = await both(counters, [[ask()]])
    assert isinstance(carried, Reserved)
    assert [(level.remaining, level.held) for level in carried.levels] == [(2, 0)]
    assert await left(counters, ask()) == [2]
    assert set(map(bytes.decode, server.call("KEYS", "*c:*"))) == {names.counter("0", "a")}


async def test_what_has_another_shape_begins_empty(counters: RedisCounters) -> None:
    await counters.reserve("other", "edge", [gcra(60, 5, key="a")], 0)
    await counters.reserve("other", "edge", [ask("b", window=DAY)], 0)
    answers = await both(counters, [[ask("a"), ask("b")]])
    assert [[level.remaining for level in answer.levels] for answer in answers] == [[9, 9]]  # type: ignore[union-attr]


async def test_108_room_is_for_counters_that_are_there(link: Recorded, clock: Clock) -> None:
    few = RedisCounters(link, clock, most_counters=20)  # type: ignore[arg-type]
    assert isinstance((await both(few, [[ask("known", 100)]]))[0], Reserved)
    flood = await both(few, [[ask(f"k{number}"), ask("known", 100)] for number in range(30)])
    made = sum(isinstance(answer, Reserved) for answer in flood)
    assert 0 < made <= 10
    assert all("?most_counters=" in answer for answer in flood[made:])  # type: ignore[operator]
    answers = await both(few, [[ask("known", 100)], [ask("new", amount=0)], [ask("new")]])
    assert [isinstance(answer, Reserved) for answer in answers] == [True, False, False]
    assert await left(few, ask("known", 100)) == [100 - made - 2]


async def test_replicas_together_are_never_over(server: RedisServer, clock: Clock) -> None:
    async with linked(server.url + PATIENT) as one, linked(server.url + PATIENT) as other:
        replicas = [RedisCounters(each, clock) for each in (one, other)]

        async def admitted(replica: RedisCounters) -> int:
            answers = await both(replica, [[ask("x", 55), ask(f"y{number % 3}", 30)] for number in range(40)])
            await asyncio.sleep(0)
            answers += await both(replica, [[ask("x", 55)]] * 20)
            return sum(isinstance(answer, Reserved) for answer in answers)

        assert sum(await asyncio.gather(*map(admitted, replicas))) == 55


async def test_scripts_are_brought_again_to_a_server_that_forgot_them(
    counters: RedisCounters, server: RedisServer
) -> None:
    await both(counters, [[ask()]] * 2)
    server.call("SCRIPT", "FLUSH")
    assert all(isinstance(answer, Reserved) for answer in await both(counters, [[ask()]] * 2))
    assert await left(counters, ask()) == [6]


# -- charged only with an answer ---------------------------------------------------------------------


async def test_what_has_no_answer_in_time_charges_nothing(server: RedisServer, clock: Clock) -> None:
    with Toxic(server.port) as toxic:
        async with linked(toxic.url + "?budget=200ms") as link, linked(server.url + PATIENT) as direct:
            counters, seen = RedisCounters(link, clock), RedisCounters(direct, clock)
            await until(lambda: link.trouble is None)
            toxic.hold()
            answers = await both(counters, [[ask(window=DAY), ask("b", window=DAY)]] * 4)
            assert [type(answer) for answer in answers] == [str] * 4
            toxic.release()
            await until(lambda: link.owed == 0)
            bare = [ask(key, amount=0, window=DAY) for key in "ab"]
            assert [level.remaining for level in (await seen.peek(bare)).levels] == [10, 10]


async def test_a_call_is_taken_back_once(counters: RedisCounters, link: Recorded) -> None:
    await both(counters, [[ask()], [ask(quota=1)], [ask(), ask("b", 5, 2)]])
    await both(counters, [[ask()]])
    assert await left(counters, ask(), ask("b", 5)) == [7, 3]
    undo = link.ran[0][3]
    assert undo is not None
    assert [await link.run(undo.script, undo.keys, undo.args) for _ in range(3)] == [1, 0, 0]
    assert await left(counters, ask(), ask("b", 5)) == [9, 5]


async def test_a_call_that_comes_after_it_was_given_up_does_nothing(
    counters: RedisCounters, link: Recorded
) -> None:
    await both(counters, [[ask("other")]])
    _, keys, args, undo = link.ran[0]
    assert undo is not None
    named = [*args[:1], "another-name", *args[2:]]
    undone = [*undo.args[:1], "another-name", *undo.args[2:]]
    assert await link.run(undo.script, keys, undone) == 0
    assert await link.run(scripts.COUNT, keys, named) == [scripts.Status.CANCELLED]
    assert await left(counters, ask("other")) == [9]


async def test_a_closed_window_takes_nothing_back(
    counters: RedisCounters, link: Recorded, clock: Clock
) -> None:
    await both(counters, [[ask(), ask("b", window=HOUR)]])
    undo = link.ran[0][3]
    assert undo is not None
    clock.pass_(MINUTE)
    await both(counters, [[ask(), ask("b", window=HOUR)]])
    await link.run(undo.script, undo.keys, [clock(), *undo.args[1:]])
    answer = await counters.peek([ask(amount=0), ask("b", amount=0, window=HOUR)])
    assert [level.remaining for level in answer.levels] == [9, 9]


async def test_who_goes_away_is_not_charged(counters: RedisCounters, link: Recorded) -> None:
    asked = [asyncio.ensure_future(counters.reserve("", "", [ask()], UNDONE_WITHIN_MS)) for _ in range(6)]
    await asyncio.sleep(0)
    asked[0].cancel()  # before the call is sent
    while not link.calls(scripts.COUNT):
        await asyncio.sleep(0)
    asked[2].cancel()
    asked[5].cancel()
    ended = await asyncio.gather(*asked, return_exceptions=True)
    assert Counter(type(each) for each in ended) == {Reserved: 3, asyncio.CancelledError: 3}
    await until(lambda: link.calls(scripts.TAKE_BACK))
    assert await left(counters, ask()) == [7]
    undo = link.ran[-2]
    assert undo[0] is scripts.TAKE_BACK
    assert await link.run(*undo[:3]) == 0, "nor is it given back twice"
    assert await left(counters, ask()) == [7]


async def test_nobody_is_left_waiting_where_a_call_cannot_be_made(
    counters: RedisCounters, link: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("it cannot be packed")

    monkeypatch.setattr(link, "run", fail)
    for each in [asyncio.ensure_future(counters.reserve("", "", [ask()], 0)) for _ in range(2)]:
        with pytest.raises(RuntimeError, match="packed"):
            await each


async def test_connections_that_break_charge_only_what_was_answered(
    server: RedisServer, clock: Clock
) -> None:
    quota = 10_000
    with Toxic(server.port) as toxic:
        async with linked(toxic.url + PATIENT) as link, linked(server.url + PATIENT) as direct:
            counters, seen = RedisCounters(link, clock), RedisCounters(direct, clock)
            made = 0
            for number in range(12):
                await until(lambda: link.trouble is None)
                if number % 2:
                    toxic.reset_mid_reply(number)
                ticks = [asyncio.ensure_future(both(counters, [[ask(quota=quota, window=DAY)]] * 5))]
                await asyncio.sleep(0)
                ticks.append(asyncio.ensure_future(both(counters, [[ask(quota=quota, window=DAY)]] * 5)))
                if not number % 3:
                    toxic.drop()
                answers = [answer for tick in ticks for answer in await tick]
                made += sum(isinstance(answer, Reserved) for answer in answers)
            await until(lambda: link.trouble is None and not link.owed)
            (level,) = (await seen.peek([ask(quota=quota, amount=0, window=DAY)])).levels
            assert quota - level.remaining == made
            assert made < 120, "some had no answer"


async def test_a_server_that_is_started_anew_goes_on(own: RedisServer, clock: Clock) -> None:
    async with linked(own.url + PATIENT) as link:
        counters = RedisCounters(link, clock)
        assert isinstance((await both(counters, [[ask(window=DAY)]] * 3))[2], Reserved)
        waiting = asyncio.ensure_future(both(counters, [[ask(window=DAY)]] * 3))
        await asyncio.sleep(0)
        own.kill()
        assert len(await waiting) == 3
        own.restart()
        await until(lambda: link.trouble is None and not link.owed)
        (answer,) = await both(counters, [[ask(window=DAY)]])
        assert isinstance(answer, Reserved)
        assert answer.levels[0].remaining == 9, "it kept nothing, and what is taken back is not below that"


# -- on a Cluster ------------------------------------------------------------------------------------


async def test_on_a_cluster_one_call_for_each_shard(cluster: RedisCluster, clock: Clock) -> None:
    async with linked(cluster.url + PATIENT) as wire:
        link = Recorded(wire)
        counters = RedisCounters(link, clock)  # type: ignore[arg-type]
        keys = [f"k{number}" for number in range(12)]
        shards = {names.shard_of(key, names.SPREAD) for key in keys}
        assert len(shards) > 3
        answers = await both(counters, [[ask(key, 2)] for key in keys * 3])
        assert [isinstance(answer, Reserved) for answer in answers] == [True] * 24 + [False] * 12
        assert link.calls(scripts.COUNT) == len(link.ran) == len(shards)
        with_both = await both(counters, [[ask("k0", 3), ask("k1", 3)]] * 2)
        assert [isinstance(answer, Reserved) for answer in with_both] == [True, False]
        assert link.calls(scripts.COUNT) == len(shards), "one that lies in several is asked for by itself"
        for key in ("k0", "k1"):
            assert await left(counters, ask(key, 3)) == [0]


async def test_no_answer_is_an_error_of_the_store(link: Recorded, counters: RedisCounters) -> None:
    """Each caller has one of its own: a traceback that grows is nobody else's."""
    await link.close()
    asked = [asyncio.ensure_future(counters.reserve("", "", [ask()], 0)) for _ in range(2)]
    raised = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(each) for each in raised] == [StoreUnavailable] * 2
    assert raised[0] is not raised[1]
