"""Refusals and counts of trials in Redis: many replicas write, Redis may be away, and nothing grows for ever."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from authz.store.protocols import StoreUnavailable
from authz.store.redis import denials, trials
from authz.store.redis.client import async_client, sync_client
from authz.store.redis.target import Target
from authz.store.trials import HOUR_MS, Trial
from tests.contract.kit import DAY, NOON, Clock
from tests.contract.test_denials import later, nobodys
from tests.redis.records_kit import command, replica, until
from tests.support.redis import RedisServer

ALICE, BOB = (("user", "alice"),), (("user", "bob"),)


@pytest.fixture
def client(server: RedisServer) -> Iterator[Any]:
    opened = sync_client(Target.parse(server.url))
    yield opened
    opened.close()


async def test_refusals_of_all_replicas_are_in_one_log(server: RedisServer) -> None:
    with command(server.url) as reading:
        async with replica(server.url) as first, replica(server.url) as second:
            for number in range(10):
                (first, second)[number % 2].denials.record(later(number, path=f"/{number}"))
            first.denials.record(later(20))
            second.denials.record(later(21))
            await asyncio.gather(first.written(), second.written())
        log = reading.denial_log
        assert [row.id for row in log.list()] == ["req-21", "req-20", *(f"req-{n}" for n in range(9, -1, -1))]
        assert all(log.show(f"req-{number}") is not None for number in (*range(10), 20, 21))


async def test_rows_of_one_moment_stand_as_they_came(server: RedisServer) -> None:
    async with replica(server.url) as here:
        for number in range(12):
            here.denials.record(later(5, id=f"r{number}", path=f"/{number}"))
        await here.written()
        assert [row.id for row in here.denial_log.list()] == [f"r{number}" for number in range(11, -1, -1)]


async def test_an_id_that_left_its_flood_is_not_found(server: RedisServer, client: Any) -> None:
    async with replica(server.url) as here:
        for number in range(30):
            here.denials.record(later(number))
            await here.written()
        assert here.denial_log.show("req-1") is None
        assert client.hlen(denials.PLACES[3]) == 9


async def test_what_redis_does_not_take_is_kept_and_told(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        async with replica(server.url) as here:
            server.kill()
            here.denials.record(later(1))
            here.trials.would_refuse("it", ALICE, NOON)
            here.directory.used("key_1", 5)
            for _ in range(2):
                with pytest.raises(StoreUnavailable, match="cannot be reached"):
                    await here.written()
            await until(lambda: here.trouble is not None)
            here.denials.record(later(2, path="/2"))
            server.restart()
            await until(lambda: here.trouble is None)
            await here.written()
            assert [row.id for row in here.denial_log.list()] == ["req-2", "req-1"]
            assert here.trial_log.list() == [Trial("it", ALICE, 1, 0, NOON, NOON)]


async def test_closing_writes_the_rest(server: RedisServer) -> None:
    async with replica(server.url) as here:
        here.denials.record(later(1))
        here.trials.refused("it", ALICE, NOON)
    with command(server.url) as reading:
        assert [row.id for row in reading.denial_log.list()] == ["req-1"]
        assert reading.trial_log.list() == [Trial("it", ALICE, 0, 1, NOON, NOON)]


async def test_old_refusals_go(server: RedisServer, client: Any) -> None:
    clock = Clock()
    async with replica(server.url, clock) as here:
        for number in range(2 * denials.STEP):
            here.denials.record(later(number, path=f"/{number}"))
        here.denials.record(later(5 * DAY))
        await here.written()
        clock.pass_(denials.KEPT_MS + DAY)
        await here.written()
        assert [row.id for row in here.denial_log.list(limit=999)] == [f"req-{5 * DAY}"]
        assert [client.hlen(denials.PLACES[0]), client.zcard(denials.PLACES[1])] == [1, 1]
        assert client.hlen(denials.PLACES[3]) == 1
        assert all(
            0 < client.pttl(place) <= denials.KEPT_MS for place in denials.PLACES if client.exists(place)
        )


async def test_nobodys_go_before_others(
    server: RedisServer, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(denials, "NOBODYS_KEPT", 50)
    async with replica(server.url) as first, replica(server.url) as second:
        for number in range(400):
            (first, second)[number % 2].denials.record(nobodys(number, ip=f"2001:db8::{number:x}"))
            if number % 4 == 0:
                first.denials.record(later(number, path=f"/{number}"))
        await asyncio.gather(first.written(), second.written())
        rows = first.denial_log.list(limit=999)
        assert len([row for row in rows if row.user]) == 100
        assert len([row for row in rows if not row.user]) == 50
        assert client.zcard(denials.PLACES[2]) == 50


async def test_reading_reaches_the_end_of_a_long_log(server: RedisServer) -> None:
    async with replica(server.url) as here:
        for number in range(3 * denials.PAGE):
            here.denials.record(later(number, path=f"/{number}", status=401 if number % 500 == 7 else 429))
        await here.written()
        log = here.denial_log
        assert [row.id for row in log.list(status=401)] == ["req-1007", "req-507", "req-7"]
        assert len(log.list(limit=9_999)) == 3 * denials.PAGE
        assert [row.id for row in log.list(since=NOON + 3 * denials.PAGE - 2)] == ["req-1499", "req-1498"]
        assert log.list(user="nobody") == []


# -- trials ----------------------------------------------------------------------------------------


async def test_trials_of_all_replicas_are_added_up(server: RedisServer) -> None:
    async with replica(server.url) as first, replica(server.url) as second:
        for each, at in ((first, NOON), (second, NOON + 5), (first, NOON + HOUR_MS)):
            each.trials.would_refuse("it", ALICE, at)
            each.trials.refused("it", ALICE, at)
            each.trials.refused("other", BOB, at)
            await each.written()
        second.trials.would_refuse("it", BOB, NOON - HOUR_MS)
        await second.written()
        assert first.trial_log.list() == [
            Trial("it", ALICE, 3, 3, NOON, NOON + HOUR_MS),
            Trial("it", BOB, 1, 0, NOON - HOUR_MS, NOON - HOUR_MS),
            Trial("other", BOB, 0, 3, NOON, NOON + HOUR_MS),
        ]
        assert [each.would for each in first.trial_log.list(since=NOON + HOUR_MS + 1)] == [1, 0]


async def test_a_batch_that_is_sent_again_counts_once(server: RedisServer) -> None:
    target = Target.parse(server.url)
    client = async_client(target)
    (batch,) = trials.batches([Trial("it", ALICE, 2, 1, NOON, NOON)])
    for _ in range(3):
        await trials.save(client, batch, NOON)
    await client.aclose()
    with command(server.url) as reading:
        assert reading.trial_log.list() == [Trial("it", ALICE, 2, 1, NOON, NOON)]


async def test_counts_are_held_to_their_number_and_age(
    server: RedisServer, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "ROWS_KEPT", 500)
    clock = Clock()
    async with replica(server.url, clock) as here:
        for number in range(1_000):
            here.trials.would_refuse("it", (("user", str(number)),), NOON + number)
        await here.written()
        assert len(here.trial_log.list()) == 500
        clock.pass_(trials.KEPT_MS + HOUR_MS)
        for _ in range(3):
            here.trials.would_refuse("it", ALICE, clock())
            await here.written()
        assert here.trial_log.list() == [Trial("it", ALICE, 3, 0, clock(), clock())]
        assert client.hlen("az:{r}:trials") == client.zcard("az:{r}:trials-by-hour") == 1
