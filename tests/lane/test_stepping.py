"""A coroutine that was stepped once goes on in a task as if it had begun there."""

import asyncio
from typing import Any

import pytest

from authz.transport.lane import Lane, Unary
from authz.transport.lane.stepping import Remainder
from tests.lane.peer import Peer, call, statuses


async def stepped(coroutine: Any) -> Any:
    return await asyncio.ensure_future(Remainder(coroutine, coroutine.send(None)).finish())


async def test_it_waits_for_what_it_waited_for_and_for_all_that_follows() -> None:
    loop = asyncio.get_running_loop()
    first, second = loop.create_future(), loop.create_future()
    trace: list[str] = []

    async def handler() -> str:
        trace.append(await first)
        await asyncio.sleep(0)
        trace.append(await second)
        return "done"

    loop.call_soon(first.set_result, "first")
    loop.call_later(0.001, second.set_result, "second")
    assert await stepped(handler()) == "done"
    assert trace == ["first", "second"]


async def test_a_future_that_is_done_in_between_is_not_missed() -> None:
    future = asyncio.get_running_loop().create_future()

    async def handler() -> Any:
        return await future

    coroutine = handler()
    rest = Remainder(coroutine, coroutine.send(None))
    future.set_result(7)
    assert await asyncio.ensure_future(rest.finish()) == 7


async def test_what_goes_wrong_comes_out() -> None:
    future = asyncio.get_running_loop().create_future()

    async def handler() -> None:
        try:
            await future
        except KeyError:
            raise ValueError("from within") from None

    coroutine = handler()
    rest = Remainder(coroutine, coroutine.send(None))
    future.set_exception(KeyError())
    with pytest.raises(ValueError, match="from within"):
        await asyncio.ensure_future(rest.finish())


async def test_a_cancellation_may_be_answered_with_more_waiting() -> None:
    loop = asyncio.get_running_loop()
    never, cleaned = loop.create_future(), loop.create_future()

    async def handler() -> str:
        try:
            await never
        except asyncio.CancelledError:
            return str(await cleaned)
        return ""

    coroutine = handler()
    task = asyncio.ensure_future(Remainder(coroutine, coroutine.send(None)).finish())
    await asyncio.sleep(0)
    task.cancel()
    loop.call_later(0.001, cleaned.set_result, "cleaned")
    assert await task == "cleaned"


async def test_what_handlers_raise_is_told_to_the_loop_where_nobody_else_asks() -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))

    def fail(message: bytes, caller: object) -> bytes:
        raise ValueError("broken")

    peer = Peer(Lane({"/t/Fail": Unary(fail)}))
    peer.send(call(1, "/t/Fail"))
    assert statuses(peer.take()) == {1: 2}
    assert [str(each["exception"]) for each in told] == ["broken"]
