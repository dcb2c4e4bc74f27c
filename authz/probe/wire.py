"""HTTP/1.1 to the letter: what is asked is exactly what is sent, and when each piece of the answer came.

A client library would repair the paths and headers that are asked here.
"""

import json
import socket
import ssl
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from msgspec import Struct

_MOST_ANSWER: Final = 8 << 20  # bytes
_PIECE: Final = 65_536


class Unreachable(Exception):
    """There was no answer. Says why."""


class Target(Struct, frozen=True, kw_only=True):
    """Where the gateway is."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    timeout: float = 30.0  # seconds, of a connection and of each silence

    @property
    def authority(self) -> str:
        """As the `Host` header has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.authority}"


class Answer(Struct, frozen=True, kw_only=True):
    """What came back. Names of headers are in lower case."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    whole: bool  # False: the connection broke off within it
    asked_at: float  # seconds of a monotonic clock
    arrivals: tuple[float, ...] = ()  # of each `data:` line of a stream

    def header(self, name: str) -> str | None:
        values = [value for key, value in self.headers if key == name]
        return ", ".join(values) if values else None

    def json(self) -> Any:
        """The body; None if it is no JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


def target(url: str, ca: Path | None) -> Target:
    """Of `https://llm.lab`: scheme, host, port and nothing else. Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ValueError("the gateway's URL is scheme, host and port, such as https://llm.lab")
    tls = ssl.create_default_context(cafile=str(ca) if ca else None) if parts.scheme == "https" else None
    return Target(host=parts.hostname, port=parts.port or (443 if tls else 80), tls=tls)


def ask(
    at: Target,
    method: str,
    path: str,
    headers: Sequence[tuple[str, str]] = (),
    body: bytes = b"",
) -> Answer:
    """One request on a connection of its own. Raises Unreachable."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {at.authority}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    asked_at = time.monotonic()
    try:
        with _connected(at) as connection:
            early = _send(connection, head + body, at.timeout)
            return _read(connection, asked_at, early)
    except (OSError, ValueError) as error:
        raise Unreachable(f"{type(error).__name__}: {error}") from None


def _connected(at: Target) -> socket.socket:
    plain = socket.create_connection((at.host, at.port), timeout=at.timeout)
    try:
        return at.tls.wrap_socket(plain, server_hostname=at.host) if at.tls else plain
    except BaseException:
        plain.close()
        raise


def _send(connection: socket.socket, data: bytes, seconds: float) -> bytes:
    """All of it, unless an answer comes before: who goes on sending may lose it. Returns what has come."""
    with suppress(BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
        for begin in range(0, len(data), _PIECE):
            connection.sendall(data[begin : begin + _PIECE])
            connection.settimeout(0)
            try:
                if early := connection.recv(_PIECE):
                    return early
            except (BlockingIOError, ssl.SSLWantReadError):  # nothing, or nothing but TLS's own
                pass
            finally:
                connection.settimeout(seconds)
    return b""


def _read(connection: socket.socket, asked_at: float, early: bytes) -> Answer:
    raw, times = bytearray(early), [(len(early), time.monotonic())]
    while len(raw) < _MOST_ANSWER and not _is_over(bytes(raw)):
        piece = b""
        with suppress(ConnectionResetError, ssl.SSLEOFError):
            piece = connection.recv(_PIECE)
        if not piece:
            break
        raw += piece
        times.append((len(raw), time.monotonic()))
    data = _final(bytes(raw))
    if not data.startswith(b"HTTP/1."):
        raise ConnectionError("the connection was closed without an answer")
    head, _, rest = data.partition(b"\r\n\r\n")
    status_line, *lines = head.decode("latin-1").split("\r\n")
    headers = tuple(
        (name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)
    )
    chunked = "chunked" in dict(headers).get("transfer-encoding", "").lower()
    begin = len(raw) - len(rest)
    return Answer(
        status=int(status_line.split()[1]),
        headers=headers,
        body=_dechunked(rest) if chunked else rest,
        whole=_is_over(bytes(raw)) or not (chunked or "content-length" in dict(headers)),
        asked_at=asked_at,
        arrivals=_arrivals(bytes(raw), begin, times),
    )


def _final(data: bytes) -> bytes:
    """Without the answers in between (1xx)."""
    while data.startswith(b"HTTP/1.") and data[9:10] == b"1" and data[9:12] != b"101":
        _, found, data = data.partition(b"\r\n\r\n")
        if not found:
            return b""
    return data


def _is_over(raw: bytes) -> bool:
    """Whether the answer says itself that it is complete: some gateways close late."""
    head, found, rest = _final(raw).partition(b"\r\n\r\n")
    if not found:
        return False
    lower = head.lower()
    if b"\r\ntransfer-encoding: chunked" in lower:
        return rest.endswith(b"0\r\n\r\n")
    _, declared, length = lower.partition(b"\r\ncontent-length:")
    return bool(declared) and len(rest) >= int(length.split(b"\r\n")[0])


def _dechunked(data: bytes) -> bytes:
    """RFC 9112 7.1; as far as it goes where the end is missing."""
    parts = []
    while data:
        line, _, data = data.partition(b"\r\n")
        try:
            size = int(line.split(b";")[0], 16)
        except ValueError:
            break
        if size == 0:
            break
        parts.append(data[:size])
        data = data[size + 2 :]
    return b"".join(parts)


def _arrivals(raw: bytes, begin: int, times: Sequence[tuple[int, float]]) -> tuple[float, ...]:
    """When each event of a stream was here."""
    found, at = [], raw.find(b"data:", begin)
    moments = iter(times)
    end, moment = next(moments, (0, 0.0))
    while at >= 0:
        while at + 5 > end:
            end, moment = next(moments)
        found.append(moment)
        at = raw.find(b"data:", at + 5)
    return tuple(found)
