"""A client that may leave at any byte, and waiting for what comes of it."""

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def leaving(port: int, tls: ssl.SSLContext, data: bytes) -> Iterator[ssl.SSLSocket]:
    """A client that has sent its request, and leaves at the end of the context."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as plain,
        tls.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(data)
        yield connection


def read_until(connection: socket.socket, end: bytes) -> None:
    """Read until that came; fails where the connection is closed before."""
    received = b""
    while end not in received:
        part = connection.recv(65536)
        assert part, f"closed before {end!r}"
        received += part


def read_all(connection: socket.socket) -> None:
    """Until the other side closes."""
    while connection.recv(65536):
        pass


def wait_for(true: Callable[[], bool], *, seconds: float = 20) -> None:
    """Return once it holds."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not true within {seconds} s"
        time.sleep(0.01)
