"""The HTTP server on a real socket: framing, limits, upgrades, stopping."""

import asyncio
import gc
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from authz.request import BodyState
from authz.transport.connection import HttpConnection
from authz.transport.listen import AddressInUse, CannotListen, bind, parse_listen, refuse_new
from authz.transport.protocol import LARGEST_HEAD
from authz.transport.serve import HttpServer, start_http
from tests.transport.support import FakeService, http_app, limited

HEAD = (
    b"Host: authz\r\nX-Forwarded-Method: POST\r\nX-Forwarded-Uri: /v1/x\r\nX-Forwarded-Host: llm.test\r\n"
    b"X-Authz-Gateway-Token: token-of-traefik\r\n"
)


@pytest.fixture
async def service() -> FakeService:
    return FakeService()


@pytest.fixture
async def server(service: FakeService) -> AsyncIterator[HttpServer]:
    started = await start_http(http_app(service, max_body=100_000), "127.0.0.1:0")
    yield started
    await started.stop()


async def talk(
    server: HttpServer, *pieces: bytes, answers: int = 1
) -> list[tuple[int, dict[str, str], bytes]]:
    """Send the pieces on one connection and read that many answers."""
    reader, writer = await asyncio.open_connection(server.address.host, server.address.port)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0)
    read = []
    for _ in range(answers):
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)).decode("latin-1")
        status, *fields = head.strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        read.append((int(status.split()[1]), headers, body))
    writer.close()
    return read


def post(body: bytes = b"", path: str = "/auth/traefik", more: bytes = b"") -> bytes:
    length = b"Content-Length: %d\r\n" % len(body) if body else b""
    return b"POST %s HTTP/1.1\r\n%s%s%s\r\n%s" % (path.encode(), HEAD, length, more, body)


async def test_a_client_library_gets_its_answer(server: HttpServer, service: FakeService) -> None:
    service.answer = limited()
    headers = {"x-forwarded-method": "POST", "x-forwarded-uri": "/v1/x", "x-forwarded-host": "llm.test"}
    headers["x-authz-gateway-token"] = "token-of-caddy"
    async with httpx2.AsyncClient() as client:
        answer = await client.post(f"http://{server.address}/auth/caddy", headers=headers, content=b"{}")
        health = await client.get(f"http://{server.address}/readyz")
    assert answer.status_code == 429
    assert answer.content == limited().body
    assert answer.headers["retry-after-ms"] == "1500"
    assert "server" not in answer.headers
    assert health.json() == {"status": "ready", "config": "abc123", "version": "1.2.3", "store": "ok"}


async def test_one_connection_serves_many_requests(server: HttpServer, service: FakeService) -> None:
    pipelined = post(b"{}") + post() + post(b"x" * 10)
    answers = await talk(server, pipelined, answers=3)
    assert [status for status, _, _ in answers] == [200, 200, 200]
    assert [request.body for request in service.asked] == [b"{}", b"", b"x" * 10]


async def test_many_requests_on_one_connection_are_not_taken_for_one_head(server: HttpServer) -> None:
    one = post(more=b"X-Padding: %s\r\n" % (b"p" * 4000))
    count = LARGEST_HEAD // len(one) + 10
    reader, writer = await asyncio.open_connection(server.address.host, server.address.port)
    for _ in range(count):
        writer.write(one)
        assert b" 200 " in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    writer.close()


async def test_a_body_in_pieces(server: HttpServer, service: FakeService) -> None:
    chunked = b"POST /auth/traefik HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    answers = await talk(server, chunked, b'3\r\n{"a\r\n', b'4\r\n":1}\r\n', b"0\r\n\r\n")
    assert answers[0][0] == 200
    assert service.last.body == b'{"a":1}'
    assert service.last.body_state is BodyState.WHOLE


async def test_a_large_body_is_refused_before_it_is_sent(server: HttpServer, service: FakeService) -> None:
    [(status, _, body)] = await talk(
        server, b"POST /auth/traefik HTTP/1.1\r\n" + HEAD + b"Content-Length: 999999999999\r\n\r\n"
    )
    assert (status, json.loads(body)["error"]["code"]) == (413, "request_too_large"), "attack 92"
    assert service.asked == []


async def test_a_large_body_is_refused_while_it_comes_and_the_rest_discarded(
    server: HttpServer, service: FakeService
) -> None:
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    head = b"POST /auth/traefik HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    answers = await talk(server, head, *[chunk] * 8, b"0\r\n\r\n", post(b"{}"), answers=2)
    assert [status for status, _, _ in answers] == [413, 200]
    assert [request.body for request in service.asked] == [b"{}"]


async def test_a_refused_stranger_is_not_read(server: HttpServer, service: FakeService) -> None:
    wrong = HEAD.replace(b"token-of-traefik", b"wrong")
    answers = await talk(
        server, b"POST /auth/traefik HTTP/1.1\r\n" + wrong + b"Content-Length: 90000\r\n\r\n"
    )
    assert answers[0][0] == 403
    assert service.asked == []


