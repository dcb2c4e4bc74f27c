"""A new connection: TCP, TLS, who we are, and what the server should know."""

import asyncio
import ssl
from collections.abc import Iterable
from typing import Any, NamedTuple

from authz.store.protocols import StoreUnavailable
from authz.store.redis.batch import Call, pack
from authz.store.redis.link import Script, Word
from authz.store.redis.node_wire import Listener, Wire
from authz.store.redis.target import CLUSTER, Address, Target, shown

CONNECT_SECONDS = 1.0
"""Until it is given up and tried anew."""


class Connected(NamedTuple):
    wire: Wire
    version: tuple[int, ...]  # of Redis, or of the Redis that it says it is; () where it does not tell


def ask(wire: Wire, *commands: tuple[Word, ...]) -> list[asyncio.Future[Any]]:
    """Their replies, in one write. An error reply raises StoreUnavailable."""
    loop = asyncio.get_running_loop()
    calls = [Call(loop.create_future(), words) for words in commands]
    wire.write(calls, b"".join(pack(words) for words in commands))
    return [call.future for call in calls if call.future is not None]


async def connect(
    target: Target, address: Address, listener: Listener, scripts: Iterable[Script] = ()
) -> Connected:
    """Raises StoreUnavailable, which says what to do."""
    where = shown(address)
    wire: Wire | None = None
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            context = target.context()
            loop = asyncio.get_running_loop()
            _, wire = await loop.create_connection(
                lambda: Wire(listener),
                *address,
                ssl=context,
                server_hostname=address[0] if context else None,
            )
            return Connected(wire, await _greet(wire, target, where, scripts))
    except BaseException as error:
        if wire is not None:
            wire.abort()
        if isinstance(error, StoreUnavailable) or not isinstance(error, Exception):
            raise
        raise StoreUnavailable(f"cannot reach Redis at {where}: {_why(error)}") from None


async def _greet(wire: Wire, target: Target, where: str, scripts: Iterable[Script]) -> tuple[int, ...]:
    password = target.password
    must: list[tuple[Word, ...]] = []
    if password or target.user:
        must.append(("AUTH", target.user, password) if target.user else ("AUTH", password))
    if target.db:
        must.append(("SELECT", target.db))
    # What an ACL may refuse, or a loading server: without, all works as well.
    may: list[tuple[Word, ...]] = [("CLIENT", "SETNAME", "authz"), ("INFO", "server")]
    may += [("SCRIPT", "LOAD", script.source) for script in scripts]
    replies = ask(wire, *must, *may)
    outcomes = await asyncio.gather(*replies, return_exceptions=True)
    if wire.ended.done():
        raise ConnectionResetError
    for outcome in outcomes[: len(must)]:
        if isinstance(outcome, BaseException):
            raise outcome
    information = outcomes[len(must) + 1]
    if not isinstance(information, bytes):
        return ()
    lines = dict(line.split(":", 1) for line in information.decode().splitlines() if ":" in line)
    if lines.get("redis_mode") == "cluster" and target.kind != CLUSTER:
        raise StoreUnavailable(
            f"Redis at {where} is one server of a Cluster: write redis+cluster:// in the URL"
        )
    words = lines.get("redis_version", "").split(".")
    return tuple(int(word) for word in words if word.isdecimal())


def _why(error: Exception) -> str:
    match error:
        case TimeoutError():
            return f"it does not answer within {CONNECT_SECONDS:g} s; is it stuck, or a firewall between?"
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted ({error.verify_message}): name who signed it by ?ca=FILE"
        case ssl.SSLError():
            return f"TLS fails ({error.reason}): does it speak TLS there? Without, write redis://"
        case ConnectionRefusedError():
            return "nothing listens there; is it running?"
        case ConnectionResetError():
            return "it closes the connection; does it want TLS (rediss://), or has it too many clients?"
        case OSError():  # of several addresses asyncio joins what went wrong
            return error.strerror or str(error)
        case _:
            return type(error).__name__
