"""The link to a Cluster: each call to the server of its slot, also while slots move and servers die."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from authz.store.redis.batch import Call
from authz.store.redis.cluster_slots import slot_of
from authz.store.redis.errors import Refused
from authz.store.redis.link_open import open_link
from authz.store.redis.names import RECORDS, SPREAD
from authz.store.redis.script import Script
from authz.store.redis.target import Target
from tests.redis.link_kit import ECHO, ONCE, PATIENT, linked, once, outcome, outcomes, places, until
from tests.redis.link_load import loaded, quiet, settled
from tests.support.redis import RedisCluster, RedisServer


def slot(shard: str) -> int:
    return slot_of(f"az:{{{shard}}}:x")


def shard_on(cluster: RedisCluster, node: RedisServer) -> str:
    return next(shard for shard in SPREAD if cluster.node_of(slot(shard)) is node)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[RedisCluster]:
    """Three masters for one test, that kills them."""
    with RedisCluster(tmp_path) as cluster:
        yield cluster


def test_the_slot_of_a_key_is_that_of_redis(cluster: RedisCluster) -> None:
    keys = [
        "az:{0}:c:x",
        "az:{255}:",
        "az:{r}:k",
        "az:{256}:x",
        "az:{}:x",
        "az:{",
        "plain",
        "x{y}z",
        "az:{0x",
    ]
    assert [slot_of(key) for key in keys] == [
        cluster.masters[0].call("CLUSTER", "KEYSLOT", key) for key in keys
    ]


async def test_every_call_goes_to_the_server_of_its_slot(cluster: RedisCluster) -> None:
    for node in cluster.masters:
        node.call("CONFIG", "RESETSTAT")
    async with linked(cluster.url + PATIENT) as link:
        assert link.trouble is None
        assert link.shards == SPREAD
        assert await outcomes([once(link, "1", shard=shard) for shard in (*SPREAD, RECORDS)]) == [1] * 257
        assert await link.command("GET", "az:{r}:none", key="az:{r}:none") is None
        assert await link.command("PING") == b"PONG"
    sizes = [node.call("DBSIZE") for node in cluster.masters]
    assert sum(sizes) == 257
    assert min(sizes) > 40
    for node in cluster.masters:
        assert b"errorstat_MOVED" not in node.call("INFO", "errorstats")


async def test_a_slot_that_moves_under_load(cluster: RedisCluster) -> None:
    shard = shard_on(cluster, cluster.masters[0])
    others = [shard_on(cluster, node) for node in cluster.masters[1:]]
    async with loaded(cluster.url + PATIENT, shard=shard) as (link, load, _):
        for target in (cluster.masters[1], cluster.masters[0]):
            served = load.served
            cluster.begin_move(slot(shard), target)
            await asyncio.sleep(0.05)
            assert await outcomes([link.run(ECHO, places(each), [each]) for each in others]) == [
                each.encode() for each in others
            ]
            await asyncio.to_thread(cluster.finish_move, slot(shard), target)
            await until(lambda served=served: load.served > served + 100)  # type: ignore[misc]
            await settled(link, load, target)
        assert load.failed == 0
        target.call("CONFIG", "RESETSTAT")
        await quiet(load)
        for node in cluster.masters:
            node.call("CONFIG", "RESETSTAT")
        await quiet(load)
        assert all(b"errorstat_MOVED" not in node.call("INFO", "errorstats") for node in cluster.masters)


async def test_a_new_key_of_a_slot_that_is_moving(cluster: RedisCluster) -> None:
    """A command follows it (ASK). A script waits until the slot has moved, or its budget is over."""
    shard, target = shard_on(cluster, cluster.masters[0]), cluster.masters[1]
    async with linked(cluster.url + PATIENT) as link:
        cluster.begin_move(slot(shard), target)
        try:
            new = [link.command("INCR", f"az:{{{shard}}}:new", key=f"az:{{{shard}}}:") for _ in range(10)]
            assert await outcomes(new) == list(range(1, 11))
            hurried = link.run(ONCE, places(shard), ["hurried"], budget_ms=50)
            assert "does not answer within 50 ms" in await outcome(hurried)
            patient = once(link, "patient", shard=shard)
            await asyncio.sleep(0.1)
            assert not patient.done()
            await asyncio.to_thread(cluster.finish_move, slot(shard), target)
            assert await patient == 1
            assert await once(link, "hurried", shard=shard) == 1  # it had not run
        finally:
            cluster.begin_move(slot(shard), cluster.masters[0])
            await asyncio.to_thread(cluster.finish_move, slot(shard), cluster.masters[0])


async def test_a_script_never_runs_where_only_some_of_its_keys_are(cluster: RedisCluster) -> None:
    """Whatever it names: a counter that has not arrived yet would look like one that begins."""
    shard, (source, target, _) = shard_on(cluster, cluster.masters[0]), cluster.masters
    named, counter = f"az:{{{shard}}}:open", f"az:{{{shard}}}:counter"
    count = Script("count", f"return redis.call('INCR', '{counter}')")
    async with linked(cluster.url + PATIENT) as link:
        await link.command("SET", named, 1, key=named)
        assert [await link.run(count, [named], []) for _ in range(3)] == [1, 2, 3]
        for first in (named, counter):
            cluster.begin_move(slot(shard), target)
            source.call("MIGRATE", "127.0.0.1", target.port, first, 0, 10_000)
            moving = await outcome(link.run(count, [named], [], budget_ms=50))
            assert "does not answer within 50 ms" in moving or "just moving" in moving
            assert target.call("CLUSTER", "COUNTKEYSINSLOT", slot(shard)) == 1
            waiting = link.run(count, [named], [])
            await asyncio.sleep(0.03)
            await asyncio.to_thread(cluster.finish_move, slot(shard), target)
            found = await outcome(waiting)
            if first == named:
                assert found == 4
            else:
                assert "just moving to another server" in found
            source, target = target, source
        assert await link.run(count, [named], []) == 5


async def test_a_server_that_stops_does_not_harm_the_others(small: RedisCluster) -> None:
    stopped = small.masters[1]
    shards = [shard_on(small, node) for node in small.masters]
    async with (
        loaded(small.url, shard=shards[0]) as (link, load, lag),
        loaded(small.url, shard=shards[1]) as (
            _,
            poor,
            poor_lag,
        ),
    ):
        stopped.pause()
        poor.forget()
        await until(lambda: poor.failed > 50)
        load.forget()
        await until(lambda: load.served > 200)
        assert load.served > 5 * load.failed
        assert link.trouble is None
        poor_link = poor.link
        assert poor_link.trouble is None  # the other parts can be used
        poor.forget()
        await until(lambda: poor.failed > 50)
        assert poor.served == 0
        stopped.resume()
        assert await until(lambda: poor.served > 0) < 1.0 + poor_lag.slack
        assert max(poor.waits) < 0.06 + poor_lag.slack
        assert max(load.waits) < 0.06 + lag.slack
        await settled(poor_link, poor, stopped)


async def test_a_master_dies_and_its_replica_takes_over(tmp_path: Path) -> None:
    with RedisCluster(tmp_path, replicas=1, node_timeout=2000) as cluster:
        dead = cluster.masters[0]
        shard = shard_on(cluster, dead)
        async with loaded(cluster.url, shard=shard) as (link, load, lag):
            dead.kill()
            load.forget()
            await until(lambda: load.failed > 10)
            await until(lambda: load.served > 50)
            assert max(load.waits) < 0.06 + lag.slack
            successor = cluster.node_of(slot(shard))
            assert successor in cluster.replicas
            await until(lambda: link.owed == 0)
            counts = successor.call("HVALS", places(shard)[0])
            assert set(counts) == {b"1"}  # what the replica had not heard of is lost; nothing ran twice
            dead.start()  # a replica now
            await until(lambda: b"role:slave" in dead.call("INFO", "replication"))
            load.forget()
            await quiet(load)
            assert cluster.node_of(slot(shard)) is successor


async def test_a_start_before_the_cluster_says_so_and_goes_on_trying(tmp_path: Path) -> None:
    cluster = RedisCluster(tmp_path)
    link = open_link(Target.parse(cluster.url + PATIENT))
    await link.start()
    assert "nothing listens there" in (link.trouble or "")
    call = once(link, "early")
    assert call.done()
    assert "nothing listens there" in await outcome(call)
    with cluster:
        await until(lambda: link.trouble is None)
        await until(lambda: all(node.trouble is None for node in link._nodes()))
        assert await outcomes([once(link, "1", shard=shard) for shard in SPREAD]) == [1] * 256
    await link.close()


async def test_a_call_is_not_sent_about_for_ever(cluster: RedisCluster) -> None:
    async with linked(cluster.url + PATIENT) as link:
        node = next(iter(link._nodes()))
        moved = Refused(f"MOVED {slot('0')} {cluster.node_of(slot('0')).address}")
        call = Call(asyncio.get_running_loop().create_future(), ("ECHO", "x"))
        assert [link.sent_on(node, call, moved) for _ in range(6)] == [True] * 4 + [False] * 2


@pytest.mark.parametrize("text", ["MOVED", "MOVED x y", "ASK 1", "MOVED 1 nowhere", "ASK 1 a:b"])
async def test_a_redirection_that_makes_no_sense_is_an_error(text: str, cluster: RedisCluster) -> None:
    async with linked(cluster.url + PATIENT) as link:
        call = Call(asyncio.get_running_loop().create_future(), ("ECHO", "x"))
        assert link.sent_on(next(iter(link._nodes())), call, Refused(text)) is False
