"""Calls over single frames: what a handler gets, what is answered, and with which status."""

import asyncio

import pytest

from authz.transport.lane import Caller, Lane, Limits, Unary
from authz.transport.lane.wire import (
    DATA,
    END_STREAM,
    HEADERS,
    PADDED,
    RST_STREAM,
    WINDOW_UPDATE,
    frame,
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

CANCELLED, UNKNOWN, DEADLINE, PERMISSION, UNIMPLEMENTED, INTERNAL = 1, 2, 4, 7, 12, 13


def answers(frames: list[Frame]) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for each in frames:
        if each.kind == DATA:
            found[each.stream] = found.get(each.stream, b"") + each.payload
    return found


@pytest.fixture
def scripted() -> Scripted:
    return Scripted()


@pytest.fixture
async def peer(scripted: Scripted) -> Peer:
    return Peer(scripted.lane())


@pytest.mark.parametrize("path", ["/t/Echo", "/t/Ready"])
async def test_what_does_not_suspend_is_answered_in_the_same_turn_without_a_task(
    peer: Peer, path: str
) -> None:
    before = len(asyncio.all_tasks())
    peer.send(call(1, path, b"one"), call(3, path, b""))
    found = peer.take()
    assert len(asyncio.all_tasks()) == before
    assert answers(found) == {1: message(b"one"), 3: message(b"")}
    assert statuses(found) == {1: 0, 3: 0}
    assert [(each.kind, each.flags & END_STREAM) for each in found if each.stream == 1] == [
        (HEADERS, 0),
        (DATA, 0),
        (HEADERS, END_STREAM),
    ]


@pytest.mark.parametrize("path", ["/t/Wait", "/t/Future"])
async def test_what_suspends_is_answered_when_it_is_done(peer: Peer, scripted: Scripted, path: str) -> None:
    peer.send(call(1, path, b"one "), call(3, path, b"two "))
    assert peer.take() == []
    scripted.waiting[1].set_result(b"second")
    found = await peer.until(DATA)
    assert answers(found) == {3: message(b"two second" if path == "/t/Wait" else b"second")}
    scripted.waiting[0].set_result(b"first")
    assert 1 in answers(await peer.until(DATA))


async def test_a_handler_knows_its_caller(peer: Peer, scripted: Scripted) -> None:
    same = headers(1, block("/t/Echo", ("x-token", "é"), ("x-token", "b")))
    peer.send(same, data(1, message()), same.replace(b"\0\0\0\1", b"\0\0\0\3", 1), data(3, message()))
    first, second = scripted.callers
    assert first is second
    assert [pair for pair in first.metadata if pair[0] == "x-token"] == [("x-token", "é"), ("x-token", "b")]
    assert not any(name.startswith(":") for name, _ in first.metadata)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (call(1, "/t/None"), UNIMPLEMENTED),
        (headers(1, block("/t/None")), UNIMPLEMENTED),
        (headers(1) + data(1, message(compressed=1)), UNIMPLEMENTED),
        (headers(1) + data(1, message(compressed=1)[:5], ended=False), UNIMPLEMENTED),
        (headers(1) + data(1, message(compressed=2)), INTERNAL),
        (headers(1) + data(1, message()[:-1]), INTERNAL),
        (headers(1) + data(1, b"\0"), INTERNAL),
        (headers(1) + data(1, message() + b"x", ended=False), UNIMPLEMENTED),
        (headers(1) + data(1, message() + message()), UNIMPLEMENTED),
        (headers(1, ended=True), UNIMPLEMENTED),
        (headers(1, block("/t/Collect")) + data(1, message() + b"\0\0"), INTERNAL),
        (headers(1, block("/t/Collect")) + data(1, b"\1" + bytes(4), ended=False), UNIMPLEMENTED),
        (headers(1, block("/t/Echo", ("grpc-timeout", "1x"))), INTERNAL),
        (headers(1, block("/t/Echo", ("grpc-timeout", "123456789S"))), INTERNAL),
        (call(1, "/t/Refuse"), PERMISSION),
        (call(1, "/t/Break"), UNKNOWN),
        (call(1, "/t/Wrong"), UNKNOWN),
    ],
    ids=["unknown", "unknown-at-once", "compressed", "compressed-at-once", "bad-flag", "cut", "cut-prefix", "excess",
         "two", "none", "stream-cut", "stream-compressed", "timeout-unit", "timeout-digits", "refused", "raised", "no-bytes"],
)  # fmt: skip
async def test_a_call_that_fails_gets_its_status(peer: Peer, sent: bytes, status: int) -> None:
    peer.send(sent)
    assert statuses(await peer.until(HEADERS)) == {1: status}
    peer.send(call(101))
    assert statuses(peer.take()) == {101: 0}


async def test_what_a_handler_raises_is_reported_and_stays_here(peer: Peer, scripted: Scripted) -> None:
    peer.send(call(1, "/t/Break"))
    assert b"a secret" not in b"".join(each.payload for each in peer.take())
    assert [str(each) for each in scripted.reported] == ["a secret"]


async def test_a_refusal_tells_its_text_percent_encoded(peer: Peer) -> None:
    peer.send(call(1, "/t/Refuse"))
    assert b"n%C3%B6 100%25" in peer.take()[0].payload


