"""Addresses to listen on: `127.0.0.1:9000`, `[::1]:9000`, `unix:/run/authz.sock`."""

import errno
import os
import socket
import stat
import sys
from contextlib import suppress
from typing import NamedTuple

BACKLOG = 2048

_SO_BINDTOIFINDEX = 62  # linux/include/uapi/asm-generic/socket.h; since 5.1, without privileges since 5.7
_NO_INTERFACE = 0x7FFFFFFF


class CannotListen(Exception):
    """An address that cannot be listened on. The message says what to do next."""


class AddressInUse(CannotListen):
    """Somebody else listens there."""


class Address(NamedTuple):
    """Where to listen. A path stands for a unix socket."""

    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_listen(text: str) -> Address:
    """Read an address. Port 0 picks a free one. Raises ValueError."""
    if text.startswith("unix:") and len(text) > len("unix:"):
        return Address("", 0, text.removeprefix("unix:"))
    host, colon, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if not colon or not bare or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError(f"{text!r} is not an address; write for example 127.0.0.1:9000")
    if ":" in bare and not (host.startswith("[") and host.endswith("]")):
        raise ValueError(f"{text!r} is not an address; write an IPv6 host in brackets: [::1]:9000")
    return Address(bare, int(port))


def bind(address: Address, *, shared: bool = False) -> socket.socket:
    """A bound socket. Raises AddressInUse or CannotListen.

    `shared`: others of this machine's user may listen there too; the kernel spreads the connections.
    """
    try:
        return _bind_unix(address.path) if address.path else _bind_tcp(address, shared)
    except OSError as error:
        raise _explain(address, error) from error


def refuse_new(bound: socket.socket) -> None:
    """Have the kernel refuse further connections, while those that it took still come to be accepted.

    Closing a listening socket, or shutting it down, resets what is in its queue, and handshakes under way:
    whoever connected then may have asked already, and is lost. Refused, a gateway has asked nothing and
    goes to another replica. A listening socket that is bound to an interface that does not exist is found by
    no new SYN any more, but by the connections that began before (`inet_lookup_listener`, `ireq->ir_iif`).
    Sockets that share an address (`shared`) stay in their group: all of them must do it. Elsewhere than on
    Linux nothing is done.
    """
    if sys.platform == "linux" and bound.family != socket.AF_UNIX:
        with suppress(OSError):  # an older kernel: closing is as it always was
            bound.setsockopt(socket.SOL_SOCKET, _SO_BINDTOIFINDEX, _NO_INTERFACE)


def _bind_tcp(address: Address, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind((address.host, address.port))
        bound.listen(BACKLOG)
        bound.setblocking(False)
    except BaseException:
        bound.close()
        raise
    return bound


def _bind_unix(path: str) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        bound.bind(path)
        os.chmod(path, 0o660)  # whoever can write to it counts as this machine
        bound.listen(BACKLOG)
        bound.setblocking(False)
    except BaseException:
        bound.close()
        raise
    return bound


def _remove_stale(path: str) -> None:
    """Remove a socket that nobody listens on any more. Anything else at that path is left alone."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)


def _explain(address: Address, error: OSError) -> CannotListen:
    if error.errno == errno.EADDRINUSE:
        return AddressInUse(
            f"{address} is in use by another program. Stop that program or choose another address for authz."
        )
    if error.errno == errno.EACCES:
        return CannotListen(
            f"{address} needs a privilege that authz does not have. Choose a port above 1023."
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return CannotListen(f"{address} is no address of this machine. Listen on 127.0.0.1 or on 0.0.0.0.")
    return CannotListen(f"Cannot listen on {address}: {error.strerror or error}. Choose another address.")