async def test_upgrades_are_answered_like_anything_else(server: HttpServer, service: FakeService) -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    for path in ("/auth/traefik", "/auth/envoy/ws"):
        token = HEAD.replace(b"traefik", path.split("/")[2].encode())
        get = b"GET %s HTTP/1.1\r\n%s%s\r\n" % (path.encode(), token, upgrade)
        assert [status for status, _, _ in await talk(server, get)] == [200]
    assert service.last.target == "/ws"
    assert "upgrade" not in service.last.headers


async def test_a_connection_lives_on_after_an_upgrade_was_answered(server: HttpServer) -> None:
    upgrade = post(more=b"Connection: Upgrade\r\nUpgrade: websocket\r\n")
    reader, writer = await asyncio.open_connection(server.address.host, server.address.port)
    for request in (upgrade, post(b"{}"), upgrade):
        writer.write(request)
        assert b" 200 " in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    writer.close()


async def test_expect_continue(server: HttpServer, service: FakeService) -> None:
    reader, writer = await asyncio.open_connection(server.address.host, server.address.port)
    writer.write(
        b"POST /auth/traefik HTTP/1.1\r\n" + HEAD + b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    )
    assert b" 100 " in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    writer.write(b"{}")
    assert b" 200 " in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    assert service.last.body == b"{}"
    writer.close()


async def test_a_head_request_gets_no_body(server: HttpServer, service: FakeService) -> None:
    service.answer = limited()
    reader, writer = await asyncio.open_connection(server.address.host, server.address.port)
    request = b"HEAD /auth/traefik HTTP/1.1\r\n" + HEAD + b"Connection: close\r\n\r\n"
    writer.write(request)
    raw = await asyncio.wait_for(reader.read(), 30)
    assert raw.startswith(b"HTTP/1.1 429 ")
    assert raw.endswith(b"\r\n\r\n")
    writer.close()


MALFORMED = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"POST /auth/traefik HTTP/1.1\r\n" + HEAD + b"X-A: a\x00b\r\n\r\n",
    b"POST /auth/traefik HTTP/1.1\r\n" + HEAD + b"X-A : b\r\n\r\n",
    b"POST /auth/traefik HTTP/1.1\r\n" + HEAD + b"X-A: a\r\n folded\r\n\r\n",
    b"POST /auth/traefik HTTP/1.1\r\n" + HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    b"POST /auth/traefik HTTP/1.1\r\n"
    + HEAD
    + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /auth/traefik HTTP/1.1\r\n" + HEAD + b"Content-Length: -1\r\n\r\n",
    b"POST /auth/traefik HTTP/9.9\r\n\r\n",
    b"G\xc3\x89T / HTTP/1.1\r\n\r\n",
]


@pytest.mark.parametrize("raw", MALFORMED, ids=[f"attack-39-96-{n}" for n in range(len(MALFORMED))])
async def test_malformed_http_is_refused_in_json(
    server: HttpServer, service: FakeService, raw: bytes
) -> None:
    [(status, headers, body)] = await talk(server, raw)
    assert status == 400
    assert headers["content-type"] == "application/json"
    assert json.loads(body)["error"]["code"] == "invalid_header"
    assert service.asked == []