@pytest.mark.parametrize(
    ("changed", "status", "body"),
    [
        ({"content_type": "application/json"}, b"415", b"Only application/grpc.\n"),
        ({"content_type": "application/grpcx"}, b"415", b"Only application/grpc.\n"),
        ({"content_type": None}, b"415", b"Only application/grpc.\n"),
        ({"method": "GET"}, b"405", b"Only POST.\n"),
        ({"method": "HEAD"}, b"405", None),
    ],
    ids=["json", "almost", "none", "get", "head"],
)
async def test_what_is_no_grpc_gets_an_http_status(
    peer: Peer, changed: dict[str, str | None], status: bytes, body: bytes | None
) -> None:
    peer.send(headers(1, block("/t/Echo", **changed)), data(1, b"anything", ended=False))
    assert peer.take() == []
    peer.send(data(1, b"more"))
    found = peer.take()
    assert b":status\x03" + status in found[0].payload
    assert answers(found).get(1) == body
    assert found[-1].flags & END_STREAM


@pytest.mark.parametrize(
    "kind",
    ["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8", "APPLICATION/GRPC"],
)
async def test_kinds_of_grpc(peer: Peer, kind: str) -> None:
    peer.send(headers(1, block(content_type=kind)), data(1, message()))
    assert statuses(peer.take()) == {1: 0}


@pytest.mark.parametrize("path", ["/t/Wait", "/t/Collect"])
@pytest.mark.parametrize("at_once", [True, False])
async def test_a_reset_cancels_the_handler(peer: Peer, scripted: Scripted, path: str, at_once: bool) -> None:
    """Also where it came in the same piece as the call: a handler that began always learns its end."""
    peer.send(_begin(path), *([reset(1)] if at_once else []))
    if not at_once:
        await asyncio.sleep(0)
        peer.send(reset(1))
    async with asyncio.timeout(20):
        while not scripted.cancelled:
            await asyncio.sleep(0)
    assert peer.take() == []
    assert scripted.reported == []


def _begin(path: str) -> bytes:
    return headers(1, block(path)) + data(1, message(), ended=path == "/t/Wait")


@pytest.mark.parametrize("path", ["/t/Wait", "/t/Collect"])
async def test_a_lost_connection_cancels_the_handler(peer: Peer, scripted: Scripted, path: str) -> None:
    peer.send(_begin(path))
    peer.lose()
    async with asyncio.timeout(20):
        while not scripted.cancelled:
            await asyncio.sleep(0)
    assert peer.take() == []


async def test_a_handler_that_is_cancelled_from_within_answers_so(peer: Peer, scripted: Scripted) -> None:
    peer.send(call(1, "/t/Wait"))
    scripted.waiting[0].cancel()
    assert statuses(await peer.until(HEADERS)) == {1: CANCELLED}


@pytest.mark.parametrize("path", ["/t/Wait", "/t/Collect", "/t/Echo"])
async def test_a_deadline_ends_a_call(peer: Peer, scripted: Scripted, path: str) -> None:
    ended = path == "/t/Wait"
    peer.send(
        headers(1, block(path, ("grpc-timeout", "1m"))),
        data(1, message()[: None if ended else 8], ended=ended),
    )
    found = await peer.until(HEADERS)
    assert statuses(found) == {1: DEADLINE}
    assert errors(found) == ([] if ended else [("stream", 1, 0)])
    if path != "/t/Echo":
        async with asyncio.timeout(20):
            while not scripted.cancelled:
                await asyncio.sleep(0)


async def test_a_stream_of_messages_comes_one_by_one(peer: Peer) -> None:
    sent = b"".join(message(each) for each in (b"a", b"", b"ccc"))
    peer.send(headers(1, block("/t/Collect")))
    for at in range(len(sent)):
        peer.send(data(1, sent[at : at + 1], ended=False))
        await asyncio.sleep(0)
    peer.send(data(1, b""))
    assert answers(await peer.until(DATA)) == {1: message(b"a||ccc")}


async def test_a_stream_may_be_answered_before_it_ends(peer: Peer) -> None:
    peer.send(headers(1, block("/t/Early")), data(1, message(b"x"), ended=False))
    found = await peer.until(RST_STREAM)
    assert answers(found) == {1: message(b"early x")}
    assert errors(found) == [("stream", 1, 0)]
    peer.send(data(1, message(b"y")), call(3))
    assert statuses(peer.take()) == {3: 0}


async def test_padding_is_no_part_of_a_message(peer: Peer) -> None:
    peer.send(headers(1), frame(DATA, PADDED | END_STREAM, 1, b"\x04" + message() + bytes(4)))
    assert answers(peer.take()) == {1: message()}


async def test_what_a_slow_stream_does_not_take_is_not_asked_for(scripted: Scripted) -> None:
    """The connection's window opens at once, the stream's only as its handler takes messages."""
    peer = Peer(scripted.lane(Limits(message_bytes=10_000)))
    peer.send(headers(1, block("/t/Collect")))
    peer.send(data(1, message(bytes(10_000)), ended=False))
    assert [each for each in peer.take() if each.kind == WINDOW_UPDATE and each.stream == 1] == []
    found = await peer.until(WINDOW_UPDATE)
    assert [(each.stream, int.from_bytes(each.payload, "big")) for each in found] == [(1, 10_005)]


async def test_a_caller_is_recognized_once_for_many_calls() -> None:
    asked: list[Caller] = []

    def recognize(caller: Caller) -> str:
        asked.append(caller)
        return dict(caller.metadata)["x-who"]

    lane = Lane({"/t/Who": Unary(lambda message, who: who.encode())}, recognize=recognize)
    peer = Peer(lane)
    for at, who in enumerate("aabab"):
        peer.send(headers(2 * at + 1, block("/t/Who", ("x-who", who))), data(2 * at + 1, message()))
    answers = [each.payload[5:] for each in peer.take() if each.kind == DATA]
    assert answers == [b"a", b"a", b"b", b"a", b"b"]
    assert [dict(caller.metadata)["x-who"] for caller in asked] == ["a", "b"]
