"""The little of ASGI that we use, raw: no framework object is made for a decision.

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

RAW_TARGET = "authz.target"  # scope key: the request target as it was on the wire (bytes)
CERTIFICATE = "authz.certificate"  # scope key: the peer's verified certificate, if it showed one


def peer_of(scope: Scope) -> str:
    """The peer's address. Only a socket without ports is a unix socket; a TCP peer that left is nobody."""
    client = scope.get("client")
    if client is not None:
        return str(client[0])
    server = scope.get("server")
    return UNIX if server is not None and server[1] is None else UNKNOWN


class TooLarge(Exception):
    """The body exceeds what we read."""


class Gone(Exception):
    """The peer went away while it was sending."""


async def respond(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes = b"") -> None:
    """One whole response. `headers` hold its content-length."""
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def respond_json(send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    """A JSON response."""
    length = (b"content-length", str(len(body)).encode("ascii"))
    await respond(send, status, [(b"content-type", b"application/json"), length, *headers], body)


async def read_body(receive: Receive, declared: str | None, most: int) -> bytes:
    """The whole body, at most `most` bytes. Raises TooLarge before it reads more than that, or Gone."""
    if declared is not None and declared.isdigit() and int(declared[:19]) > most:
        raise TooLarge
    message = await receive()
    if message["type"] != "http.request":
        raise Gone
    first: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        if len(first) > most:
            raise TooLarge
        return first
    parts, size = [first], len(first)
    while size <= most:
        message = await receive()
        if message["type"] != "http.request":
            raise Gone
        part: bytes = message.get("body", b"")
        parts.append(part)
        size += len(part)
        if not message.get("more_body", False):
            if size > most:
                break
            return b"".join(parts)
    raise TooLarge
