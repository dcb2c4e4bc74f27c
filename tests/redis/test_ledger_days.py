"""Days of the ledger in Redis: ranges that cut them, their age, their time zone. On one server and on a Cluster."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from authz.store.protocols import StoreUnavailable
from authz.store.redis import names
from authz.store.redis.client import sync_client
from authz.store.redis.ledger.confirmed import Confirmed
from authz.store.redis.ledger.keeper import LedgerKeeper
from authz.store.redis.ledger.plan import ask, carry_out, fold_script
from authz.store.redis.ledger.reading import RedisLedger
from authz.store.redis.ledger.rows import DAY_MS
from authz.store.redis.ledger.state import entries_key, sums_key
from authz.store.redis.ledger.upkeep import keep, set_timezone, trim
from authz.store.redis.target import Target
from authz.store.troubles import Troubles
from authz.usage import Usage
from tests.contract.kit import Clock
from tests.ledger.kit import DIMENSIONS, at, entry, sums, told
from tests.ledger.test_borders import TIMES, ZONE
from tests.redis.ledger_kit import queue
from tests.support.redis import RedisServer, wait_for

EVERY = ("day", *DIMENSIONS)
END = at("2027-01-01")


class Place:
    """A Redis with the shards that are used of it, and a clock."""

    def __init__(self, client: Any, shards: tuple[str, ...]) -> None:
        self.client = client
        self.shards = shards
        self.clock = Clock(at("2026-10-27"))
        self.ledger = RedisLedger(client, shards, self.clock)

    def all(self, plan: Callable[[str], Any]) -> list[Any]:
        return carry_out(self.client, [plan(shard) for shard in self.shards])

    def keeper(self, timezone: str = ZONE) -> LedgerKeeper:
        return LedgerKeeper(self.client, self.shards, self.clock, timezone, Troubles())

    def by_day(self) -> dict[str, int]:
        rows = self.ledger.usage(since=0, until=END, by=["day"])
        return {row.group["day"]: row.requests for row in rows}

    def requests(self, since: str, until: str) -> int:
        rows = self.ledger.usage(since=at(since, ZONE), until=at(until, ZONE), by=())
        return sum(row.requests for row in rows)


on_one_server = pytest.mark.parametrize("place", ["server"], indirect=True)


@pytest.fixture(params=["server", "cluster"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """On the Cluster all 256 shards, so that a request is in nearly every one alone."""
    found = request.getfixturevalue(request.param)
    client = sync_client(Target.parse(found.url))
    yield Place(client, names.SPREAD if request.param == "cluster" else names.SINGLE)
    client.close()


@pytest.fixture
def kept(place: Place) -> Place:
    """One request at each of TIMES and one at the second 03:30, Helsinki time."""
    assert all(place.all(lambda shard: set_timezone(shard, ZONE, place.clock.now)))
    made = [entry(number, at(time, ZONE)) for number, time in enumerate(TIMES)]
    queue(place.client, [*made, entry("again", at("2026-10-25 03:30", ZONE, fold=1))], place.shards)
    return place


def test_ranges(kept: Place) -> None:
    assert kept.requests("2026-10-24", "2026-10-26") == 7, "whole days, one of 25 hours"
    assert kept.requests("2026-10-25 01:00", "2026-10-25 13:00") == 3, "within one day"
    assert kept.requests("2026-10-25 01:00", "2026-10-26") == 4, "a day without its beginning"
    assert kept.requests("2026-10-25", "2026-10-25 12:00") == 3, "a day without its end"
    assert kept.requests("2026-10-24 12:00", "2026-10-25 12:00") == 4, "two parts, no whole day between"
    assert kept.requests("2026-10-23 13:00", "2026-10-26 12:00") == 8, "two parts, whole days between"
    assert kept.requests("2026-10-25 12:00", "2026-10-25 12:00") == 0
    assert kept.requests("2026-10-26", "2026-10-25") == 0
    with pytest.raises(ValueError, match="has no 'colour'"):
        kept.ledger.usage(since=0, until=END, by=["colour"])
    with pytest.raises(ValueError, match="has no 'day'"):
        kept.ledger.entries(only={"day": "2026-10-25"})


def test_ranges_of_which_entries_are_gone(kept: Place) -> None:
    """Whole UTC days go: all before 2026-10-25 03:00 in Helsinki."""
    kept.ledger.entries()
    kept.clock.now = at("2026-10-25 12:00", ZONE) + 7 * DAY_MS
    assert all(kept.all(lambda shard: keep(shard, 7 * DAY_MS, kept.clock.now)))
    kept.all(lambda shard: trim(shard, kept.clock.now))
    assert kept.ledger.kept_from == at("2026-10-25 03:00", ZONE)
    assert [each.at for each in kept.ledger.entries()] == sorted(
        [at(time, ZONE) for time in TIMES[4:]] + [at("2026-10-25 03:30", ZONE, fold=1)], reverse=True
    )
    assert kept.ledger.entry("rsv_0") is None
    assert kept.requests("2026-10-24", "2026-10-26") == 7, "whole days agree with and without entries"
    assert kept.requests("2026-10-25 12:00", "2026-10-26") == 2, "begins with what is kept: exactly"
    assert kept.by_day() == {"2026-10-23": 1, "2026-10-24": 2, "2026-10-25": 5, "2026-10-26": 2}
    assert kept.requests("2026-10-24 12:00", "2026-10-26") == 7, "begins in a day without entries: all of it"
    assert kept.requests("2026-10-25 01:00", "2026-10-26") == 5, "begins before the first entry: all of it"


def test_another_time_zone_moves_the_days_and_loses_nothing(kept: Place) -> None:
    helsinki = {"2026-10-23": 1, "2026-10-24": 2, "2026-10-25": 5, "2026-10-26": 2}
    assert kept.by_day() == helsinki
    for zone in ("America/New_York", "UTC", ZONE):
        assert all(kept.all(lambda shard, zone=zone: set_timezone(shard, zone, kept.clock.now)))  # type: ignore[misc]
        if zone == "America/New_York":
            assert kept.by_day() == {"2026-10-23": 2, "2026-10-24": 4, "2026-10-25": 3, "2026-10-26": 1}
    assert kept.by_day() == helsinki
    queue(kept.client, [entry("later", at("2026-10-26 23:30", ZONE))], kept.shards)
    assert kept.by_day()["2026-10-26"] == 3


@on_one_server
def test_another_time_zone_leaves_days_without_entries_as_they_were(kept: Place) -> None:
    kept.ledger.entries()
    kept.clock.now = at("2026-10-24 12:00", ZONE) + 8 * DAY_MS
    assert all(kept.all(lambda shard: keep(shard, 7 * DAY_MS, kept.clock.now)))
    kept.all(lambda shard: trim(shard, kept.clock.now))
    assert all(kept.all(lambda shard: set_timezone(shard, "America/New_York", kept.clock.now)))
    days = kept.by_day()
    assert sum(days.values()) == len(TIMES) + 1
    assert days["2026-10-23"] == 1, "as Helsinki had it"


@on_one_server
def test_who_dies_over_another_time_zone_leaves_everything_as_it_was(kept: Place) -> None:
    before = kept.by_day()
    shard = kept.shards[0]
    steps, changed = 0, False
    while not changed:
        steps += 1
        plan = set_timezone(shard, "America/New_York", kept.clock.now)
        commands = next(plan)
        for _ in range(steps):
            changed = commands[0][:2] == fold_script((), ())[:2]
            commands = plan.send(ask(kept.client, commands))
        assert (kept.by_day() == before) is not changed
        kept.client.delete(f"az:{{{shard}}}:d:lock")
    assert steps > 5
    assert sum(kept.by_day().values()) == sum(before.values())


@on_one_server
def test_a_longer_retention_keeps_what_is_there(kept: Place) -> None:
    kept.ledger.entries()
    shard = kept.shards[0]
    (day,) = [int(day) for day in kept.client.hkeys(f"az:{{{shard}}}:d:days")][:1]
    key = entries_key(shard, day)
    before = kept.client.pttl(key)
    assert all(kept.all(lambda shard: keep(shard, 200 * DAY_MS, kept.clock.now)))
    assert abs(kept.client.pttl(key) - before - 110 * DAY_MS) < DAY_MS


@on_one_server
def test_a_figure_beyond_every_reason_is_counted_all_the_same(place: Place) -> None:
    noon, huge = at("2026-10-26 12:00"), Usage(2**53 - 1, 2**60)
    queue(place.client, [entry(f"huge-{n}", noon, usage=huge, cost=2**63) for n in range(1500)])
    (day,) = place.ledger.usage(since=at("2026-10-26"), until=at("2026-10-27"), by=["user"])
    assert (day.requests, day.cost, day.input_tokens) == (1500, 2**63 - 1, 2**63 - 1)
    (part,) = place.ledger.usage(since=noon, until=noon + 1, by=["user"])
    assert (part.requests, part.cost, part.input_tokens) == (1500, *[1500 * (2**53 - 1)] * 2)


@on_one_server
def test_sums_go_after_400_days(kept: Place) -> None:
    assert len(kept.by_day()) == 4
    kept.clock.now = at("2026-10-25 12:00", ZONE) + 400 * DAY_MS
    kept.all(lambda shard: trim(shard, kept.clock.now))
    assert set(kept.by_day()) == {"2026-10-25", "2026-10-26"}
    gone = [sums_key(shard, "0", "2026-10-24") for shard in kept.shards]
    assert not sum(kept.client.exists(key) for key in gone)


async def test_a_service_keeps_it_in_order(place: Place) -> None:
    keeper = place.keeper()
    keeper.retention = 7 * DAY_MS
    made = [entry(number, at(time, ZONE)) for number, time in enumerate(TIMES)]
    queue(place.client, made, place.shards)
    keeper.keep_up()
    keeper.wait()
    assert not any(place.client.xlen(names.closed(shard)) for shard in place.shards)
    assert told(place.ledger.usage(since=0, until=END, by=EVERY)) == sums(made, EVERY, ZONE)
    place.clock.pass_(8 * DAY_MS)
    keeper.keep_up()
    keeper.wait()
    assert place.ledger.entries() == []
    assert sum(place.by_day().values()) == len(made)
    await keeper.close()


@on_one_server
async def test_a_service_says_what_is_wrong_and_goes_on(place: Place) -> None:
    troubles = Troubles()
    closed = place.keeper()
    keeper = LedgerKeeper(_Broken(place.client), place.shards, place.clock, ZONE, troubles)
    keeper.keep_up()
    keeper.wait()
    assert "cannot be reached" in str(troubles.first)
    keeper._client.mended = True
    keeper.keep_up()
    keeper.wait()
    assert troubles.first is None
    await keeper.close()
    await closed.close()


class _Broken:
    """A client whose server is away until it is `mended`."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.mended = False

    def pipeline(self, **options: Any) -> Any:
        if not self.mended:
            raise ConnectionError("nobody there")
        return self._client.pipeline(**options)


async def test_waiting_for_replicas(place: Place) -> None:
    nobody = Confirmed(place.client, place.shards, 0)
    await nobody.durable()
    await nobody.close()
    wanting = Confirmed(place.client, place.shards, 1)
    with pytest.raises(StoreUnavailable, match="0 of 1 replicas"):
        await wanting.durable()
    await wanting.close()


async def test_a_replica_that_has_it(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as master, master.client() as client:
        options = ("replicaof", f"127.0.0.1 {master.port}")
        with RedisServer(tmp_path, *options) as replica:
            wait_for(replica, lambda: "master_link_status:up" in str(replica.call("INFO", "replication")))
            confirmed = Confirmed(client, names.SINGLE, 1)
            queue(client, [entry("a", END)])
            await asyncio.gather(*(confirmed.durable() for _ in range(5)))
            assert replica.call("XLEN", names.closed("0")) == 1
            await confirmed.close()
