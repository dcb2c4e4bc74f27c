"""What the rendered gateway configurations depend on, the same values for every gateway.

The defaults are those of the configurations that this repository ships.
"""

from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from authz.request import LEASE_MS, MAX_BODY, STREAM_TIMEOUT_MS

AUTH_TIMEOUT = 2.0
"""Seconds that a gateway waits for authz, everything included, before it answers 503."""

STREAM_TIMEOUT = STREAM_TIMEOUT_MS // 1000
"""Seconds that one response or WebSocket may last."""


class UnusableSettings(ValueError):
    """Settings from which no gateway configuration can be written. The text says what to change."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where something listens, or is reached."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Of `host:port`; an IPv6 host stands in brackets."""
        host, colon, port = text.rpartition(":")
        if not colon or not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
            raise UnusableSettings(f"{text!r} is no address: write host:port, for example 127.0.0.1:9000")
        return cls(host.removeprefix("[").removesuffix("]"), int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def is_number(host: str) -> bool:
    """Whether a host is an IP address, not a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Upstream:
    """A model server. `models` is for the reader of the configuration; authz chooses the server."""

    name: str
    url: str
    models: tuple[str, ...] = ()

    @property
    def tls(self) -> bool:
        """Whether it is spoken to over TLS."""
        return urlsplit(self.url).scheme == "https"

    @property
    def address(self) -> Address:
        """Host and port."""
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UnusableSettings(f"backend {self.name}: {self.url!r} is no http:// or https:// URL")
        if parts.path.strip("/") or parts.query or parts.username:
            raise UnusableSettings(
                f"backend {self.name}: give scheme, host and port only; paths go upstream as they came"
            )
        return Address(parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))


@dataclass(frozen=True, slots=True)
class TokenSource:
    """Where the gateway finds the token by which it proves itself. The token itself is never rendered."""

    kind: Literal["file", "env"]
    name: str


@dataclass(frozen=True, slots=True)
class Tls:
    """Files in PEM, as the gateway sees them. With `client_ca`, clients may show a certificate."""

    certificate: str = "/etc/authz/tls/tls.crt"
    key: str = "/etc/authz/tls/tls.key"
    client_ca: str | None = None


SYSTEM_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
"""Where Debian, Alpine and their images keep them."""


@dataclass(frozen=True, slots=True)
class AuthzTls:
    """TLS on the way to authz. Files in PEM, as the gateway sees them."""

    server_name: str  # that authz's certificate must have
    authority: str | None = None  # that signed it; None: one of the system's
    certificate: str | None = None  # the gateway's own, by which it proves itself
    key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderSettings:
    """One gateway, complete."""

    name: str | None = None  # of its entry in authz.yaml, for its journal
    server_name: str | None = None  # None: any host
    http: Address = Address("0.0.0.0", 80)  # only redirects to `https`, unless `plain_http`
    https: Address = Address("0.0.0.0", 443)
    plain_http: bool = False  # serve on `http` itself, without TLS and without `https`
    tls: Tls = Tls()
    upstreams: tuple[Upstream, ...] = (Upstream("model", "http://127.0.0.1:8000"),)
    authz_http: tuple[Address, ...] = (Address("127.0.0.1", 9000),)
    authz_grpc: tuple[Address, ...] = (Address("127.0.0.1", 9001),)
    authz_tls: AuthzTls | None = None  # None: authz is asked without TLS
    token: TokenSource | None = TokenSource("file", "/etc/authz/gateway-token")  # None: no proof by token
    own_request_ids: bool = False  # authz knows a question that is asked again, and charges it once
    trusted_hops: tuple[str, ...] = ()  # networks before it: authz hears all of X-Forwarded-For, and walks it
    claim_headers: tuple[str, ...] = ()  # and backends' key headers: gateways must name what they set
    request_id_headers: tuple[str, ...] = ()  # in which clients send ids of their own, for the gateway's log
    max_body: int = MAX_BODY  # bytes
    auth_timeout: float = AUTH_TIMEOUT  # seconds
    stream_timeout: int = STREAM_TIMEOUT  # seconds
    log: Address | None = Address("127.0.0.1", 9004)  # where authz takes Caddy's log; None: nowhere
    lease_ms: int = LEASE_MS  # authz hears at least three times as often that a response still runs
    reports: Address = Address("127.0.0.1", 9005)  # nginx's own, through which its scripts reach authz by TLS
    admin: Address | Path = Address("127.0.0.1", 9901)  # Envoy's own administration; a path: a socket there
    version: str | None = None  # of the operator's gateway, "1.40"; None: the one this release is tested with

    @property
    def proven(self) -> bool:
        """Whether authz believes it: else plain decisions only."""
        return self.token is not None or (
            self.authz_tls is not None and self.authz_tls.certificate is not None
        )

    def __post_init__(self) -> None:
        if not self.upstreams:
            raise UnusableSettings("there is no model server: add one under `backends:`")
        names = [upstream.name for upstream in self.upstreams]
        if len(set(names)) != len(names):
            raise UnusableSettings("two model servers have the same name")
        for upstream in self.upstreams:
            _ = upstream.address
        if not self.authz_http or not self.authz_grpc:
            raise UnusableSettings("authz listens nowhere: set `decisions.http` and `decisions.grpc`")
        if self.max_body < 1:
            raise UnusableSettings("max_body is at least 1 byte")
