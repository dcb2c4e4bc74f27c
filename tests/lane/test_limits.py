"""What one peer may ask of us, each bound by itself: as much is taken, one more is not."""

import asyncio
from collections.abc import Callable

import pytest

from authz.transport.lane import Limits
from authz.transport.lane.replies import field
from authz.transport.lane.wire import (
    CONTINUATION,
    DATA,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    PRIORITY,
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
    continuation,
    data,
    errors,
    headers,
    message,
    reset,
    statuses,
)

FLOW, SETTINGS_TIMEOUT, REFUSED, CANCEL, CALM = 3, 4, 7, 8, 11
EXHAUSTED, UNIMPLEMENTED = 8, 12
END = [("connection", 0, CALM)]


def peer_with(limits: Limits) -> Peer:
    return Peer(Scripted().lane(limits))


def body(frames: list[Frame], stream: int) -> bytes:
    return b"".join(each.payload for each in frames if each.kind == DATA and each.stream == stream)


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
