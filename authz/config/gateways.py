"""`gateways:` the proxies that ask for decisions, and how each proves itself."""

from typing import Literal

from pydantic import Field, model_validator

from authz.config.amounts import Size
from authz.config.base import Section, Wrong
from authz.config.network import ListenAddress, Network, ServerName
from authz.config.secret import Secret
from authz.config.words import FilePath, Some, Word
from authz.request import GatewayKind


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

    token: Secret | None = None
    """The secret that it sends as `x-authz-gateway-token`. Without proof: plain decisions, on loopback."""

    mtls: Mtls | None = None
    """Proof by client certificate instead of a token."""

    from_: Some[Network] | None = Field(None, alias="from")
    """Addresses that it may connect from. A restriction beside the token, never instead of it."""

    request_id: Literal["gateway", "authz"] = "authz"
    """Whose request id counts: `gateway` where it overwrites the client's own, else authz makes one."""

    listen: Listen = Listen()
    """Where the rendered gateway listens."""

    tls: Tls | None = None
    """Certificate of the rendered gateway."""

    server_name: ServerName | None = None
    """Host name of the rendered gateway. Left out: any."""

    max_body: Size = 4 << 20
    """Largest request body in bytes that it takes and hands over; `4MiB` and `64k` are read too."""

    @model_validator(mode="after")
    def _one_proof(self) -> "GatewayEntry":
        if self.token is not None and self.mtls is not None:
            raise Wrong(
                "a gateway proves itself by `token` or by `mtls`, not by both", at=("mtls",), on_key=True
            )
        if self.token is not None and self.token.present:
            check_token(self.token, "token")
        if self.listen.https is not None and self.tls is None:
            raise Wrong(
                "`https` needs the key `tls` with `cert` and `key`", at=("listen", "https"), on_key=True
            )
        return self


def check_token(token: Secret, key: str) -> None:
    """A token travels in a header. Raises Wrong."""
    text = token.reveal()
    if not text.isascii() or not text.isprintable() or " " in text:
        raise Wrong("a token is printable ASCII without spaces, because it travels in a header", at=(key,))
