"""What is wrong gets the code that RFC 9113 gives it, on the stream or on the connection."""

import pytest

from authz.transport.lane.wire import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HAS_PRIORITY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    number,
    settings,
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

NO, PROTOCOL, FLOW, CLOSED, SIZE, COMPRESSION = 0, 1, 3, 5, 6, 9
OPEN = headers(1)
RUNNING = call(1, "/t/Wait")

CONNECTION = {
    "4.2-frame-too-large": (OPEN + frame(DATA, 0, 1, bytes(16_385)), SIZE),
    "4.3-block-unreadable": (headers(1, b"\x80"), COMPRESSION),
    "4.3-block-cut": (headers(1, b"\x00\x05abc"), COMPRESSION),
    "4.3-integer-too-long": (headers(1, b"\xff" * 40), COMPRESSION),
    "4.3-table-too-large": (headers(1, b"\x3f\xe2\xff\x03" + block()), COMPRESSION),
    "4.3-data-in-block": (headers(1, whole=False) + data(1, b""), PROTOCOL),
    "4.3-headers-in-block": (headers(1, whole=False) + headers(3), PROTOCOL),
    "4.3-unknown-in-block": (headers(1, whole=False) + frame(0x16, 0, 0), PROTOCOL),
    "5.1-idle-data": (data(1, b"x"), PROTOCOL),
    "5.1-idle-reset": (reset(1), PROTOCOL),
    "5.1-idle-window": (frame(WINDOW_UPDATE, 0, 1, number(1)), PROTOCOL),
    "5.1-headers-after-end": (call(1) + headers(1), CLOSED),
    "5.1-headers-after-reset": (OPEN + reset(1) + headers(1), CLOSED),
    "5.1.1-even": (headers(2), PROTOCOL),
    "5.1.1-lower": (headers(5) + headers(3), PROTOCOL),
    "6.1-data-on-0": (data(0, b""), PROTOCOL),
    "6.1-padding-too-long": (OPEN + frame(DATA, PADDED, 1, b"\x05abcd"), PROTOCOL),
    "6.1-padding-missing": (OPEN + frame(DATA, PADDED, 1, b""), SIZE),
    "6.2-headers-on-0": (headers(0), PROTOCOL),
    "6.2-padding-too-long": (frame(HEADERS, PADDED | END_HEADERS, 1, b"\xff" + block()), PROTOCOL),
    "6.2-priority-short": (frame(HEADERS, HAS_PRIORITY | END_HEADERS, 1, b"\x00"), SIZE),
    "6.3-priority-on-0": (frame(PRIORITY, 0, 0, bytes(5)), PROTOCOL),
    "6.3-priority-size": (frame(PRIORITY, 0, 1, bytes(4)), SIZE),
    "6.3-priority-on-itself": (frame(PRIORITY, 0, 3, number(3) + b"\x00"), PROTOCOL),
    "6.4-reset-on-0": (reset(0), PROTOCOL),
    "6.4-reset-size": (OPEN + frame(RST_STREAM, 0, 1, b"abc"), SIZE),
    "6.5-settings-on-1": (frame(SETTINGS, 0, 1), PROTOCOL),
    "6.5-settings-size": (frame(SETTINGS, 0, 0, b"abc"), SIZE),
    "6.5-ack-with-payload": (frame(SETTINGS, ACK, 0, bytes(6)), SIZE),
    "6.5.2-push": (settings({2: 2}), PROTOCOL),
    "6.5.2-window": (settings({4: 2**31}), FLOW),
    "6.5.2-frame-small": (settings({5: 16_383}), PROTOCOL),
    "6.5.2-frame-large": (settings({5: 2**24}), PROTOCOL),
    "6.6-push-promise": (OPEN + frame(PUSH_PROMISE, 4, 1, number(2)), PROTOCOL),
    "6.7-ping-on-1": (frame(PING, 0, 1, bytes(8)), PROTOCOL),
    "6.7-ping-size": (frame(PING, 0, 0, bytes(7)), SIZE),
    "6.8-goaway-on-1": (frame(GOAWAY, 0, 1, bytes(8)), PROTOCOL),
    "6.8-goaway-size": (frame(GOAWAY, 0, 0, bytes(7)), SIZE),
    "6.9-nothing": (frame(WINDOW_UPDATE, 0, 0, number(0)), PROTOCOL),
    "6.9-size": (frame(WINDOW_UPDATE, 0, 0, b"abc"), SIZE),
    "6.9.1-overflow": (frame(WINDOW_UPDATE, 0, 0, number(2**31 - 1)), FLOW),
    "6.9.2-overflow": (
        RUNNING + frame(WINDOW_UPDATE, 0, 1, number(2**31 - 70_000)) + settings({4: 80_000}),
        FLOW,
    ),
    "6.10-of-nothing": (continuation(1, b""), PROTOCOL),
    "6.10-of-another": (headers(1, whole=False) + continuation(3, b""), PROTOCOL),
    "6.10-after-whole": (OPEN + continuation(1, b""), PROTOCOL),
    "6.10-on-0": (frame(CONTINUATION, END_HEADERS, 0), PROTOCOL),
}

