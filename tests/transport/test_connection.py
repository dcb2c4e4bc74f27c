"""An HTTP connection: what is answered at once, in turn, in pieces, late, or not at all."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from authz.transport.connection import HttpConnection
from authz.transport.exchange import Head
from authz.transport.protocol import LARGEST_HEAD
from authz.transport.reply import Reply
from tests.transport.wire import Wire

MOST = 1000


class Echo:
    """Answers with the method, the target and the body; suspends where a target says so."""

    def __init__(self) -> None:
        self.heads: list[Head] = []
        self.asked: list[str] = []
        self.late: dict[str, asyncio.Future[None]] = {}

    def open(self, head: Head) -> "Reply | Asked":
        self.heads.append(head)
        if head.target == "/broken":
            raise RuntimeError("a fault of ours")
        if head.target.startswith("/refused"):
            return Reply(403, [], b"refused")
        return Asked(self, head)

    def release(self, target: str) -> None:
        self.late[target].set_result(None)


class Asked:
    most = MOST

    def __init__(self, echo: Echo, head: Head) -> None:
        self._echo = echo
        self._head = head

    async def answer(self, body: bytes) -> Reply:
        target = self._head.target
        self._echo.asked.append(target)
        if target.startswith("/late"):
            self._echo.late[target] = asyncio.get_running_loop().create_future()
            await self._echo.late[target]
        if target.endswith("/fails"):
            raise ValueError("a fault of ours")
        if target.endswith("/forges"):
            return Reply(200, ["x-name: a\r\nx-authz-user: admin"])
        return Reply(200, ["x-name: zoë"], b"%s %s %b" % (self._head.method.encode(), target.encode(), body))

    def too_large(self) -> Reply:
        return Reply(413, [], b"too large")

    def fault(self, error: Exception) -> Reply:
        return Reply(503, [], type(error).__name__.encode())


def get(target: str, *fields: str, method: str = "GET", body: bytes = b"", version: str = "1.1") -> bytes:
    length = [f"Content-Length: {len(body)}"] if body else []
    return "\r\n".join([f"{method} {target} HTTP/{version}", *fields, *length, "", ""]).encode() + body


def chunked(target: str, *parts: bytes) -> list[bytes]:
    head = get(target, "Transfer-Encoding: chunked", method="POST")
    return [head, *(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)]


@pytest.fixture
async def echo() -> Echo:
    return Echo()


@pytest.fixture
async def wire(echo: Echo) -> Wire:
    return Wire(echo)


async def until(condition: Callable[[], bool]) -> None:
    """Until the loop has come round to it."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0)


async def test_what_does_not_suspend_is_answered_within_the_call(wire: Wire) -> None:
    wire.send(get("/a", method="POST", body=b"{}"))
    assert wire.written == (b"HTTP/1.1 200 OK\r\nx-name: zo\xc3\xab\r\ncontent-length: 10\r\n\r\nPOST /a {}")
    assert not wire.state.tasks
    assert not wire.transport.closed


async def test_a_head_in_single_bytes(wire: Wire, echo: Echo) -> None:
    for octet in get("/a?b=c", "X-Name: value"):
        assert wire.written == b""
        wire.send(bytes([octet]))
    assert b"GET /a?b=c" in wire.written
    assert (b"X-Name", b"value") in echo.heads[0].fields


@pytest.mark.parametrize("cut", [1, 7, 100])
async def test_a_body_in_pieces(wire: Wire, cut: int) -> None:
    body = bytes(range(256)) * 3
    asked = get("/a", method="POST", body=body)
    for start in range(0, len(asked), cut):
        wire.send(asked[start : start + cut])
    assert (await wire.answer()).endswith(b"POST /a " + body)


@pytest.mark.parametrize("parts", [[], [b"a"], [b"a", b"bc"], [b"x" * MOST], [b"x"] * MOST], ids=len)
async def test_a_chunked_body(wire: Wire, parts: list[bytes]) -> None:
    for piece in chunked("/a", *parts):
        wire.send(piece)
    assert wire.written == b""
    wire.send(b"0\r\n\r\n")
    assert (await wire.answer()).endswith(b"POST /a " + b"".join(parts))


