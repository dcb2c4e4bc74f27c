"""Fetching over real sockets: what a hostile or broken key server may do (attacks 59, 60)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from authz.authenticate.jwks_fetch import LARGEST_DOCUMENT, FetchFailed, HttpFetcher, _judge_peer
from authz.authenticate.jwt import JwtAuthenticator
from authz.subject import Subject
from tests.authenticate.fakes import (
    Clock,
    MemoryDirectory,
    bearer,
    claims,
    dumps,
    jwk,
    key_set,
    settings,
    sign,
)

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(handler: Handler) -> AsyncIterator[str]:
    """A listening socket on a free port; its base URL. Everything it opened is closed behind it."""
    handling: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await handler(reader, writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handling.add(asyncio.ensure_future(handle(reader, writer)))

    running = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{running.sockets[0].getsockname()[1]}"
    finally:
        running.close()
        await asyncio.gather(*handling)


def answering(head: str, body: bytes = b"", *, seen: list[str] | None = None) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        if seen is not None:
            seen.append(asked.decode())
        writer.write(f"HTTP/1.1 {head}\r\nconnection: close\r\n\r\n".encode() + body)
        await writer.drain()

    return handle


async def fetch(handler: Handler, *, longest: float = 5) -> bytes:
    fetcher = HttpFetcher(longest=longest)
    try:
        async with server(handler) as url:
            return await fetcher.get(url + "/keys")
    finally:
        await fetcher.close()


async def test_a_document() -> None:
    seen: list[str] = []
    assert await fetch(answering("200 OK\r\ncontent-length: 2", b"{}", seen=seen)) == b"{}"
    assert seen[0].startswith("GET /keys HTTP/1.1\r\n")
    assert "accept-encoding: identity" in seen[0].lower()


@pytest.mark.parametrize(
    ("head", "body", "why"),
    [
        ("302 Found\r\nlocation: http://127.0.0.1:1/", b"", "status 302; redirects are not followed"),
        ("301 Moved\r\nlocation: file:///etc/passwd", b"", "status 301"),
        ("404 Not Found", b"{}", "status 404"),
        ("500 Oops", b"", "status 500"),
        ("204 No Content", b"", "status 204"),
        ("200 OK\r\ncontent-encoding: gzip", b"\x1f\x8b", "compressed"),
        ("200 OK", b"x" * (LARGEST_DOCUMENT + 1), "larger than 262144 bytes"),
        ("200 OK\r\ncontent-length: 100000000", b"x" * (LARGEST_DOCUMENT * 2), "larger than 262144 bytes"),
        ("200 OK\r\ncontent-length: 10", b"x", "RemoteProtocolError"),
        ("not http", b"", "RemoteProtocolError"),
    ],
)
async def test_59_and_60_answers_that_are_refused(head: str, body: bytes, why: str) -> None:
    with pytest.raises(FetchFailed, match=why):
        await fetch(answering(head, body))


async def test_the_largest_document_is_taken() -> None:
    assert len(await fetch(answering("200 OK", b"x" * LARGEST_DOCUMENT))) == LARGEST_DOCUMENT


async def test_an_answer_that_never_ends() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    with pytest.raises(FetchFailed, match=r"no whole answer within 0.1 s"):
        await fetch(drip, longest=0.1)


async def test_nobody_listens() -> None:
    fetcher = HttpFetcher()
    async with server(answering("200 OK")) as url:
        pass
    with pytest.raises(FetchFailed, match="ConnectError"):
        await fetcher.get(url)
    await fetcher.close()


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "fe80::1", "fe80::1%eth0", "::ffff:169.254.1.1", "224.0.0.1"]
)
async def test_59_a_name_that_leads_to_a_link_local_address(address: str) -> None:
    """Judged by the connected peer, before anything is sent."""

    class Stream:
        closed = False

        async def aclose(self) -> None:
            self.closed = True

        def get_extra_info(self, name: str) -> tuple[str, int]:
            assert name == "server_addr"
            return address, 443

    stream = Stream()
    with pytest.raises(FetchFailed, match="link-local"):
        await _judge_peer("connection.connect_tcp.complete", {"return_value": stream})
    assert stream.closed


async def test_59_the_peer_is_looked_at_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr("authz.authenticate.jwks_fetch.is_forbidden", lambda host: host == "127.0.0.1")
    with pytest.raises(FetchFailed, match="link-local"):
        await fetch(answering("200 OK\r\ncontent-length: 2", b"{}", seen=seen))
    assert seen == []


async def test_the_whole_way_from_discovery_to_a_subject() -> None:
    base = ""

    async def provider(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        body = {
            "/realm/.well-known/openid-configuration": dumps(
                {"issuer": f"{base}/realm", "jwks_uri": f"{base}/keys"}
            ),
            "/keys": key_set(jwk("p256", "a")),
        }[path]
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()

    async with server(provider) as url:
        base = url
        made = settings(
            algorithms=frozenset({"ES256"}), discovery=f"{base}/realm", issuers=frozenset({f"{base}/realm"})
        )
        sso = JwtAuthenticator(made, MemoryDirectory(), Clock())
        sso.start()
        token = sign(claims(iss=f"{base}/realm"), alg="ES256", key="p256", kid="a")
        outcome = await sso.authenticate(bearer(token))
        await sso.close()
    assert isinstance(outcome, Subject), outcome
    assert outcome.user == "sso:alice"
