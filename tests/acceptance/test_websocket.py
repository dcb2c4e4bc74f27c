"""A WebSocket is decided once, at its handshake, and then left alone."""

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from authz.authenticate.key_format import mint
from tests.acceptance.lab import UPSTREAM, Way

SIZES = (
    0,
    1,
    125,
    126,
    4096,
    65_535,
    65_536,
    1_000_000,
)  # the borders of RFC 6455's length fields among them


def dial(way: Way, headers: dict[str, str]) -> connect:
    """Not websockets' threaded client: it reads and writes one TLS connection at once, which OpenSSL forbids."""
    return connect(
        f"wss://localhost:{way.port}/ws?room=1",
        ssl=way.lab.tls,
        additional_headers=headers,
        proxy=None,
        open_timeout=10,
    )


@pytest.mark.parametrize("scheme", ["authorization", "x-api-key"])
async def test_messages_of_every_size_go_both_ways(way: Way, scheme: str) -> None:
    key, before = way.lab.key().key, way.reasons()
    shown = f"Bearer {key}" if scheme == "authorization" else key
    async with dial(way, {scheme: shown, "X-Authz-User": "admin"}) as echo:
        for size in SIZES:
            for message in ("é" * (size // 2), bytes(range(256)) * (size // 256) + bytes(size % 256)):
                await echo.send(message)
                assert await echo.recv() == message
        many = [f"message {number}" for number in range(200)]
        for each in many:
            await echo.send(each)
        assert [await echo.recv() for _ in many] == many
    assert dict(way.reasons() - before) == {"allowed": 1}
    (received,) = way.lab.model.received()
    assert received.target == "/ws?room=1"
    assert key not in repr(received)
    assert "x-api-key" not in received.names
    assert received.header("authorization") == f"Bearer {UPSTREAM}"
    assert received.header("x-authz-user") == "alice"


async def test_two_are_open_at_once(way: Way) -> None:
    headers = {"Authorization": f"Bearer {way.lab.key().key}"}
    async with dial(way, headers) as one, dial(way, headers) as other:
        await one.send("to one")
        await other.send("to the other")
        assert (await other.recv(), await one.recv()) == ("to the other", "to one")


@pytest.mark.parametrize("credential", ["none", "unknown"])
async def test_a_handshake_without_a_key_is_refused(way: Way, credential: str) -> None:
    headers = {} if credential == "none" else {"Authorization": f"Bearer {mint().key}"}
    with pytest.raises(InvalidStatus) as refused:
        await dial(way, headers)
    response = refused.value.response
    assert response.status_code == 401
    assert response.headers["content-type"] == "application/json"
    assert b'"error"' in (response.body or b"")
    assert "upgrade" not in response.headers
    assert not way.lab.model.received()
