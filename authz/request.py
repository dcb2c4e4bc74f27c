"""What a gateway asks: one request, free of any wire type.

Values on the hot path are `msgspec.Struct`: frozen and slotted like a frozen
dataclass, but built in C (a frozen dataclass of this size costs 2-3 µs more).
"""

from collections.abc import Mapping
from enum import Enum
from typing import Protocol

from msgspec import Struct

MAX_BODY = 4 << 20
"""Bytes of a body that a gateway takes and hands over, where its entry does not say otherwise."""

STREAM_TIMEOUT_MS = 86_400_000
"""How long one response or WebSocket may last, where the gateway's entry does not say otherwise."""

LEASE_MS = 60_000
"""A response of which nothing is told for so long counts as ended, unless the gateway's entry says other."""

SHORTEST_LEASE_MS = 3_000
"""No lease is shorter: gateways tell every third of it."""


class GatewayKind(Enum):
    """The gateway dialects that we speak."""

    ENVOY = "envoy"
    TRAEFIK = "traefik"
    NGINX = "nginx"
    CADDY = "caddy"


class Hops(Protocol):
    """Proxies before a gateway, who are believed about who asked them."""

    def client(self, forwarded_for: str) -> str | None:
        """The client's address by X-Forwarded-For, the last part of which the gateway itself saw."""
        ...


class Gateway(Struct, frozen=True, kw_only=True):
    """Who handed us the request.

    `proven` is true only when the gateway showed its token or client
    certificate. From a gateway that did not prove itself we take the request
    but no assertion about it (address, certificate), and we hand it neither
    upstream credentials nor settlements.
    """

    name: str
    kind: GatewayKind
    proven: bool
    stream_timeout_ms: int = STREAM_TIMEOUT_MS  # when it ends a response at the latest
    request_id_is_ours: bool = False  # config `request_id: gateway`: the gateway overwrote the client's id
    hops: Hops | None = None  # None: clients connect to the gateway directly


class BodyState(Enum):
    """How much of the request's body reached us."""

    NONE = "none"  # the request has no body
    WHOLE = "whole"
    PARTIAL = "partial"  # cut at the gateway's buffer limit
    WITHHELD = "withheld"  # the request has one, the gateway did not send it


class Request(Struct, frozen=True, kw_only=True, gc=False):
    """One request as the client sent it and the gateway handed it to us.

    `headers` has lower-case names; values are latin-1 decoded, so any byte
    survives. A name in `repeated` came more than once: the mapping then holds
    the values joined by ", ", and no credential may be taken from it.
    """

    gateway: Gateway
    request_id: str
    method: str
    target: str  # path and query exactly as received; nothing decoded
    host: str
    scheme: str  # "http" or "https", as the gateway saw it
    headers: Mapping[str, str]
    repeated: frozenset[str] = frozenset()
    body: bytes = b""
    body_state: BodyState = BodyState.NONE
    ip: str | None = None  # the client's address; None unless the gateway is proven
    certificate: str | None = None  # client certificate (PEM), verified by a proven gateway
    can_edit: bool = False  # a proven gateway says that it changes the body as we tell it
    lease_ms: int | None = None  # a proven gateway says that it tells within this that a response still runs

    def __repr__(self) -> str:
        """Headers, query and body may carry credentials: none of them is shown."""
        path = self.target.partition("?")[0]
        return f"<Request {self.request_id} {self.method} {path} via {self.gateway.name}>"