async def test_a_body_that_is_too_large_is_refused_as_soon_as_it_is_and_then_skipped(
    wire: Wire, echo: Echo
) -> None:
    head, *parts = chunked("/a", b"x" * MOST, b"x")
    wire.send(head + parts[0])
    assert wire.written == b""
    wire.send(parts[1])
    assert (await wire.answer()).startswith(b"HTTP/1.1 413 ")
    wire.send(parts[1] * 100 + b"0\r\n\r\n" + get("/b"))
    assert (await wire.answer()).endswith(b"GET /b ")
    assert echo.asked == ["/b"]


async def test_a_refusal_does_not_wait_for_the_body(wire: Wire, echo: Echo) -> None:
    asked = get("/refused", method="POST", body=b"x" * 50_000)
    wire.send(asked[:200])
    assert (await wire.answer()).endswith(b"refused")
    wire.send(asked[200:] + get("/b"))
    assert (await wire.answer()).endswith(b"GET /b ")


async def test_what_suspends_is_answered_when_it_is_done(wire: Wire, echo: Echo) -> None:
    wire.send(get("/late", method="POST", body=b"{}"))
    assert (wire.written, len(wire.state.tasks)) == (b"", 1)
    assert wire.transport.reading, "else nobody sees the peer leave"
    await asyncio.sleep(0)
    echo.release("/late")
    assert (await wire.answer()).endswith(b"POST /late {}")
    await until(lambda: not wire.state.tasks)


async def test_answers_leave_in_the_order_of_the_requests(wire: Wire, echo: Echo) -> None:
    wire.send(get("/late/1") + get("/2") + get("/refused/3") + get("/late/4") + get("/5")[:9])
    assert (wire.written, wire.transport.reading) == (b"", False)
    assert echo.asked == ["/late/1"], "one after the other"
    await asyncio.sleep(0)
    echo.release("/late/1")
    ends = [(await wire.answer())[-7:] for _ in range(3)]
    assert ends == [b"late/1 ", b"GET /2 ", b"refused"]
    await until(lambda: "/late/4" in echo.late)
    assert wire.transport.reading, "only the beginning of a request waits"
    wire.send(get("/5")[9:])
    echo.release("/late/4")
    assert [(await wire.answer())[-3:] for _ in range(2)] == [b"/4 ", b"/5 "]
    assert wire.transport.reading


async def test_a_refusal_waits_for_its_turn(wire: Wire, echo: Echo) -> None:
    wire.send(get("/late") + b"\x16\x03\x01 no HTTP at all\r\n\r\n" + get("/c"))
    assert wire.written == b""
    await asyncio.sleep(0)
    echo.release("/late")
    assert b" 200 " in await wire.answer()
    assert b" 400 " in await wire.answer()
    assert wire.transport.closed
    assert echo.asked == ["/late"]


async def test_a_peer_that_does_not_read_is_not_read(wire: Wire, echo: Echo) -> None:
    wire.protocol.pause_writing()
    wire.send(get("/a") + get("/b"))
    assert (wire.written, wire.transport.reading, echo.asked) == (b"", False, [])
    wire.protocol.resume_writing()
    assert [(await wire.answer())[-3:] for _ in range(2)] == [b"/a ", b"/b "]
    assert wire.transport.reading


async def test_a_peer_that_leaves_in_the_middle_is_not_judged(wire: Wire, echo: Echo) -> None:
    wire.send(get("/a", method="POST", body=b"{}")[:-1])
    wire.transport.close()
    await asyncio.sleep(0)
    assert (wire.written, echo.asked) == (b"", [])
    assert not wire.state.connections


async def test_nothing_is_said_to_a_peer_that_left_while_we_decided(wire: Wire, echo: Echo) -> None:
    wire.send(get("/late") + get("/b"))
    await asyncio.sleep(0)
    wire.transport.close()
    await asyncio.sleep(0)
    echo.release("/late")
    await until(lambda: not wire.state.tasks)
    assert (wire.written, echo.asked) == (b"", ["/late"])


async def test_what_is_given_up_ends_the_connection(wire: Wire) -> None:
    wire.send(get("/late"))
    await asyncio.sleep(0)
    for task in wire.state.tasks:
        task.cancel()
    await until(lambda: wire.transport.closed)
    assert wire.written == b""


