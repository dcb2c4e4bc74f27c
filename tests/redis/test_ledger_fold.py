"""From the queue into the ledger: once, however many fold and however they end."""

import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import redis

from authz.store.closed import Closed, entry_of
from authz.store.open import wall_clock
from authz.store.records import Entry, Source
from authz.store.redis import names
from authz.store.redis.ledger.fold import TOGETHER, Folder
from authz.store.redis.ledger.plan import carry_out
from authz.store.redis.ledger.reading import RedisLedger
from authz.store.redis.ledger.state import unreadable_key
from authz.store.redis.ledger.upkeep import set_timezone
from authz.usage import Usage
from tests.contract.kit import Clock
from tests.ledger.kit import DIMENSIONS, at, entry, sums, told
from tests.redis.ledger_kit import closed, packed, queue
from tests.support.processes import Process
from tests.support.redis import RedisServer

EVERY = ("day", *DIMENSIONS)
NOON = at("2026-10-25 12:00")
END = at("2027-01-01")


@pytest.fixture
def client(server: RedisServer) -> Iterator["redis.Redis"]:
    with server.client() as client:
        yield client


@pytest.fixture
def ledger(client: "redis.Redis") -> RedisLedger:
    return RedisLedger(client, names.SINGLE, Clock(NOON))


def test_a_queue_longer_than_one_change_is_brought_in_whole(
    client: "redis.Redis", ledger: RedisLedger
) -> None:
    made = [entry(number, NOON + number % 50, model=f"m{number % 7}") for number in range(3 * TOGETHER + 5)]
    queue(client, made)
    assert told(ledger.usage(since=0, until=END, by=EVERY)) == sums(made, EVERY, "UTC")
    assert client.xlen(names.closed("0")) == 0
    assert len(ledger.entries(limit=10_000)) == len(made)
    assert Folder(client, names.SINGLE, Clock(NOON)).fold() == 0


@pytest.mark.parametrize("together", [True, False], ids=["in-one-change", "one-after-the-other"])
def test_a_correction_replaces_what_had_expired_once(
    client: "redis.Redis", ledger: RedisLedger, together: bool
) -> None:
    expired = entry("a", NOON, source=Source.EXPIRED, usage=Usage(100, 300))
    late = entry("a", NOON, source=Source.CORRECTED, usage=Usage(10, 30), cost=5)
    later = entry("a", NOON, source=Source.CORRECTED, usage=Usage(1, 1))
    another = entry("a", NOON + 1, source=Source.REPORTED)
    for end in (expired, late, later, another):
        queue(client, [end])
        if not together:
            ledger.entries()
    assert told(ledger.usage(since=0, until=END, by=EVERY)) == sums([late, another], EVERY, "UTC")
    assert ledger.entries() == [another, late]
    assert ledger.entry("rsv_a") == another
    (day,) = client.smembers("az:{0}:d:s:0")
    assert client.hlen(b"az:{0}:d:s:0:" + day) == 2, "nothing is left of what had expired"


def test_the_latest_are_those_that_began_last_in_whatever_order_they_ended(
    client: "redis.Redis", ledger: RedisLedger
) -> None:
    made = [entry(number, NOON + number % 97 * 1000, model=f"m{number % 2}") for number in range(1300)]
    queue(client, made)
    latest = sorted(made, key=lambda each: each.at, reverse=True)
    for limit in (1, 7, 600):
        found = ledger.entries(limit=limit)
        assert [each.at for each in found] == [each.at for each in latest[:limit]]
    only = ledger.entries(limit=3, only={"model": "m1"}, until=NOON + 50_000)
    assert {(each.at, each.facts.model) for each in only} == {(NOON + 49_000, "m1")}


def test_of_one_id_in_both_places_the_reservation_is_meant(
    client: "redis.Redis", ledger: RedisLedger
) -> None:
    one, other = entry("x", NOON), entry("y", NOON + 5)
    other = msgspec.structs.replace(
        other, facts=msgspec.structs.replace(other.facts, request_id=one.reservation)
    )
    queue(client, [one, other])
    assert ledger.entry("rsv_x") == one
    assert ledger.entry("rsv_y") == other
    assert ledger.entry("req_x") == one
    assert ledger.entry("") is None


def test_what_cannot_be_read_keeps_nothing_else_out(
    client: "redis.Redis", ledger: RedisLedger, caplog: pytest.LogCaptureFixture
) -> None:
    good = entry("good", NOON)
    torn = closed(entry("torn", NOON))
    queue(
        client,
        [
            b"\xc1",
            packed(torn)[:-3],
            Closed("bare", "edge", NOON, NOON + 1, b"\xc1"),
            msgspec.msgpack.encode((*msgspec.structs.astuple(closed(good)), "a later field")),
        ],
    )
    assert {each.reservation for each in ledger.entries()} == {"bare", "rsv_good"}
    assert ledger.entry("req_good") == good
    assert client.xlen(unreadable_key("0")) == 2
    assert "2 ends of reservations cannot be read" in caplog.text


