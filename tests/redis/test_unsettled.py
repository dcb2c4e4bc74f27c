"""A settlement that did not reach all servers of a Cluster: the rest follows, and what cannot is told of."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from authz.quota import Unit
from authz.store.protocols import Outcome, Reserved
from authz.store.redis import names, unsettled
from authz.store.redis.counters import RedisCounters
from tests.contract.kit import Clock, facts, note, tokens
from tests.redis.link_kit import PATIENT, linked
from tests.redis.records_kit import until
from tests.redis.test_counters import ADDRESS, EVERYBODY, MIXED, TTL, Broken, left
from tests.support.redis import RedisCluster, RedisServer

FAR = names.shard_of(EVERYBODY.key, names.SPREAD)
SETTLED = [(60, 0), (900, 0), (2, 0), (1900, 0)]
HALF_SETTLED = [(60, 0), (900, 0), (2, 0), (1600, 400)]
USED = {Unit.TOKENS: 100, Unit.REQUESTS: 0}


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unsettled, "PAUSE_S", 0.01)


@pytest.fixture
def link(server: RedisServer) -> Iterator[Broken]:
    """All shards on one server; the far one may be cut off."""
    link = Broken(server.port, names.SPREAD)
    link.shard = f"{{{FAR}}}"
    yield link
    link.connection.disconnect()


def cut(link: Broken, *, off: bool = True) -> None:
    link.fails = "settle" if off else ""


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]


async def reserved(counters: RedisCounters, name: str = "a") -> str:
    id = f"{name}{counters.place(MIXED)}"
    assert isinstance(await counters.reserve(id, "edge", MIXED, TTL, facts()), Reserved)
    return id


@asynccontextmanager
async def waiting(link: Broken, clock: Clock, count: int = 1) -> AsyncIterator[RedisCounters]:
    """So many settlements whose part far away was not answered, one after another."""
    counters = RedisCounters(link, clock)
    for number in range(count):
        cut(link, off=False)
        id = await reserved(counters, f"a{number}")
        cut(link)
        assert (await counters.settle(id, "edge", USED)).outcome is Outcome.SETTLED
    yield counters
    await counters.close()


async def eventually(counters: RedisCounters, levels: list[tuple[int, int]]) -> None:
    async with asyncio.timeout(30):
        while await left(counters, *MIXED) != levels:
            await asyncio.sleep(0.02)


@pytest.mark.usefixtures("hurried")
async def test_what_a_server_of_a_cluster_did_not_take_it_takes_later(tmp_path: Path, clock: Clock) -> None:
    with RedisCluster(tmp_path) as cluster:
        async with linked(cluster.url + PATIENT) as link:
            counters = RedisCounters(link, clock)
            home = link._node_of(names.running(counters.place(MIXED)[1:]))
            far = next(
                node
                for shard in (FAR, names.shard_of(ADDRESS.key, names.SPREAD))
                if (node := link._node_of(names.running(shard))) is not home and node is not None
            )
            id = await reserved(counters)
            server = next(each for each in cluster.masters if each.port == far.address[1])
            server.call("CONFIG", "SET", "min-replicas-to-write", "1")
            await until(lambda: far.trouble is not None)
            settled = await counters.settle(id, "edge", USED, note(100))
            assert settled.outcome is Outcome.SETTLED
            assert len(settled.holds) < 3, "what the far server has of it is not told"
            assert (await counters.settle(id, "edge", USED)).outcome is Outcome.ALREADY
            server.call("CONFIG", "SET", "min-replicas-to-write", "0")
            await until(lambda: far.trouble is None)
            await eventually(counters, SETTLED)
            await counters.close()


@pytest.mark.usefixtures("hurried")
async def test_it_is_tried_until_it_is_answered(
    link: Broken, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    async with waiting(link, clock) as counters:
        before = link.calls
        await until(lambda: len(counters._unsettled) == 1)
        assert await left(counters, *MIXED) == HALF_SETTLED
        cut(link, off=False)
        await until(lambda: len(counters._unsettled) == 0)
        assert await left(counters, *MIXED) == SETTLED
        assert link.calls > before
    assert warned(caplog) == []


@pytest.mark.usefixtures("hurried")
async def test_one_that_ran_without_an_answer_is_charged_once(link: Broken, clock: Clock) -> None:
    async with waiting(link, clock) as counters:
        cut(link, off=False)
        await counters.calls.settle(FAR, f"a0{counters.place(MIXED)}", "edge", USED, b"")
        await until(lambda: len(counters._unsettled) == 0)
        assert await left(counters, *MIXED) == SETTLED


async def test_who_goes_away_meanwhile_leaves_nothing_held(link: Broken, clock: Clock) -> None:
    counters = RedisCounters(link, clock)
    id = await reserved(counters)
    settle, asked = counters.calls.settle, asyncio.Event()

    async def slow(shard: str, *words: object, **more: object) -> object:
        if shard == FAR and not asked.is_set():
            asked.set()
            await asyncio.Event().wait()
        return await settle(shard, *words, **more)  # type: ignore[arg-type]

    counters.calls.settle = slow  # type: ignore[assignment,method-assign]
    going = asyncio.ensure_future(counters.settle(id, "edge", USED))
    await asked.wait()
    going.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going
    await counters.close()
    assert await left(counters, *MIXED) == SETTLED


async def test_the_end_of_the_process_tries_once_more(
    link: Broken, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    async with waiting(link, clock, 3) as counters:
        cut(link, off=False)
    assert await left(counters, EVERYBODY) == [(2000 - 3 * 100, 0)]
    assert warned(caplog) == []


async def test_what_is_left_at_the_end_is_told(
    link: Broken, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    async with waiting(link, clock, 3) as counters:
        pass
    (said,) = warned(caplog)
    assert "3 parts" in said
    assert "as this process ends" in said
    cut(link, off=False)
    assert await left(counters, EVERYBODY) == [(2000 - 3 * 400, 3 * 400)]


async def test_no_more_than_so_many_wait(
    link: Broken, clock: Clock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unsettled, "MOST", 2)
    async with waiting(link, clock, 4) as counters:
        assert len(counters._unsettled) == 2
        cut(link, off=False)
    assert await left(counters, EVERYBODY) == [(2000 - 2 * 100 - 2 * 400, 2 * 400)]
    (said,) = warned(caplog)
    assert "2 parts" in said
    assert "too many" in said


@pytest.mark.usefixtures("hurried")
async def test_none_is_tried_for_ever(
    link: Broken, clock: Clock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unsettled, "PATIENT_S", 0.0)
    async with waiting(link, clock, 3) as counters:
        await until(lambda: len(counters._unsettled) == 0)
    assert sum(int(said.partition(" parts")[0].split()[-1]) for said in warned(caplog)) == 3


@pytest.mark.usefixtures("hurried")
async def test_a_server_that_is_away_keeps_no_other_waiting(link: Broken, clock: Clock) -> None:
    near = names.shard_of(ADDRESS.key, names.SPREAD)
    async with waiting(link, clock, 3) as counters:
        for number in range(3):
            counters._unsettled.add(unsettled.Unanswered(near, f"n{number}", "edge", tokens(0)))
        await until(lambda: len(counters._unsettled) == 3)
        assert set(counters._unsettled._waiting) == {FAR}