STREAM = {
    "5.1-data-after-end": (call(1) + data(1, b"x"), CLOSED),
    "5.1-data-while-running": (RUNNING + data(1, b"x"), CLOSED),
    "5.1-headers-while-running": (RUNNING + headers(1, ended=True), CLOSED),
    "5.1-data-after-reset": (OPEN + reset(1) + data(1, b"x"), CLOSED),
    "6.9-nothing": (OPEN + frame(WINDOW_UPDATE, 0, 1, number(0)), PROTOCOL),
    "6.9.1-overflow": (OPEN + frame(WINDOW_UPDATE, 0, 1, number(2**31 - 1)), FLOW),
    "8.1-trailers-without-end": (OPEN + headers(1, block()), PROTOCOL),
    "8.1-trailers-with-pseudo": (OPEN + headers(1, block(), ended=True), PROTOCOL),
    "8.1.1-length-less": (
        headers(1, block("/t/Echo", ("content-length", "9"))) + data(1, message()),
        PROTOCOL,
    ),
    "8.1.1-length-more": (
        headers(1, block("/t/Echo", ("content-length", "11"))) + data(1, message()),
        PROTOCOL,
    ),
    "8.1.1-length-of-nothing": (headers(1, block("/t/Echo", ("content-length", "1")), ended=True), PROTOCOL),
    "8.1.1-lengths-differ": (
        headers(1, block("/t/Echo", ("content-length", "1"), ("content-length", "2"))),
        PROTOCOL,
    ),
    "8.1.1-length-no-number": (headers(1, block("/t/Echo", ("content-length", "-1"))), PROTOCOL),
    "8.2-capital": (headers(1, block("/t/Echo", ("X-Y", "z"))), PROTOCOL),
    "8.2.1-name-empty": (headers(1, block("/t/Echo", ("", "z"))), PROTOCOL),
    "8.2.1-name-space": (headers(1, block("/t/Echo", ("a b", "z"))), PROTOCOL),
    "8.2.1-value-newline": (headers(1, block("/t/Echo", ("a", "x\ny"))), PROTOCOL),
    "8.2.1-value-nul": (headers(1, block("/t/Echo", ("a", "x\0"))), PROTOCOL),
    "8.2.1-value-spaces": (headers(1, block("/t/Echo", ("a", " x"))), PROTOCOL),
    "8.2.2-connection": (headers(1, block("/t/Echo", ("connection", "close"))), PROTOCOL),
    "8.2.2-transfer-encoding": (headers(1, block("/t/Echo", ("transfer-encoding", "chunked"))), PROTOCOL),
    "8.2.2-te": (headers(1, block("/t/Echo", ("te", "gzip"))), PROTOCOL),
    "8.3-unknown-pseudo": (headers(1, b"\x00\x04:bad\x01x" + block()), PROTOCOL),
    "8.3-pseudo-after-field": (headers(1, b"\x00\x01a\x01x" + block()), PROTOCOL),
    "8.3-pseudo-twice": (headers(1, b"\x00\x05:path\x01/" + block()), PROTOCOL),
    "8.3-status": (headers(1, b"\x88" + block()), PROTOCOL),
    "8.3.1-no-method": (headers(1, block(method=None)), PROTOCOL),
    "8.3.1-no-scheme": (headers(1, block(scheme=None)), PROTOCOL),
    "8.3.1-no-path": (headers(1, b"\x83\x86"), PROTOCOL),
    "8.3.1-empty-path": (headers(1, block("")), PROTOCOL),
}


