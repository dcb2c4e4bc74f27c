"""Network addresses: who is connected to us, and what a gateway says of its client."""

import socket
from asyncio import BaseTransport
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import unquote

UNIX = "unix"
UNKNOWN = ""
IPAddress = IPv4Address | IPv6Address

_LONGEST = 45  # characters: an IPv6 address that ends in an IPv4 one


def parse_address(text: str) -> IPAddress | None:
    """One address without port or zone; an IPv4 address in IPv6 clothing is the IPv4 one (attacks 41, 42)."""
    return _known_address(text) if len(text) <= _LONGEST else None


@lru_cache(maxsize=4096)
def _known_address(text: str) -> IPAddress | None:
    if "%" in text:
        return None
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def client_address(forwarded_for: str) -> str | None:
    """The client's address out of X-Forwarded-For, where no proxy stands before the gateway; None: unknown.

    Such gateways name exactly one address. Where there are more, the last is
    what the gateway itself saw (attack 40).
    """
    last = forwarded_for.rpartition(",")[2].strip(" \t")
    return _spelled(last) if len(last) <= _LONGEST else None


@lru_cache(maxsize=4096)
def _spelled(text: str) -> str | None:
    address = parse_address(text)
    return str(address) if address is not None else None


@lru_cache(maxsize=1024)
def grpc_peer(peer: str) -> str:
    """The host of grpcio's `ipv4:127.0.0.1:4711`, `ipv6:%5B::1%5D:4711` or `unix:/path`."""
    scheme, _, rest = peer.partition(":")
    if scheme in ("unix", "unix-abstract"):
        return UNIX
    if scheme not in ("ipv4", "ipv6"):
        return UNKNOWN
    return unquote(rest.rpartition(":")[0]).strip("[]")


def socket_peer(name: object) -> str:
    """The host of a socket's `peername`: host and port first (IPv4, IPv6), or of a unix socket a path."""
    if isinstance(name, tuple):
        return str(name[0])
    return UNIX if isinstance(name, str | bytes) else UNKNOWN


def peer_of(transport: BaseTransport) -> str:
    """The host that a socket is connected to. A TCP peer that left already is nobody, not a unix socket."""
    name = transport.get_extra_info("peername")
    if isinstance(name, tuple):
        return str(name[0])
    connected = transport.get_extra_info("socket")
    return UNIX if connected is not None and connected.family == socket.AF_UNIX else UNKNOWN


def is_loopback(peer: str) -> bool:
    """Whether a peer is this machine. A unix socket is: its permissions guard it."""
    if peer == UNIX:
        return True
    address = parse_address(peer)
    return address is not None and address.is_loopback
