"""Windows both ways, and peers that are slow: what is held back, and how long we wait."""

import asyncio

import pytest

from authz.transport.lane import Limits
from authz.transport.lane.wire import (
    DATA,
    HEADERS,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    number,
    settings,
)
from tests.lane.peer import (
    Frame,
    Peer,
    Scripted,
    block,
    call,
    data,
    errors,
    headers,
    message,
    reset,
    statuses,
)

FLOW, SETTINGS_TIMEOUT, CANCEL, CALM = 3, 4, 8, 11


def peer_with(limits: Limits) -> Peer:
    return Peer(Scripted().lane(limits))


def body(frames: list[Frame], stream: int) -> bytes:
    return b"".join(each.payload for each in frames if each.kind == DATA and each.stream == stream)


async def test_more_than_the_window_of_a_stream() -> None:
    peer = peer_with(Limits(message_bytes=10_000))
    peer.send(headers(1, block(content_type="x")), headers(3, block("/t/Collect")))
    peer.send(*[data(3, message(bytes(6_660)), ended=False)] * 3)
    assert errors(peer.take()) == []
    peer.send(data(3, message(bytes(6_660)), ended=False))
    assert errors(peer.take()) == [("stream", 3, FLOW)]


async def test_more_than_the_window_of_the_connection() -> None:
    """In one piece, before we could widen it."""
    peer = peer_with(Limits(window_bytes=70_000))
    peer.send(headers(1, block(content_type="x")), *[data(1, bytes(14_000), ended=False)] * 5)
    found = peer.take()
    assert errors(found) == []
    assert [each.stream for each in found if each.kind == WINDOW_UPDATE] == [0]
    peer.send(*[data(1, bytes(14_000), ended=False)] * 6)
    assert errors(peer.take()) == [("connection", 0, FLOW)]


async def test_answers_keep_to_the_windows_of_the_peer() -> None:
    """RFC 9113 sections 5.2, 6.9.1 and 6.9.2: a window may even fall below zero."""
    peer = peer_with(Limits())
    peer.send(settings({4: 10}), call(1, payload=bytes(range(40))), call(3, payload=b"short"))
    found = peer.take()
    assert [len(body(found, stream)) for stream in (1, 3)] == [10, 10]
    assert statuses(found) == {3: 0}
    peer.send(settings({4: 5}), frame(WINDOW_UPDATE, 0, 1, number(5)))
    assert body(peer.take(), 1) == b""
    peer.send(frame(WINDOW_UPDATE, 0, 1, number(1)))
    assert len(body(peer.take(), 1)) == 1
    peer.send(settings({4: 100}))
    rest = peer.take()
    assert body(found, 1) + bytes([5]) + body(rest, 1) == message(bytes(range(40)))
    assert statuses(rest) == {1: 0}


async def test_answers_keep_to_the_window_of_the_connection_and_its_largest_frame() -> None:
    peer = peer_with(Limits())
    peer.send(settings({4: 1_000_000}))
    for stream in (1, 3):
        sent = message(bytes(50_000))
        parts = [sent[at : at + 16_000] for at in range(0, len(sent), 16_000)]
        peer.send(headers(stream), *(data(stream, each, ended=each is parts[-1]) for each in parts))
    found = peer.take()
    assert len(body(found, 1)) == 50_005
    assert len(body(found, 3)) == 65_535 - 50_005
    assert max(len(each.payload) for each in found if each.kind == DATA) == 16_384
    peer.send(frame(WINDOW_UPDATE, 0, 0, number(100_000)))
    assert len(body(found + peer.take(), 3)) == 50_005


async def test_what_a_reset_stream_waited_to_send_is_dropped() -> None:
    peer = peer_with(Limits())
    peer.send(settings({4: 0}), call(1), call(3), reset(1), settings({4: 100}))
    found = peer.take()
    assert body(found, 1) == b""
    assert statuses(found) == {3: 0}


async def test_a_peer_that_does_not_read_is_not_listened_to_and_then_left() -> None:
    peer = peer_with(Limits(stalled_seconds=20))
    now = asyncio.get_running_loop().time()
    peer.connection.pause_writing()
    assert not peer.wire.reading
    peer.connection.tick(now + 19)
    assert not peer.wire.aborted
    peer.connection.resume_writing()
    assert peer.wire.reading
    peer.connection.tick(now + 30)
    assert not peer.wire.aborted
    peer.connection.pause_writing()
    peer.connection.tick(now + 60)
    assert peer.wire.aborted


async def test_while_we_do_not_listen_nothing_is_late() -> None:
    peer = peer_with(Limits(stalled_seconds=20, frame_seconds=10))
    peer.send(call(1)[:20])
    now = asyncio.get_running_loop().time()
    peer.connection.pause_writing()
    peer.connection.tick(now + 15)
    peer.connection.resume_writing()
    peer.connection.tick(now + 9)
    peer.send(call(1)[20:])
    assert errors(peer.take()) == []


async def test_a_window_that_is_never_widened() -> None:
    peer = peer_with(Limits(stalled_seconds=20))
    now = asyncio.get_running_loop().time()
    peer.send(settings({4: 0}), call(1))
    peer.connection.tick(now + 19)
    assert errors(peer.take()) == []
    peer.connection.tick(now + 21)
    await asyncio.sleep(0)
    assert errors(peer.take()) == [("stream", 1, CANCEL)]


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"", SETTINGS_TIMEOUT),
        (PREFACE[:5], SETTINGS_TIMEOUT),
        (PREFACE + frame(SETTINGS, 0, 0), SETTINGS_TIMEOUT),
        (PREFACE + frame(SETTINGS, 0, 0) + frame(SETTINGS, 1, 0) + b"\0\0\4", CALM),
        (PREFACE + frame(SETTINGS, 0, 0) + frame(SETTINGS, 1, 0) + headers(1, whole=False), CALM),
    ],
    ids=["silent", "half-a-preface", "no-acknowledgement", "half-a-frame", "half-a-block"],
)
async def test_what_begins_has_to_go_on(sent: bytes, code: int) -> None:
    peer = Peer(Scripted().lane(Limits(greeting_seconds=10, frame_seconds=10)), greet=False)
    if sent:
        peer.send(sent)
    now = asyncio.get_running_loop().time()
    peer.connection.tick(now + 9)
    assert errors(peer.take()) == []
    peer.connection.tick(now + 11)
    assert errors(peer.take())[-1] == ("connection", 0, code)
    assert peer.wire.closed


async def test_a_message_that_does_not_arrive() -> None:
    peer = peer_with(Limits(message_seconds=0.001))
    peer.send(headers(1), headers(3, block(method="GET")), headers(5, block("/t/Collect")))
    found: list[Frame] = []
    while len([each for each in found if each.kind == HEADERS]) < 2:
        found += await peer.until(RST_STREAM)
    assert statuses(found) == {1: 4}
    assert any(b":status\x03405" in each.payload for each in found)


async def test_an_idle_connection_is_left_gracefully_and_a_busy_one_is_not() -> None:
    peer, busy = peer_with(Limits(idle_seconds=100)), peer_with(Limits(idle_seconds=100))
    busy.send(call(1, "/t/Wait"))
    now = asyncio.get_running_loop().time()
    for each in (peer, busy):
        each.connection.tick(now + 99)
    await asyncio.sleep(0)
    assert errors(peer.take()) == []
    for each in (peer, busy):
        each.connection.tick(now + 101)
    await asyncio.sleep(0)
    assert errors(peer.take()) == [("connection", 0, 0)]
    assert errors(busy.take()) == []
    assert not peer.wire.closed