@pytest.mark.parametrize("name", [b"X-Long: ", b""], ids=["attack-110-one-header", "attack-110-the-line"])
async def test_an_endless_head_is_cut_off(server: HttpServer, name: bytes) -> None:
    start = b"POST /auth/traefik HTTP/1.1\r\n" + HEAD + name if name else b"POST /auth/"
    piece = b"a" * 65536
    [(status, _, body)] = await talk(server, start, *[piece] * (LARGEST_HEAD // len(piece)))
    assert status == 431
    json.loads(body)


async def test_the_target_is_taken_from_the_wire(server: HttpServer, service: FakeService) -> None:
    for target in ("//admin", "/pub/../admin", "/%2e%2E/x", "/x?", "/x?a=%zz&b=\xe9", "/a;b?c#d"):
        service.asked.clear()
        line = f"POST /auth/envoy{target} HTTP/1.1\r\n".encode("latin-1")
        [(status, _, _)] = await talk(server, line + HEAD.replace(b"traefik", b"envoy") + b"\r\n")
        assert status == 400 or service.last.target == target


async def test_an_absolute_target_is_not_found(server: HttpServer, service: FakeService) -> None:
    [(status, _, _)] = await talk(server, b"POST http://evil/auth/envoy/x HTTP/1.1\r\n" + HEAD + b"\r\n")
    assert status == 404
    assert service.asked == []


async def test_a_taken_port_is_said_so(server: HttpServer) -> None:
    with pytest.raises(AddressInUse, match=rf"{server.address} is in use .* choose another address"):
        await start_http(http_app(FakeService()), str(server.address))


@pytest.mark.parametrize("address", ["203.0.113.1:0", "unix:/nonexistent/x.sock", "unix:/" + "x" * 200])
async def test_an_impossible_address_is_said_so(address: str) -> None:
    with pytest.raises(CannotListen):
        await start_http(http_app(FakeService()), address)


@pytest.mark.parametrize(
    "text", ["", "9000", ":9000", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000", "::1:9000", "unix:"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="is not an address"):
        parse_listen(text)


@pytest.mark.parametrize("text", ["127.0.0.1:9000", "[::1]:9000", "unix:/run/authz.sock", "localhost:0"])
def test_addresses_are_spelled_as_they_are_read(text: str) -> None:
    assert str(parse_listen(text)) == text


async def test_a_unix_socket(service: FakeService, tmp_path: Path) -> None:
    path = tmp_path / "authz.sock"
    for _ in range(2):  # the second start finds the first one's leavings
        server = await start_http(http_app(service), f"unix:{path}")
        with pytest.raises(AddressInUse):
            await start_http(http_app(service), f"unix:{path}")
        reader, writer = await asyncio.open_unix_connection(str(path))
        unproven = HEAD.replace(b"X-Authz-Gateway-Token: token-of-traefik\r\n", b"")
        writer.write(b"GET /auth/traefik HTTP/1.1\r\n" + unproven + b"\r\n")
        assert b" 200 " in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
        assert service.last.gateway.proven is False
        writer.close()
        await server.stop()


async def test_a_file_is_never_removed_for_a_socket(tmp_path: Path) -> None:
    path = tmp_path / "important"
    path.write_text("data")
    with pytest.raises(AddressInUse):
        await start_http(http_app(FakeService()), f"unix:{path}")
    assert path.read_text() == "data"


async def test_stopping_finishes_what_is_under_way_and_frees_the_port(service: FakeService) -> None:
    waiting = asyncio.get_running_loop().create_future()

    async def decide(_request: object) -> object:
        await waiting
        return limited()

    service.answer = decide  # type: ignore[assignment]
    server = await start_http(http_app(service), "127.0.0.1:0")
    asked = asyncio.ensure_future(talk(server, post()))
    idle = await asyncio.open_connection(server.address.host, server.address.port)
    while not service.asked:
        await asyncio.sleep(0.01)
    started = asyncio.get_running_loop().time()
    stopping = asyncio.ensure_future(server.stop())
    await asyncio.sleep(0.2)
    waiting.set_result(None)
    assert (await asked)[0][0] == 429
    await stopping
    assert asyncio.get_running_loop().time() - started < 2
    idle[1].close()
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind((server.address.host, server.address.port))


async def test_stopping_does_not_wait_for_ever(service: FakeService) -> None:
    async def decide(_request: object) -> object:
        await asyncio.get_running_loop().create_future()
        return limited()

    service.answer = decide  # type: ignore[assignment]
    server = await start_http(http_app(service), "127.0.0.1:0")
    _, writer = await asyncio.open_connection(server.address.host, server.address.port)
    writer.write(post())
    while not service.asked:
        await asyncio.sleep(0.01)
    await asyncio.wait_for(server.stop(), 20)
    writer.close()


@pytest.mark.parametrize("shared", [False, True], ids=["alone", "shared"])
def test_refusing_new_connections_keeps_those_that_wait(shared: bool) -> None:
    with bind(parse_listen("127.0.0.1:0"), shared=shared) as bound:
        address = bound.getsockname()[:2]
        with socket.create_connection(address) as early:
            refuse_new(bound)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address)
            early.sendall(b"question")
            accepted, _ = bound.accept()
            with accepted:
                accepted.setblocking(True)
                assert accepted.recv(100) == b"question"
                accepted.sendall(b"answer")
            assert early.recv(100) == b"answer"
            refuse_new(bound)  # twice is as good as once


async def test_a_stopping_server_answers_whoever_was_connected_and_refuses_the_others(
    server: HttpServer, service: FakeService
) -> None:
    """A connection that waits to be accepted would be reset when the server closes, its question unheard."""
    address = (server.address.host, server.address.port)
    early = socket.create_connection(address)  # nobody accepts it: that is our own loop
    stopping = asyncio.ensure_future(server.stop())
    await asyncio.sleep(0)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    assert not service.asked
    reader, writer = await asyncio.open_connection(sock=early)
    writer.write(post())
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in head
    writer.close()
    await stopping


async def test_a_draining_server_answers_and_has_the_connection_left(server: HttpServer) -> None:
    reader, writer = await asyncio.open_connection(server.address.host, server.address.port)
    for draining in (False, True):
        if draining:
            server.drain()
        writer.write(post())
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)).decode("latin-1").lower()
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
        await reader.readexactly(length)
        assert ("connection: close" in head) is draining
    assert await asyncio.wait_for(reader.read(), 30) == b""
    writer.close()


async def test_a_connection_that_is_closed_leaves_no_work_for_the_collector(server: HttpServer) -> None:
    gc.collect()
    gc.disable()
    try:
        await talk(server, post(b"{}"))
        async with asyncio.timeout(30):
            while any(type(each) is HttpConnection for each in gc.get_objects()):
                await asyncio.sleep(0.01)
    finally:
        gc.enable()
