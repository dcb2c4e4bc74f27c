"""A drained lane loses no call (RFC 9113 section 6.8)."""

import asyncio

from authz.transport.lane import Limits
from authz.transport.lane.wire import GOAWAY, HEADERS, LARGEST_STREAM, PING, frame
from tests.lane.peer import GREETING, Peer, Scripted, call, data, errors, reset, statuses


async def test_first_it_is_announced_then_it_is_certain() -> None:
    scripted = Scripted()
    lane = scripted.lane()
    peer = Peer(lane)
    peer.send(call(1, "/t/Wait"))
    lane.drain()
    lane.drain()
    goaway, ping = await peer.until(PING)
    assert goaway.payload[:8] == LARGEST_STREAM.to_bytes(4, "big") + bytes(4)
    peer.send(call(3), frame(PING, 1, 0, ping.payload), call(5), data(7, b"x"), reset(9))
    found = peer.take()
    assert [each.payload[:4] for each in found if each.kind == GOAWAY] == [(3).to_bytes(4, "big")]
    assert statuses(found) == {3: 0}  # sent before the peer knew; 5 was sent after, and was never looked at
    assert len([each for each in found if each.kind == GOAWAY]) == 1
    scripted.waiting[0].set_result(b"")
    assert statuses(await peer.until(HEADERS)) == {1: 0}
    assert errors(peer.take()) == []


async def test_without_an_answer_to_the_ping_it_is_certain_after_a_while() -> None:
    lane = Scripted().lane(Limits(linger_seconds=1))
    peer = Peer(lane)
    now = asyncio.get_running_loop().time()
    lane.drain()
    peer.connection.tick(now + 0.9)
    assert len(await peer.until(PING)) == 2
    peer.send(call(1))
    assert statuses(peer.take()) == {1: 0}
    peer.connection.tick(now + 1.1)
    assert [each.payload[:4] for each in await peer.until(GOAWAY)] == [(1).to_bytes(4, "big")]
    peer.send(call(3))
    assert peer.take() == []


async def test_the_peer_is_left_the_time_to_close_first() -> None:
    scripted = Scripted()
    lane = scripted.lane(Limits(linger_seconds=1))
    peer = Peer(lane)
    peer.send(call(1, "/t/Wait"))
    now = asyncio.get_running_loop().time()
    lane.drain()
    peer.connection.tick(now + 2)
    peer.connection.tick(now + 5)
    assert not peer.wire.closed  # a call is under way
    scripted.waiting[0].set_result(b"")
    await peer.until(HEADERS)
    peer.connection.tick(now + 6)
    peer.connection.tick(now + 6.9)
    assert not peer.wire.closed
    peer.connection.tick(now + 7.1)
    assert peer.wire.closed


async def test_who_comes_while_we_leave_is_told_at_once_and_served() -> None:
    lane = Scripted().lane()
    lane.drain()
    peer = Peer(lane, greet=False)
    await peer.until(GOAWAY)

    peer.send(GREETING, call(1))
    assert statuses(peer.take()) == {1: 0}


async def test_stopping_waits_for_calls_but_not_for_ever() -> None:
    scripted = Scripted()
    lane = scripted.lane()
    peer = Peer(lane)
    peer.send(call(1, "/t/Wait"))
    await lane.stop(0.01)
    assert peer.wire.closed
    async with asyncio.timeout(20):
        while not scripted.cancelled:
            await asyncio.sleep(0)
    peer.lose()
    assert lane.connections == 0
    await lane.stop(10)
