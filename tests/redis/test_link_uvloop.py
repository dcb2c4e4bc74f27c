"""The event loop that the service runs on: it runs timers before it reads."""

import asyncio
import select
import time
from pathlib import Path

import pytest
import uvloop

from tests.redis.link_kit import ECHO, PATIENT, linked, outcomes, until
from tests.redis.link_load import loaded, quiet, settled
from tests.support.redis import RedisServer

K = ["az:{0}:k"]


@pytest.mark.parametrize("beyond", [0.0005, 0.002, 0.2], ids=["just", "a little", "by far"])
def test_a_busy_caller_does_not_take_an_unread_reply_for_none(server: RedisServer, beyond: float) -> None:
    async def main() -> None:
        async with linked(server.url + "?budget=100ms") as link:
            await link.run(ECHO, K, ["known"], budget_ms=10_000)
            for _ in range(5):
                await link.command("PING", budget_ms=10_000)
                due = time.monotonic() + 0.1 + beyond
                call = link.run(ECHO, K, ["there"])
                for _ in range(3):
                    await asyncio.sleep(0)  # it is sent
                (node,) = link._nodes()
                assert node._wire is not None
                socket = node._wire._transport.get_extra_info("socket")  # type: ignore[union-attr]
                arrived = call.done() or select.select([socket], [], [], 10)[0]
                assert arrived, "the reply is in the socket"
                time.sleep(max(0.0, due - time.monotonic()))
                assert await call == b"there"

    uvloop.run(main())


def test_replies_go_to_their_calls(server: RedisServer) -> None:
    async def main() -> None:
        async with linked(server.url + PATIENT) as link:
            replies = await outcomes([link.run(ECHO, K, [number]) for number in range(2000)])
            assert [int(reply) for reply in replies] == list(range(2000))

    uvloop.run(main())


def test_a_server_that_stops(tmp_path: Path) -> None:
    async def main() -> None:
        async with loaded(own.url) as (link, load, lag):
            own.pause()
            await until(lambda: link.trouble is not None)
            await asyncio.sleep(0.8)
            own.resume()
            load.forget()
            assert await until(lambda: load.served > 0) < 1.0 + lag.slack
            await quiet(load)
            assert max(load.waits) < 0.06 + lag.slack
            await settled(link, load, own)

    with RedisServer(tmp_path) as own:
        uvloop.run(main())
