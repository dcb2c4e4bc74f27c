"""HTTP/1.1 as exact bytes: for paths and headers that a client library would repair or refuse to send."""

import json
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RawResponse:
    """What came back. `headers` keep their order; names are in lower case."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """The values of that name, joined by ", "; None if there is none."""
        values = [value for key, value in self.headers if key == name.lower()]
        return ", ".join(values) if values else None

    def json(self) -> Any:
        return json.loads(self.body)


def request_bytes(
    method: str = "GET",
    target: str | bytes = "/",
    headers: list[tuple[str | bytes, str | bytes]] | None = None,
    body: bytes = b"",
    *,
    host: str | None = "llm.test",
    length: bool = True,
) -> bytes:
    """A request that closes its connection. `length`: declare the body's length if there is a body."""
    lines = [method.encode() + b" " + _bytes(target) + b" HTTP/1.1"]
    if host is not None:
        lines.append(b"Host: " + host.encode())
    lines.extend(_bytes(name) + b": " + _bytes(value) for name, value in headers or [])
    if length and body:
        lines.append(b"Content-Length: %d" % len(body))
    if not any(_bytes(name).lower() == b"connection" for name, _ in headers or []):
        lines.append(b"Connection: close")
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def chunked(*parts: bytes) -> bytes:
    """A body in chunks (RFC 9112 7.1)."""
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts if part) + b"0\r\n\r\n"


def exchange(
    port: int,
    data: bytes,
    *,
    tls: ssl.SSLContext | None = None,
    seconds: float = 30,
    method: str = "GET",
    source: str | None = None,
) -> RawResponse:
    """Send the bytes, read one final response (1xx are passed over). Raises ConnectionError if none comes.

    `source`: the address to send from; all of 127.0.0.0/8 is this machine's.
    """
    own = (source, 0) if source is not None else None
    with socket.create_connection(("127.0.0.1", port), timeout=seconds, source_address=own) as plain:
        connection = tls.wrap_socket(plain, server_hostname="localhost") if tls else plain
        with connection:
            # Refused before all of it was read: the response is there all the same.
            with suppress(BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
                connection.sendall(data)
            reader = connection.makefile("rb")
            return _read(reader, method)


def _read(reader: Any, method: str) -> RawResponse:
    while True:
        line = reader.readline()
        if not line:
            raise ConnectionError("the connection was closed without a response")
        status = int(line.split(b" ", 2)[1])
        headers = []
        while (line := reader.readline()) not in (b"\r\n", b"\n", b""):
            name, _, value = line.partition(b":")
            headers.append((name.decode("latin-1").lower(), value.strip().decode("latin-1")))
        if status >= 200 or status == 101:
            break
    found = dict(headers)
    if method == "HEAD" or status in (101, 204, 304):
        body = b""
    elif "chunked" in found.get("transfer-encoding", "").lower():
        body = b"".join(_chunks(reader))
    elif "content-length" in found:
        body = reader.read(int(found["content-length"]))
    else:
        body = reader.read()
    return RawResponse(status, tuple(headers), body)


def _chunks(reader: Any) -> Any:
    while True:
        size = int(reader.readline().split(b";")[0], 16)
        if size == 0:
            while reader.readline() not in (b"\r\n", b"\n", b""):
                pass
            return
        yield reader.read(size)
        reader.readline()


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")
