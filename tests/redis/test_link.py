"""The link to one server that works: what leaves when, what comes back, and in which order."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from authz.store.protocols import StoreUnavailable
from authz.store.redis.link import Undo
from authz.store.redis.link_open import open_link
from authz.store.redis.link_server import ServerLink
from authz.store.redis.node import MOST_WAITING
from authz.store.redis.script import Script
from authz.store.redis.target import Target
from tests.redis.link_kit import ECHO, ONCE, PATIENT, UNDO, linked, once, outcome, outcomes, places, until
from tests.support.redis import RedisServer
from tests.support.toxic import Toxic

K = ["az:{0}:k"]


async def test_replies_go_to_their_calls(server: RedisServer) -> None:
    async def ask(number: int) -> None:
        for turn in range(20):
            said = f"{number}-{turn}"
            assert await link.run(ECHO, K, [said]) == said.encode()
            await asyncio.sleep(0) if number % 3 else None

    async with linked(server.url + PATIENT) as link:
        await asyncio.gather(*(ask(number) for number in range(50)))


async def test_replies_come_in_the_order_of_the_calls(server: RedisServer) -> None:
    async with linked(server.url + PATIENT) as link:
        await link.run(ECHO, K, [0])  # from now on the server knows it
        done: list[int] = []
        calls: list[asyncio.Future[Any]] = []
        for number in range(300):
            future = link.run(ECHO, K, [number]) if number % 2 else link.command("ECHO", number)
            future.add_done_callback(lambda _, number=number: done.append(number))  # type: ignore[misc]
            calls.append(future)
        await asyncio.gather(*calls)
        assert done == list(range(300))
        assert [int(call.result()) for call in calls] == list(range(300))


class Writes:
    """Stands before a transport and counts."""

    def __init__(self, transport: Any) -> None:
        self.transport = transport
        self.count = 0

    def write(self, data: bytes) -> None:
        self.count += 1
        self.transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)


async def test_all_calls_of_a_tick_leave_in_one_write(server: RedisServer) -> None:
    link = ServerLink(Target.parse(server.url + PATIENT))
    await link.start()
    link.teach(ECHO)
    await link.run(ECHO, K, [0])
    wire = link._node._wire
    assert wire is not None
    wire._transport = writes = Writes(wire._transport)  # type: ignore[assignment]
    for tick in range(3):
        replies = await asyncio.gather(
            *(link.run(ECHO, K, [number]) for number in range(100)), link.command("ECHO", "x")
        )
        assert replies[99] == b"99"
        assert writes.count == tick + 1
    await link.close()


async def test_a_call_is_a_bare_future_and_makes_no_task(server: RedisServer) -> None:
    async def decide() -> Any:
        return await link.run(ECHO, K, ["yes"])

    async with linked(server.url + PATIENT) as link:
        await link.run(ECHO, K, [0])
        before = asyncio.all_tasks()
        coroutine = decide()
        future = coroutine.send(None)  # as a transport steps it
        assert asyncio.isfuture(future)
        assert not isinstance(future, asyncio.Task)
        assert asyncio.all_tasks() == before
        future._asyncio_future_blocking = False
        await future
        with pytest.raises(StopIteration) as end:
            coroutine.send(None)
        assert end.value.value == b"yes"


async def test_a_server_that_forgot_the_script_is_sent_it_and_runs_it_once(server: RedisServer) -> None:
    async with linked(server.url + PATIENT) as link:
        for turn in range(3):
            server.call("SCRIPT", "FLUSH")
            calls = [once(link, f"{turn}-{number}") for number in range(40)]
            assert await outcomes(calls) == [1] * 40
    assert {int(value) for value in server.call("HVALS", places()[0])} == {1}


async def test_a_known_script_is_there_before_the_first_call(tmp_path: Path) -> None:
    script = Script("taught", "return 'taught'")
    with RedisServer(tmp_path) as own:
        link = open_link(Target.parse(own.url + PATIENT))
        link.teach(script)
        await link.start()
        for _ in range(2):
            assert await link.run(script, K, []) == b"taught"
            assert "cmdstat_eval:" not in own.call("INFO", "commandstats").decode()
            own.restart()
            await until(lambda: link.trouble is not None)
            await until(lambda: link.trouble is None)
        await link.close()


async def test_what_a_script_raises_is_told_and_harms_no_other(server: RedisServer) -> None:
    broken = Script("broken", "return redis.call('INCR', KEYS[1], 'one', 'too', 'many')")
    async with linked(server.url + PATIENT) as link:
        calls = [link.run(ECHO, K, [1]), link.run(broken, K, []), link.run(ECHO, K, [2])]
        first, wrong, last = await outcomes(calls)
        assert (first, last) == (b"1", b"2")
        assert "Wrong number of args" in wrong
        assert link.trouble is None


async def test_what_cannot_be_sent_is_the_callers_error_and_harms_no_other(server: RedisServer) -> None:
    async with linked(server.url + PATIENT) as link:
        before = link.run(ECHO, K, [1])
        with pytest.raises(TypeError):
            link.run(ECHO, K, [None])  # type: ignore[list-item]
        assert [await before, await link.run(ECHO, K, [2])] == [b"1", b"2"]


async def test_commands(server: RedisServer) -> None:
    async with linked(server.url + PATIENT) as link:
        assert await link.command("SET", "az:{r}:x", b"\x00\xff", key="az:{r}:x") == b"OK"
        assert await link.command("GET", "az:{r}:x") == b"\x00\xff"
        assert await link.command("MGET", "az:{r}:x", "az:{r}:none") == [b"\x00\xff", None]
        with pytest.raises(StoreUnavailable, match="WRONGTYPE"):
            await link.command("HGETALL", "az:{r}:x")
        assert link.shards == ("0",)


async def test_more_than_can_wait_is_refused_at_once(server: RedisServer) -> None:
    with Toxic(server.port) as toxic:
        async with linked(toxic.url + PATIENT) as link:
            toxic.hold()
            calls = [link.command("PING", budget_ms=20_000) for _ in range(MOST_WAITING + 500)]
            refused = [call for call in calls if call.done()]
            # What the heartbeat asked may be among those that wait.
            assert 500 <= len(refused) <= 510
            assert "too many calls" in (await outcome(refused[0]))
            toxic.release()
            assert await calls[0] == b"PONG"


async def test_a_call_that_was_cancelled_is_undone(server: RedisServer) -> None:
    async with linked(server.url + PATIENT) as link:
        await once(link, "before")
        waiting = asyncio.ensure_future(_wait_for(once(link, "left", undo=True)))
        await asyncio.sleep(0)
        waiting.cancel()
        ran, undone = places()
        await until(lambda: server.call("HGET", undone, "left") == b"1")
        assert server.call("HGET", ran, "left") is None
        await until(lambda: link.owed == 0)


async def _wait_for(future: "asyncio.Future[Any]") -> Any:
    return await future


async def test_nothing_is_undone_that_has_its_answer(server: RedisServer) -> None:
    async with linked(server.url + PATIENT) as link:
        calls = [once(link, str(number), undo=True) for number in range(50)]
        assert await outcomes(calls) == [1] * 50
        wrong = Script("wrong", "return {err='MISCONF not now'}")
        refused = link.run(wrong, places(), ["x"], undo=Undo(UNDO, places(), ["x"]))
        assert "cannot save" in await outcome(refused)
        await link.command("PING")
    assert server.call("HLEN", places()[1]) == 0


async def test_closing_waits_for_what_is_on_the_way(server: RedisServer) -> None:
    with Toxic(server.port) as toxic:
        link = open_link(Target.parse(toxic.url + PATIENT))
        await link.start()
        await once(link, "first")
        toxic.delay_ms = 50
        call = once(link, "last")
        await link.close()
        assert await call == 1
        assert "closed" in await outcome(once(link, "after"))
        await until(lambda: toxic.open == 0)


async def test_before_it_is_started_every_call_fails_at_once(server: RedisServer) -> None:
    link = open_link(Target.parse(server.url))
    assert link.trouble is not None
    call = link.run(ONCE, places(), ["x"])
    assert call.done()
    assert "not connected" in await outcome(call)
    await link.close()


async def test_how_long_calls_waited_is_told_by_decisions_alone(server: RedisServer) -> None:
    async with linked(server.url + PATIENT) as link:
        await asyncio.gather(*(link.run(ECHO, K, [number]) for number in range(10)))
        await link.command("PING")
        await link.run(ECHO, K, ["behind"], budget_ms=20_000)
        waits = link.figures.waits
        assert sum(waits.counts) == 10
        assert 0 < waits.longest <= waits.total <= 10 * waits.longest


async def test_a_wait_that_nothing_answered_is_as_long_as_the_budget(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as own:
        async with linked(own.url + "?budget=30ms") as link:
            own.pause()
            told = await outcomes([link.run(ECHO, K, [number]) for number in range(5)])
            assert all("does not answer" in each for each in told), told
            own.resume()
            waits = link.figures.waits
        assert sum(waits.counts) == 5
        assert waits.longest >= 0.03