def test_nothing_is_folded_while_the_days_are_summed_anew(client: "redis.Redis", ledger: RedisLedger) -> None:
    queue(client, [entry("before", NOON)])
    ledger.entries()
    resumming = set_timezone("0", "Asia/Tokyo", NOON)
    command = next(resumming)
    while command[0][0] != "SMEMBERS":  # it holds the lock then
        pipeline = client.pipeline(transaction=False)
        for words in command:
            pipeline.execute_command(*words)
        command = resumming.send(pipeline.execute())
    queue(client, [entry("during", NOON)])
    assert len(ledger.entries()) == 1
    assert list(carry_out(client, [set_timezone("0", "UTC", NOON)])) == [True], "nothing was changed yet"
    client.delete("az:{0}:d:lock")  # as its TTL has it, where whoever held it died
    assert len(ledger.entries()) == 2
    assert ledger.usage(since=0, until=END, by=["day"])[0].group == {"day": "2026-10-25"}


def test_every_key_of_the_ledger_ends_by_itself_or_is_one_of_few(client: "redis.Redis") -> None:
    queue(client, [entry(number, wall_clock()) for number in range(50)])
    Folder(client, names.SINGLE, wall_clock).fold()
    lasting = {key.decode() for key in client.scan_iter() if client.pttl(key) == -1}
    assert lasting == {f"az:{{0}}:{name}" for name in ("closed", "d:meta", "d:days", "d:s:0")}
    day = 86_400_000
    days = {key.decode(): client.pttl(key) / day for key in client.scan_iter("az:{0}:d:[eis]:*:*")}
    assert all(91 <= left <= 92 for key, left in days.items() if ":i:" in key)
    assert all(400 <= left <= 403 for key, left in days.items() if ":s:" in key)
    assert len(days) > 40


SHARDS = ("0", "1")  # two shards of one server: what is folded side by side


@pytest.fixture
def children(server: RedisServer, tmp_path: Path) -> Iterator[list[Process]]:
    running: list[Process] = []
    yield running
    for child in running:
        child.stop()


def test_many_fold_and_are_killed_at_any_moment(
    server: RedisServer, client: "redis.Redis", children: list[Process], tmp_path: Path
) -> None:
    """Sums and entries are those of a ledger in plain Python: nothing is missing, nothing counts twice."""
    chance = random.Random(20261025)

    def start() -> None:
        argv = [sys.executable, "-m", "tests.redis.fold_child", str(server.port), ",".join(SHARDS)]
        children.append(Process(argv, log=tmp_path / f"child-{len(children)}.log", cwd=Path.cwd()))

    def queued() -> int:
        return sum(client.xlen(names.closed(shard)) for shard in SHARDS)

    for _ in range(3):
        start()
    for child in children:
        child.wait_until(lambda child=child: "ready" in child.output())  # type: ignore[misc]
    expected: list[Entry] = []
    for number in range(4):
        made = [_ended(chance, f"{number}.{each}") for each in range(800)]
        # Of one reservation all is in one shard.
        queue(client, [end for ends in made[::2] for end in ends], SHARDS[:1])
        queue(client, [end for ends in made[1::2] for end in ends], SHARDS[1:])
        expected += [entry_of(closed(ends[-1])) for ends in made]
        victim = chance.choice([child for child in children if child.running])
        left = chance.randrange(0, 800)
        victim.wait_until(lambda left=left: queued() <= left)  # type: ignore[misc]
        victim.signal(signal.SIGKILL)
        victim.wait()
        if number < 2:
            start()
    survivor = next(child for child in children if child.running)
    survivor.wait_until(lambda: not queued())
    ledger = RedisLedger(client, SHARDS, Clock(NOON))
    assert told(ledger.usage(since=0, until=END, by=EVERY)) == sums(expected, EVERY, "UTC")
    found = {each.reservation: each for each in ledger.entries(limit=100_000)}
    assert found == {each.reservation: each for each in expected}


def _ended(chance: random.Random, name: str) -> list[Entry]:
    """The ends of one reservation: a report, or an expiry, which may be put right."""
    moment = NOON + chance.randrange(-86_400_000, 86_400_000)
    usage = Usage(chance.randrange(1000), chance.randrange(1000))
    user = f"user{chance.randrange(5)}"
    if chance.random() < 0.7:
        return [entry(name, moment, user=user, usage=usage)]
    ends = [entry(name, moment, user=user, source=Source.EXPIRED, usage=Usage(1000, 1000))]
    if chance.random() < 0.5:
        ends.append(entry(name, moment, user=user, source=Source.CORRECTED, usage=usage))
    return ends
