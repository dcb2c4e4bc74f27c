"""What one peer may ask of us: as much is taken, one more is not."""

import asyncio
from collections.abc import Callable

import pytest

from authz.transport.lane import Limits
from authz.transport.lane.replies import field
from authz.transport.lane.wire import (
    CONTINUATION,
    GOAWAY,
    PING,
    PRIORITY,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    number,
)
from tests.lane.peer import (
    Peer,
    Scripted,
    block,
    call,
    continuation,
    data,
    errors,
    headers,
    message,
    reset,
    statuses,
)

REFUSED, CALM = 7, 11
EXHAUSTED = 8
END = [("connection", 0, CALM)]


def peer_with(limits: Limits) -> Peer:
    return Peer(Scripted().lane(limits))


@pytest.mark.parametrize(
    "empty",
    [
        lambda at: frame(PING, 0, 0, bytes(8)),
        lambda at: frame(PING, 1, 0, bytes(8)),
        lambda at: frame(SETTINGS, 0, 0),
        lambda at: frame(SETTINGS, 1, 0),
        lambda at: frame(PRIORITY, 0, 3, number(1) + b"\0"),
        lambda at: frame(WINDOW_UPDATE, 0, 0, number(1)),
        lambda at: frame(WINDOW_UPDATE, 0, 1, number(1)),
        lambda at: frame(GOAWAY, 0, 0, bytes(8)),
        lambda at: frame(0x42, 0, 0, b"unknown"),
        lambda at: data(1, b"", ended=False),
        lambda at: data(1, b"\0", ended=False) if at == 0 else data(1, b"", ended=False),
        lambda at: reset(3) if at else headers(3, block("/t/None")) + reset(3) + reset(3),
    ],
    ids=["ping", "ping-ack", "settings", "settings-ack", "priority", "window", "stream-window", "goaway", "unknown",
         "empty-data", "tiny-data", "reset-of-nothing"],
)  # fmt: skip
async def test_frames_that_carry_nothing(empty: Callable[[int], bytes]) -> None:
    """CVE-2019-9512, -9515, -9518 and their like."""
    peer = peer_with(Limits(control_frames=50, control_frames_per_second=0))
    peer.send(headers(1))
    for at in range(40):
        peer.send(empty(at))
    assert END[0] not in errors(peer.take())
    for at in range(20):
        peer.send(empty(40 + at))
    assert errors(peer.take())[-1:] == END
    assert peer.wire.closed


async def test_with_each_call_a_few_of_them_are_in_order() -> None:
    peer = peer_with(Limits(control_frames=10, control_frames_per_second=0))
    for at in range(200):
        peer.send(call(2 * at + 1), frame(PING, 0, 0, bytes(8)), frame(WINDOW_UPDATE, 0, 0, number(20)))
    assert errors(peer.take()) == []


@pytest.mark.parametrize("path", ["/t/Wait", "/t/Collect", "/t/Echo"])
async def test_rapid_reset(path: str) -> None:
    """CVE-2023-44487."""
    peer = peer_with(Limits(resets=20, resets_per_second=0))
    for at in range(20):
        peer.send(headers(2 * at + 1, block(path)), reset(2 * at + 1))
    assert errors(peer.take()) == []
    peer.send(headers(99, block(path)), reset(99))
    assert errors(peer.take()) == END


async def test_made_to_reset() -> None:
    """CVE-2025-8671: the same, by faults for which we reset."""
    peer = peer_with(Limits(resets=20, resets_per_second=0))
    for at in range(20):
        peer.send(headers(2 * at + 1), frame(WINDOW_UPDATE, 0, 2 * at + 1, number(0)))
    assert len(errors(peer.take())) == 20
    peer.send(headers(99), frame(WINDOW_UPDATE, 0, 99, number(0)))
    assert errors(peer.take()) == END


async def test_resets_are_forgiven_with_time() -> None:
    loop = asyncio.get_running_loop()
    peer = peer_with(Limits(resets=2, resets_per_second=1_000_000))
    for at in range(50):
        before = loop.time()
        while loop.time() - before < 1e-5:
            pass
        peer.send(headers(2 * at + 1), reset(2 * at + 1))
    assert errors(peer.take()) == []


async def test_calls_at_once() -> None:
    scripted = Scripted()
    peer = Peer(scripted.lane(Limits(streams=3)))
    peer.send(*(call(at, "/t/Wait") for at in (1, 3, 5, 7)))
    assert errors(peer.take()) == [("stream", 7, REFUSED)]
    for future in scripted.waiting:
        future.set_result(b"")
    while len(statuses(peer.take())) == 0:
        await asyncio.sleep(0)
    peer.send(call(9))
    assert statuses(peer.take())[9] == 0


async def test_handlers_that_nobody_waits_for_any_more_count_too() -> None:
    peer = peer_with(Limits(streams=3))
    peer.send(*(call(at, "/t/Wait") + reset(at) for at in (1, 3, 5)), call(7, "/t/Wait"))
    assert errors(peer.take()) == [("stream", 7, REFUSED)]


@pytest.mark.parametrize(("size", "taken"), [(2000, True), (3000, False)])
async def test_header_fields(size: int, taken: bool) -> None:
    peer = peer_with(Limits(header_bytes=2500))
    peer.send(headers(1, block("/t/Echo", ("x", "y" * size))), data(1, message()))
    found = peer.take()
    assert (b":status\x03431" in found[0].payload) is not taken
    assert (statuses(found) == {1: 0}) is taken


async def test_far_too_many_header_fields_from_few_bytes() -> None:
    """A large field in the table, and then one byte for each time it is repeated."""
    peer = peer_with(Limits(header_bytes=2500))
    fields = b"\x40" + field(b"x", b"y" * 2000)[1:]
    peer.send(headers(1, block() + fields))
    peer.send(headers(3, block() + b"\xbe" * 100))
    assert errors(peer.take())[-1:] == END


