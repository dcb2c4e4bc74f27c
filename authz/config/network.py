"""Addresses to listen on, networks, URLs and host names."""

import re
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from authz.config.base import Wrong, shorten
from authz.config.words import text_of


@dataclass(frozen=True, slots=True)
class Address:
    """Where something listens."""

    host: str  # an address or a name; IPv6 without brackets
    port: int  # 0: the system picks a free one

    @property
    def loopback(self) -> bool:
        """Whether only this machine can connect."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+)):(\d{1,5})", re.ASCII)


def _address(value: Any) -> Address:
    text = text_of(value, "an address")
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match[3]) > 65535:
        raise Wrong(
            f"{shorten(text)!r} is not an address; write HOST:PORT, such as 127.0.0.1:9000 or [::1]:9000"
        )
    host = match[1] or match[2]
    if match[1] or re.fullmatch(r"[0-9.]+", host):
        try:
            ip_address(host)
        except ValueError:
            raise Wrong(f"{shorten(host)!r} is not an IP address") from None
    return Address(host, int(match[3]))


ListenAddress = Annotated[
    Address,
    PlainValidator(_address),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "pattern": r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}$"}),
]


def _address_or_none(value: Any) -> Address | None:
    return None if value == "none" else _address(value)


OptionalListenAddress = Annotated[
    Address | None,
    PlainValidator(_address_or_none),
    PlainSerializer(lambda address: "none" if address is None else str(address)),
    WithJsonSchema(
        {"type": "string", "pattern": r"^(none|(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5})$"}
    ),
]
"""`none`: nowhere."""


def _network(value: Any) -> IPv4Network | IPv6Network:
    text = text_of(value, "a network")
    try:
        network = ip_network(text, strict=False)
        host = ip_address(text.partition("/")[0])
    except ValueError:
        raise Wrong(
            f"{shorten(text)!r} is not a network; write for example 10.0.0.0/8 or 2001:db8::/32"
        ) from None
    if "%" in text:
        raise Wrong(f"{shorten(text)!r} has a zone; write the network without it")
    if host != network.network_address:
        raise Wrong(f"{shorten(text)!r} has bits set beyond its prefix", suggestion=str(network))
    if (
        isinstance(network, IPv6Network)
        and network.network_address.ipv4_mapped is not None
        and network.prefixlen >= 96
    ):
        plain = f"{network.network_address.ipv4_mapped}/{network.prefixlen - 96}"
        raise Wrong("an IPv4 address inside IPv6 is compared as IPv4", suggestion=plain)
    return network


Network = Annotated[
    IPv4Network | IPv6Network,
    PlainValidator(_network),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "examples": ["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"]}),
]


def _url(value: Any) -> str:
    """Says nothing of the text: it may carry a password."""
    text = text_of(value, "a URL")
    try:
        parts = urlsplit(text)
        port_is_fine = parts.port is None or 1 <= parts.port <= 65535
    except ValueError:
        raise Wrong("this is not a URL; write for example https://idp.example.com") from None
    if (
        parts.scheme not in {"http", "https"}
        or not parts.hostname
        or not port_is_fine
        or re.search(r"[\s\\]", text)
    ):
        raise Wrong("this is not an http or https URL; write for example https://idp.example.com")
    if parts.username is not None or parts.password is not None:
        raise Wrong("a URL here carries no user or password")
    if parts.fragment:
        raise Wrong("a URL here has no fragment (#...)")
    return text


def _origin(value: Any) -> str:
    text = _url(value)
    parts = urlsplit(text)
    if parts.path not in {"", "/"} or parts.query:
        raise Wrong("only scheme, host and port are wanted: the client's own path goes to the backend")
    return text.rstrip("/")


_URL_JSON = WithJsonSchema({"type": "string", "format": "uri", "pattern": "^https?://"})
Url = Annotated[str, PlainValidator(_url), _URL_JSON]
Origin = Annotated[str, PlainValidator(_origin), _URL_JSON]

_LABEL = r"(?!-)[a-z0-9-]{1,63}(?<!-)"
_HOST = re.compile(rf"(\*\.)?{_LABEL}(\.{_LABEL})*")


def _host(value: Any) -> str:
    host = text_of(value, "a host name")
    if len(host) > 253 or not _HOST.fullmatch(host.lower()):
        raise Wrong(
            f"{shorten(host)!r} is not a host name; write it without port, such as llm.lab or *.llm.lab"
        )
    if host != host.lower():
        raise Wrong(f"{shorten(host)!r}: host names are compared in lower case", suggestion=host.lower())
    return host


def _server_name(value: Any) -> str:
    host = _host(value)
    if host.startswith("*"):
        raise Wrong("a server has one name; a star is not one")
    return host


_HOST_JSON = WithJsonSchema({"type": "string", "maxLength": 253})
Host = Annotated[str, PlainValidator(_host), _HOST_JSON]
ServerName = Annotated[str, PlainValidator(_server_name), _HOST_JSON]