@pytest.mark.parametrize(
    ("target", "error"),
    [
        ("/fails", b"ValueError"),
        ("/forges", b"Unsendable"),
        ("/late/fails", b"ValueError"),
        ("/late/forges", b"Unsendable"),
    ],
    ids=["fails", "attack-32-forges", "fails late", "attack-32-forges late"],
)
async def test_a_fault_is_an_answer(wire: Wire, echo: Echo, target: str, error: bytes) -> None:
    wire.send(get(target))
    await asyncio.sleep(0)
    if target in echo.late:
        echo.release(target)
    answer = await wire.answer()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert answer.endswith(error)
    wire.send(get("/b"))
    assert (await wire.answer()).endswith(b"GET /b ")


async def test_a_fault_before_anybody_is_known_is_one_too(wire: Wire) -> None:
    wire.send(get("/broken") + get("/b"))
    answer = await wire.answer()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b'"code":"authz_unavailable"' in answer
    assert wire.transport.closed
    assert wire.written == b""


@pytest.mark.parametrize(
    ("asked", "ends"),
    [
        (get("/a"), False),
        (get("/a", "Connection: keep-alive"), False),
        (get("/a", "Connection: close"), True),
        (get("/a", version="1.0"), True),
        (get("/a", "Connection: keep-alive", version="1.0"), True),
        (get("/late", "Connection: close"), True),
    ],
    ids=["1.1", "1.1 keep-alive", "1.1 close", "1.0", "1.0 keep-alive", "late"],
)
async def test_who_ends_the_connection(wire: Wire, echo: Echo, asked: bytes, ends: bool) -> None:
    wire.send(asked)
    wire.send(get("/b"))
    await asyncio.sleep(0)
    if echo.late:
        echo.release("/late")
    assert (b"\r\nconnection: close\r\n" in await wire.answer()) is ends
    assert wire.transport.closed is ends
    assert ("/b" in echo.asked) is not ends


async def test_to_head_goes_no_body(wire: Wire) -> None:
    wire.send(get("/a", method="HEAD") + get("/b"))
    answer = await wire.answer(bare=True)
    assert answer.endswith(b"\r\ncontent-length: 8\r\n\r\n")
    assert (await wire.answer()).endswith(b"GET /b ")


EXPECTING = get("/a", "Expect: 100-Continue", method="POST", body=b"{}")


async def test_a_body_is_asked_for_once_where_its_sender_waits(wire: Wire) -> None:
    wire.send(EXPECTING[:-2])
    assert wire.written == b"HTTP/1.1 100 Continue\r\n\r\n"
    wire.send(b"{")
    assert wire.written == b"HTTP/1.1 100 Continue\r\n\r\n"
    wire.send(b"}")
    assert wire.written.endswith(b"POST /a {}")


@pytest.mark.parametrize(
    "asked",
    [EXPECTING, get("/a", "Expect: 100-continue"), EXPECTING.replace(b"/a", b"/refused")[:-2]],
    ids=["there already", "none", "not wanted"],
)
async def test_a_body_that_is_not_missing_is_not_asked_for(wire: Wire, asked: bytes) -> None:
    wire.send(asked)
    assert b" 100 " not in wire.written
    assert wire.written


async def test_a_body_is_asked_for_in_its_turn(wire: Wire, echo: Echo) -> None:
    wire.send(get("/late") + EXPECTING[:-2])
    assert wire.written == b""
    await asyncio.sleep(0)
    echo.release("/late")
    assert (await wire.answer()).endswith(b"/late ")
    await until(lambda: wire.written == b"HTTP/1.1 100 Continue\r\n\r\n")


async def test_trailers_are_no_headers(wire: Wire, echo: Echo) -> None:
    head, part = chunked("/a", b"{}")
    wire.send(head + part + b"0\r\nX-Authz-Gateway-Token: smuggled\r\n\r\n")
    assert (await wire.answer()).endswith(b"{}")
    assert [name for name, _ in echo.heads[0].fields] == [b"Transfer-Encoding"]


