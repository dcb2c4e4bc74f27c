"""The little of ASGI that we use, raw.

https://asgi.readthedocs.io/en/latest/specs/www.html
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from authz.transport.address import UNIX, UNKNOWN

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def peer_of(scope: Scope) -> str:
    """The peer's address. Only a socket without ports is a unix socket; a TCP peer that left is nobody."""
    client = scope.get("client")
    if client is not None:
        return str(client[0])
    server = scope.get("server")
    return UNIX if server is not None and server[1] is None else UNKNOWN


async def respond(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes = b"") -> None:
    """One whole response. `headers` hold its content-length."""
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def respond_json(send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    """A JSON response."""
    length = (b"content-length", str(len(body)).encode("ascii"))
    await respond(send, status, [(b"content-type", b"application/json"), length, *headers], body)
