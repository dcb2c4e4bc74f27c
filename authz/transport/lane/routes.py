"""What the lane is given: for each path a handler, and what a handler is told of its caller."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from msgspec import Struct


class Caller(Struct, frozen=True):
    """Who calls. The same value for many calls: a handler may know it again."""

    metadata: tuple[tuple[str, str], ...]
    """Header fields in their order, bytes as Latin-1; those named `*-bin` in base64, as they came."""

    peer: Any
    """The connection's `peername`: host and port, or a path."""

    tls: Any
    """The connection's `ssl_object` (`ssl.SSLObject`), or None."""


class Unary(Struct, frozen=True):
    """One message in, one out.

    An awaitable is stepped at once, outside of a task: it must not ask for the current task (no
    `asyncio.timeout`) and leave no context variable set. Only what suspends becomes a task.
    """

    handler: Callable[[bytes, Any], bytes | Awaitable[bytes]]
    """The message; the `Caller`, or what the lane was told to make of it."""


class ClientStream(Struct, frozen=True):
    """Messages come one by one, one answer at the end. It runs as a task, cancelled when the caller goes."""

    handler: Callable[[AsyncIterator[bytes], Any], Awaitable[bytes]]
    """The messages; the `Caller`, or what the lane was told to make of it."""


Routes = Mapping[str, Unary | ClientStream]
"""By path: `/package.Service/Method`."""
