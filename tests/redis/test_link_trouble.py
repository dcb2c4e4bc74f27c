"""A server that stops, dies, crawls or refuses: a call costs its budget at most, and nothing runs twice."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.redis.link_kit import ECHO, PATIENT, linked, once, outcome, places, until
from tests.redis.link_load import loaded, quiet, settled
from tests.support.redis import RedisServer
from tests.support.toxic import Toxic

BUDGET, ALLOWED = 0.050, 0.060
RECOVERY = 1.0
K = ["az:{0}:k"]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


async def test_a_stopped_server(own: RedisServer) -> None:
    async with loaded(own.url) as (link, load, lag):
        load.forget()
        own.pause()
        await until(lambda: load.failed > 0)
        await until(lambda: link.trouble is not None)
        load.forget()
        await until(lambda: load.failed > 200)
        assert load.served == 0
        # In trouble they fail at once: most of them took no time at all.
        assert sorted(load.waits)[len(load.waits) // 2] < BUDGET / 5
        await asyncio.sleep(0.8)  # the connection is given up, and others are tried
        own.resume()
        load.forget()
        recovery = await until(lambda: load.served > 0)
        assert recovery < RECOVERY + lag.slack
        assert max(load.waits) < ALLOWED + lag.slack
    # Outside: nobody asks any more.
    async with linked(own.url + PATIENT) as link:
        await link.command("PING")


async def test_no_call_waits_longer_than_its_budget_while_the_server_stops(own: RedisServer) -> None:
    async with loaded(own.url) as (link, load, lag):
        for _ in range(3):
            own.pause()
            await until(lambda: link.trouble is not None)
            own.resume()
            await until(lambda: link.trouble is None)
        assert max(load.waits) < ALLOWED + lag.slack
        await quiet(load)
        await settled(link, load, own)


async def test_a_server_that_is_killed_and_comes_again(tmp_path: Path) -> None:
    with RedisServer(tmp_path, "appendonly", "yes", "appendfsync", "always") as own:
        async with loaded(own.url) as (link, load, lag):
            own.kill()
            await until(lambda: link.trouble is not None)
            load.forget()
            await until(lambda: load.failed > 50)
            assert load.served == 0
            assert max(load.waits) < BUDGET / 2 + lag.slack
            own.restart()
            load.forget()
            assert await until(lambda: load.served > 0) < RECOVERY + lag.slack
            await quiet(load)
            await settled(link, load, own)


async def test_twenty_milliseconds_are_within_the_budget(own: RedisServer) -> None:
    with Toxic(own.port) as toxic:
        async with loaded(toxic.url + "?budget=2000ms") as (link, load, _):
            toxic.delay_ms = 20
            await asyncio.sleep(0.05)
            load.forget()
            await until(lambda: load.served > 100)
            assert load.failed == 0
            assert min(load.waits) < 2
            assert sorted(load.waits)[50] >= 0.02
            assert link.trouble is None


async def test_two_hundred_milliseconds_are_not(own: RedisServer) -> None:
    with Toxic(own.port) as toxic:
        async with loaded(toxic.url) as (link, load, lag):
            toxic.delay_ms = 200
            await until(lambda: link.trouble is not None)
            load.forget()
            await asyncio.sleep(0.6)
            assert load.served == 0
            assert "more than 50 ms" in (link.trouble or "")
            assert toxic.accepted == 1  # slow is no reason to connect anew
            toxic.delay_ms = 0
            load.forget()
            assert await until(lambda: load.served > 0) < RECOVERY + lag.slack
            assert max(load.waits) < ALLOWED + lag.slack
            await quiet(load)
            await settled(link, load, own)


async def test_late_replies_do_not_get_to_later_calls(own: RedisServer) -> None:
    with Toxic(own.port) as toxic:
        async with linked(toxic.url + "?budget=200ms") as link:
            assert await link.run(ECHO, K, ["known"]) == b"known"
            toxic.hold()
            late = [link.run(ECHO, K, [f"late{number}"], budget_ms=1) for number in range(20)]
            waits = [link.run(ECHO, K, [f"waits{number}"], budget_ms=10_000) for number in range(20)]
            for call in late:
                assert "does not answer within 1 ms" in await outcome(call)
            toxic.release()
            assert [await call for call in waits] == [f"waits{number}".encode() for number in range(20)]


@pytest.mark.parametrize("after", [0, 1, 7, 40])
async def test_a_connection_that_is_reset_mid_reply(after: int, own: RedisServer) -> None:
    with Toxic(own.port) as toxic:
        async with loaded(toxic.url + PATIENT) as (link, load, _):
            connections = toxic.accepted
            load.forget()
            toxic.reset_mid_reply(after)
            await until(lambda: toxic.accepted > connections)
            await quiet(load)
            assert load.failed > 0
            await settled(link, load, own)


async def test_a_connection_that_is_cut_again_and_again(own: RedisServer) -> None:
    with Toxic(own.port) as toxic:
        async with loaded(toxic.url + PATIENT) as (link, load, _):
            for _ in range(10):
                toxic.drop()
                await until(lambda: link.trouble is not None)
                await until(lambda: link.trouble is None)
            await quiet(load)
            await settled(link, load, own)


async def test_an_undo_waits_for_the_server_to_come_back(own: RedisServer) -> None:
    with Toxic(own.port) as toxic:
        async with linked(toxic.url) as link:
            await link.command("PING")
            toxic.hold()
            calls = [once(link, str(number), undo=True) for number in range(500)]
            assert {str(await outcome(call)).partition(" does ")[2] for call in calls} == {
                "not answer within 50 ms"
            }
            assert link.owed == 500
            toxic.cut()
            await until(lambda: "nothing listens" in (link.trouble or ""))
            assert link.owed == 500
            toxic.mend()
            await until(lambda: link.owed == 0)
        ran, undone = places()
        assert (own.call("HLEN", ran), own.call("HLEN", undone)) == (0, 500)


def _lose_master(server: RedisServer) -> None:
    server.call("CONFIG", "SET", "replica-serve-stale-data", "no")
    server.call("REPLICAOF", "127.0.0.1", 1)


def _load(server: RedisServer) -> None:
    """Restart it with so much data that it loads for two seconds, and answers every 200 ms meanwhile."""
    with server.client() as client, client.pipeline(transaction=False) as pipeline:
        for number in range(2500):
            pipeline.set(f"az:{{0}}:{number}", "x" * 8000)
        pipeline.execute()
    server.call("CONFIG", "SET", "rdbcompression", "no")
    server.call("SAVE")
    server.kill()
    server.options += ["key-load-delay", "800"]
    server.start()


def _set(name: str, value: str) -> Callable[[RedisServer], None]:
    return lambda server: server.call("CONFIG", "SET", name, value)


TROUBLES: dict[str, tuple[Callable[[RedisServer], None], Callable[[RedisServer], None], str]] = {
    "READONLY": (
        lambda server: server.call("REPLICAOF", "127.0.0.1", 1),
        lambda server: server.call("REPLICAOF", "NO", "ONE"),
        "it is a replica and takes no writes",
    ),
    "MASTERDOWN": (_lose_master, lambda server: server.call("REPLICAOF", "NO", "ONE"), "it is a replica"),
    "OOM": (_set("maxmemory", "1"), _set("maxmemory", "0"), "its memory is full: raise its maxmemory"),
    "NOREPLICAS": (
        _set("min-replicas-to-write", "1"),
        _set("min-replicas-to-write", "0"),
        "too few replicas follow it",
    ),
    "LOADING": (_load, lambda server: None, "it is loading its data"),
}


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_a_server_that_refuses_says_why_and_is_used_again_when_it_does_not(
    trouble: str, own: RedisServer
) -> None:
    begin, end, says = TROUBLES[trouble]
    async with loaded(own.url + PATIENT, callers=4) as (link, load, _):
        begin(own)
        await until(lambda: says in (link.trouble or ""))
        load.forget()
        await until(lambda: load.failed > 20)
        assert load.served == 0
        end(own)
        await quiet(load)
        if trouble != "LOADING":  # its data is that of before the calls
            await settled(link, load, own)


async def test_a_busy_caller_does_not_take_an_unread_reply_for_none(own: RedisServer) -> None:
    async with linked(own.url + "?budget=50ms") as link:
        for _ in range(3):
            await link.command("PING")
            call = link.run(ECHO, K, ["there"])
            await asyncio.sleep(0.01)  # it is sent
            if not call.done():
                time.sleep(0.2)
            assert await call == b"there"


async def test_trouble_shows_before_anybody_asks(own: RedisServer) -> None:
    with Toxic(own.port) as toxic:
        async with linked(toxic.url) as link:
            toxic.hold()
            await until(lambda: link.trouble is not None)
            toxic.release()
            await until(lambda: link.trouble is None)
            own.call("CONFIG", "SET", "min-replicas-to-write", "1")
            await until(lambda: "too few replicas" in (link.trouble or ""))


async def test_a_program_that_is_no_redis(tmp_path: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        await reader.read()
        writer.close()

    other = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = other.sockets[0].getsockname()[1]
    async with linked(f"redis://127.0.0.1:{port}") as link:
        assert "closes the connection" in (link.trouble or "")
    other.close()
    await other.wait_closed()