async def test_a_header_block_without_end() -> None:
    """CVE-2024-27316, by its bytes."""
    peer = peer_with(Limits(block_bytes=40_000))
    peer.send(headers(1, bytes(16_000), whole=False), continuation(1, bytes(16_000), whole=False))
    assert errors(peer.take()) == []
    peer.send(continuation(1, bytes(16_000), whole=False))
    assert errors(peer.take()) == END


async def test_a_header_block_of_empty_pieces() -> None:
    """CVE-2024-27316, by its frames."""
    peer = peer_with(Limits(continuations=16))
    peer.send(headers(1, whole=False), *[frame(CONTINUATION, 0, 1)] * 16)
    assert errors(peer.take()) == []
    peer.send(frame(CONTINUATION, 0, 1))
    assert errors(peer.take()) == END


@pytest.mark.parametrize("path", ["/t/Echo", "/t/Collect"])
@pytest.mark.parametrize("pieces", [False, True])
async def test_a_message(path: str, pieces: bool) -> None:
    peer = peer_with(Limits(message_bytes=100))
    for stream, size in ((1, 100), (3, 101)):
        sent = message(bytes(size))
        parts = data(stream, sent[:6], ended=False) + data(stream, sent[6:]) if pieces else data(stream, sent)
        peer.send(headers(stream, block(path)), parts)
    found = peer.take()
    while 1 not in statuses(found):
        await asyncio.sleep(0)
        found += peer.take()
    assert statuses(found) == {1: 0, 3: EXHAUSTED}


async def test_a_message_too_large_is_refused_by_its_length() -> None:
    peer = peer_with(Limits(message_bytes=100))
    peer.send(headers(1), data(1, message(bytes(101))[:5], ended=False))
    assert statuses(peer.take()) == {1: EXHAUSTED}


@pytest.mark.parametrize("path", ["/t/Echo", "/t/Collect"])
async def test_what_is_kept_of_all_streams_together(path: str) -> None:
    peer = peer_with(Limits(held_bytes=25_000))
    for stream in (1, 3, 5):
        peer.send(headers(stream, block(path)), data(stream, message(bytes(11_000))[:-1], ended=False))
    assert statuses(peer.take()) == {5: EXHAUSTED}
    peer.send(reset(1), headers(7, block(path)), data(7, message(bytes(11_000))[:-1], ended=False))
    assert statuses(peer.take()) == {}


async def test_many_small_messages_count_for_more_than_their_bytes() -> None:
    peer = peer_with(Limits(held_bytes=25_000))
    peer.send(headers(1, block("/t/Collect")), data(1, message(b"") * 1000, ended=False))
    assert statuses(peer.take()) == {1: EXHAUSTED}


async def test_a_connection_too_many_is_told_and_closed() -> None:
    ended: list[tuple[str, str]] = []
    lane = Scripted().lane(most_connections=2, ended=lambda peer, error, why: ended.append((error, why)))
    first, second, third = Peer(lane), Peer(lane), Peer(lane, greet=False)
    assert errors(third.take()) == END
    assert third.wire.closed
    third.send(call(1))
    third.lose()
    assert third.take() == []
    assert (lane.connections, ended) == (2, [("ENHANCE_YOUR_CALM", "too many connections")])
    first.lose()
    fourth = Peer(lane)
    for peer in (second, fourth):
        peer.send(call(1))
        assert statuses(peer.take()) == {1: 0}


async def test_every_end_for_what_the_peer_did_is_told_and_no_other() -> None:
    ended: list[tuple[str, str]] = []
    lane = Scripted().lane(ended=lambda peer, error, why: ended.append((error, why)))
    faulty, stalled, left, lost = Peer(lane), Peer(lane), Peer(lane), Peer(lane)
    faulty.send(headers(2))
    stalled.connection.pause_writing()
    stalled.connection.tick(asyncio.get_running_loop().time() + 60)
    left.connection.close()
    lost.lose()
    assert ended == [
        ("PROTOCOL_ERROR", "a request on a stream of even number"),
        ("ENHANCE_YOUR_CALM", "it does not read what we answer"),
    ]


async def test_a_gateway_whose_clients_all_leave_at_once_is_kept() -> None:
    """Every call that it may have open is cancelled, twice: so much is in order."""
    scripted = Scripted()
    peer = Peer(scripted.lane())
    at = 1
    for _ in range(2):
        numbers = range(at, at + 2 * Limits().streams, 2)
        at = numbers.stop
        peer.send(*(call(each, "/t/Wait") for each in numbers))
        peer.send(*(reset(each) for each in numbers))
        async with asyncio.timeout(60):
            while peer.connection._calls._answers.running:
                await asyncio.sleep(0)
    assert scripted.cancelled == at // 2
    peer.take()
    peer.send(call(at))
    assert statuses(peer.take()) == {at: 0}


async def test_what_waits_on_all_connections_together() -> None:
    lane = Scripted().lane(Limits(held_bytes=1000), most_held=1500)
    begun = message(bytes(900))[:-1]
    first, second, third = Peer(lane), Peer(lane), Peer(lane)
    first.send(headers(1), data(1, begun, ended=False))
    second.send(headers(1), data(1, begun, ended=False))
    assert (statuses(first.take()), statuses(second.take())) == ({}, {1: EXHAUSTED})
    first.lose()
    for at in (1, 3):  # the second time what the first left is free again
        third.send(headers(at), data(at, begun, ended=False), data(at, b"\0"))
        assert statuses(third.take()) == {at: 0}
