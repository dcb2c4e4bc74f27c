"""`gateways:` the proxies that ask for decisions, and how each proves itself."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field

from authz.config.amounts import Milliseconds, Size
from authz.config.base import Section, Wrong
from authz.config.network import ListenAddress, Network, ServerName
from authz.config.secret import Token
from authz.config.words import FilePath, Some, Word
from authz.request import MAX_BODY, STREAM_TIMEOUT_MS, GatewayKind


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


class Mtls(Section):
    """Proof by a client certificate instead of a token."""

    ca: FilePath
    """Certificate authority in PEM that signed the gateway's client certificate."""

    subjects: Some[Word]
    """DNS or URI names of which the certificate must carry one."""


class GatewayEntry(Section):
    """One gateway."""

    kind: GatewayKind
    """Which dialect it speaks."""

    token: Token | None = None
    """The secret that it sends as `x-authz-gateway-token`. Without proof: plain decisions, on loopback."""

    mtls: Mtls | None = None
    """Proof by client certificate instead of a token."""

    from_: Some[Network] | None = Field(None, alias="from")
    """Addresses that it may connect from. A restriction beside the token, never instead of it."""

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

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Wrong]:
        if "token" in data and "mtls" in data:
            message = "a gateway proves itself by `token` or by `mtls`, not by both"
            yield Wrong(message, at=("mtls",), on_key=True)
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