@pytest.mark.parametrize("case", CONNECTION)
async def test_the_connection_ends_with_its_code(case: str) -> None:
    sent, code = CONNECTION[case]
    peer = Peer(Scripted().lane())
    peer.send(sent)
    assert errors(peer.take())[-1] == ("connection", 0, code)
    assert peer.wire.closed
    peer.send(call(101))
    assert peer.take() == []


@pytest.mark.parametrize("case", STREAM)
async def test_the_stream_ends_with_its_code_and_the_others_go_on(case: str) -> None:
    sent, code = STREAM[case]
    peer = Peer(Scripted().lane())
    peer.send(sent)
    assert errors(peer.take()) == [("stream", 1, code)]
    peer.send(call(101))
    assert statuses(peer.take()) == {101: 0}
    assert not peer.wire.closed


@pytest.mark.parametrize(
    "first",
    [b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/1.1", PREFACE + headers(1), PREFACE + frame(SETTINGS, ACK, 0), PREFACE + data(1, b"")],
    ids=["http1", "wrong-preface", "headers-first", "ack-first", "data-first"],
)  # fmt: skip
async def test_3_4_a_connection_begins_with_preface_and_settings(first: bytes) -> None:
    peer = Peer(Scripted().lane(), greet=False)
    peer.send(first)
    assert errors(peer.take()) == [("connection", 0, PROTOCOL)]
    assert peer.wire.closed


@pytest.mark.parametrize("size", [1, 2, 9, 100])
async def test_bytes_come_in_any_pieces(size: int) -> None:
    peer = Peer(Scripted().lane(), greet=False)
    sent = PREFACE + settings({}) + headers(1, block()[:20], whole=False) + continuation(1, block()[20:])
    sent += data(1, message()[:3], ended=False) + data(1, message()[3:]) + call(3)
    for at in range(0, len(sent), size):
        peer.send(sent[at : at + size])
    found = peer.take()
    assert errors(found) == []
    assert statuses(found) == {1: 0, 3: 0}


@pytest.mark.parametrize(
    "harmless",
    [
        frame(0x16, 0xFF, 7, b"unknown"),
        frame(PRIORITY, 0, 9, number(1) + b"\x10"),
        frame(PING, ACK, 0, bytes(8)),
        settings({0x99: 1, 4: 0, 3: 0}) + settings({4: 70_000}),
        call(1) + frame(WINDOW_UPDATE, 0, 1, number(5)) + reset(1),
        frame(GOAWAY, 0, 0, bytes(8)),
        frame(HEADERS, END_HEADERS | END_STREAM | PADDED | HAS_PRIORITY, 1, b"\x03" + number(0) + b"\x01" + block() + bytes(3)),
        headers(1, block("/t/None")) + data(1, b"late", ended=False) + headers(1, b"\x00\x01a\x01b", ended=True),
    ],
    ids=["unknown", "priority", "ping-ack", "settings", "closed", "goaway", "padded", "after-our-reset"],
)  # fmt: skip
async def test_what_is_in_order_ends_nothing(harmless: bytes) -> None:
    peer = Peer(Scripted().lane())
    peer.send(harmless, call(101))
    found = peer.take()
    assert [each for each in errors(found) if each[2] != NO] == []
    assert statuses(found)[101] == 0