@pytest.mark.parametrize(
    "beginning",
    [b"GET /", b"GET / HTTP/1.1\r\nX-Long: ", b"".join(chunked("/a", b"x")) + b"0\r\nX-Long: ",
     b"".join(chunked("/refused", b"x")) + b"0\r\nX-Long: ", chunked("/a")[0] + b"1;x="],
    ids=["the line", "a header", "a trailer", "a trailer of what is refused", "a chunk's extension"],
)  # fmt: skip
async def test_what_brings_nothing_does_not_go_on_for_ever(wire: Wire, beginning: bytes) -> None:
    wire.send(beginning)
    for _ in range(LARGEST_HEAD // 4096 + 1):
        wire.send(b"a" * 4096)
    assert b"HTTP/1.1 431 " in wire.written, "attack 110"
    assert wire.transport.closed


async def test_requests_that_end_amid_a_read_are_not_taken_for_one_head(wire: Wire, echo: Echo) -> None:
    one = get("/a", f"X-Padding: {'p' * 4000}")
    for _ in range(2 * LARGEST_HEAD // len(one)):
        wire.send(one[2000:] if echo.asked else one)
        wire.send(one[:2000])
    assert b" 431 " not in wire.written


async def test_the_answers_of_a_draining_server_are_the_last(echo: Echo) -> None:
    wire = Wire(echo, draining=True)
    wire.send(get("/late") + get("/b"))
    await asyncio.sleep(0)
    echo.release("/late")
    answers = [await wire.answer(), await wire.answer()]
    assert [b"\r\nconnection: close\r\n" in each for each in answers] == [False, True], (
        "what was asked before"
    )
    assert wire.transport.closed


async def test_a_connection_that_waits_for_nothing_is_shut_down_at_once(wire: Wire) -> None:
    wire.send(get("/a"))
    wire.protocol.shutdown()
    assert wire.transport.closed


@pytest.mark.parametrize(
    "asked",
    [get("/late"), get("/a")[:-1], get("/a", method="POST", body=b"{}")[:-1]],
    ids=["a decision", "a head", "a body"],
)
async def test_a_connection_is_shut_down_after_what_is_under_way(
    wire: Wire, echo: Echo, asked: bytes
) -> None:
    wire.send(get("/first"))
    await wire.answer()
    wire.send(asked)
    await asyncio.sleep(0)
    wire.protocol.shutdown()
    assert not wire.transport.closed
    if echo.late:
        echo.release("/late")
    else:
        wire.send(b"}" if b"POST" in asked else b"\n")
    assert b"\r\nconnection: close\r\n" in await wire.answer()
    assert wire.transport.closed


class _Clock:
    """A loop's clock that stands, and its timers."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[tuple[float, Callable[..., Any]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, call: Callable[..., Any]) -> asyncio.TimerHandle:
        self.timers.append((when, call))
        return asyncio.get_running_loop().call_later(0, lambda: None)

    def call_later(self, delay: float, call: Callable[..., Any]) -> asyncio.TimerHandle:
        return self.call_at(self.now + delay, call)

    def run_next(self) -> None:
        when, call = self.timers.pop(0)
        self.now = max(self.now, when)
        call()


async def test_an_idle_connection_is_closed_and_no_other(echo: Echo) -> None:
    clock = _Clock()
    wire = Wire(echo, keep_alive=60)
    protocol = HttpConnection(wire.config, wire.state, {}, _loop=clock)  # type: ignore[arg-type]
    wire.protocol = protocol
    protocol.connection_made(wire.transport)  # type: ignore[arg-type]
    clock.now += 59
    wire.send(get("/a"))
    clock.run_next()
    assert not wire.transport.closed
    assert clock.timers[0][0] == 1000 + 59 + 60
    clock.run_next()
    assert wire.transport.closed


async def test_a_new_connection_has_a_moment_to_ask_before_it_is_shut_down(echo: Echo) -> None:
    clock = _Clock()
    for asks in (False, True):
        wire = Wire(echo)
        wire.protocol = HttpConnection(wire.config, wire.state, {}, _loop=clock)  # type: ignore[arg-type]
        wire.protocol.connection_made(wire.transport)  # type: ignore[arg-type]
        wire.protocol.shutdown()
        assert not wire.transport.closed
        if asks:
            wire.send(get("/a"))
            assert b"\r\nconnection: close\r\n" in await wire.answer()
        clock.timers.pop()[1]()
        assert wire.transport.closed
