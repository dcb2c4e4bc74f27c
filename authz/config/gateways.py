"""`gateways:` the proxies that ask for decisions, and how each proves itself."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field, field_validator

from authz.config.amounts import Milliseconds, Size
from authz.config.base import Section, Wrong
from authz.config.network import ListenAddress, Network, ServerName
from authz.config.secret import Token
from authz.config.tls import Mtls
from authz.config.words import FilePath, Some
from authz.request import LEASE_MS, MAX_BODY, SHORTEST_LEASE_MS, STREAM_TIMEOUT_MS, GatewayKind


class Listen(Section):
    """Where the gateway itself listens."""

    http: ListenAddress | None = None
    """Address for plain HTTP. With `https` beside it, it only redirects there."""

    https: ListenAddress | None = None
    """Address for HTTPS. Needs `tls`."""


class Tls(Section):
    """The gateway's own certificate."""

    cert: FilePath
    """Certificate chain in PEM, relative to the config file. authz does not read it."""

    key: FilePath
    """Private key in PEM, relative to the config file. authz does not read it."""

    client_ca: FilePath | None = None
    """Authority in PEM. Clients may show a certificate that it signed; authz does not read it."""


class GatewayEntry(Section):
    """One gateway."""

    kind: GatewayKind
    """Which dialect it speaks."""

    token: Token | None = None
    """The secret that it sends as `x-authz-gateway-token`. Without proof: plain decisions, on loopback."""

    mtls: Mtls | None = None
    """Proof by a client certificate instead of a token. Needs `decisions.tls.client_ca`."""

    from_: Some[Network] | None = Field(None, alias="from")
    """Addresses that it may connect from. A restriction beside the token, never instead of it."""

    trusted_hops: Some[Network] | None = None
    """Networks of the proxies in front of it: the client is the last address that is none of these."""

    request_id: Literal["gateway", "authz"] = "authz"
    """Whose request id counts: `gateway` where it proves itself and overwrites the client's, else authz's."""

    listen: Listen = Listen()
    """Where the rendered gateway listens."""

    tls: Tls | None = None
    """Certificate of the rendered gateway."""

    server_name: ServerName | None = None
    """Host name of the rendered gateway. Left out: any."""

    max_body: Size = MAX_BODY
    """Largest request body in bytes that it takes and hands over; `4MiB` and `64k` are read too."""

    stream_timeout: Milliseconds = STREAM_TIMEOUT_MS
    """How long one response or WebSocket may last; also how long a slot is held where no end is reported."""

    lease: Milliseconds = LEASE_MS
    """With `envoy` and `traefik`: a response of which nothing is heard for so long counts as ended."""

    log: ListenAddress | None = None
    """With `caddy`: where authz takes its log, by which responses are settled. Needs a proof."""

    usage: Literal["log", "backend"] = "log"
    """With `log`: `backend` where the model server tells what a response used; log lines then wait for it."""

    @field_validator("lease")
    @classmethod
    def _long_enough(cls, lease: int) -> int:
        if lease < SHORTEST_LEASE_MS:
            raise Wrong(f"at least {SHORTEST_LEASE_MS // 1000}s is needed")
        return lease

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Wrong]:
        if "lease" in data and data.get("kind") in (GatewayKind.NGINX.value, GatewayKind.CADDY.value):
            message = f"{data['kind']} does not tell that a response still runs; leave `lease` out"
            yield Wrong(message, at=("lease",), on_key=True)
        if "log" in data and data.get("kind") != GatewayKind.CADDY.value:
            message = "only caddy reports by its log; leave `log` out"
            yield Wrong(message, at=("log",), on_key=True)
        elif "log" in data and not {"token", "mtls"} & data.keys():
            message = "`log` needs `token` or `mtls`: who proves nothing settles nothing"
            yield Wrong(message, at=("log",), on_key=True)
        if "usage" in data and "log" not in data:
            yield Wrong("`usage` needs `log` beside it", at=("usage",), on_key=True)
        if "token" in data and "mtls" in data:
            message = "a gateway proves itself by `token` or by `mtls`, not by both"
            yield Wrong(message, at=("mtls",), on_key=True)
        if "trusted_hops" in data and not {"token", "mtls"} & data.keys():
            message = (
                "without `token` or `mtls` no address that it tells is believed; add one, or leave this out"
            )
            yield Wrong(message, at=("trusted_hops",), on_key=True)
        listen = data.get("listen")
        if isinstance(listen, dict) and "https" in listen and "tls" not in data:
            message = "`https` needs `tls: {cert: ..., key: ...}` beside `listen`"
            yield Wrong(message, at=("listen", "https"), on_key=True)
        if data.get("request_id") == "gateway":
            if data.get("kind") == GatewayKind.TRAEFIK.value:
                message = "Traefik makes no request id that could count; leave `request_id` out"
                yield Wrong(message, at=("request_id",))
            elif not {"token", "mtls"} & data.keys():
                message = (
                    "without `token` or `mtls` anybody may choose the id; add one, or leave `request_id` out"
                )
                yield Wrong(message, at=("request_id",))
