"""Traefik's forwardAuth, with `forwardBody` and `preserveRequestMethod`.

https://doc.traefik.io/traefik/reference/routing-configuration/http/middlewares/forwardauth/

forwardAuth copies response headers onto the request only (`x-authz-*` and
`authorization` in our configuration), so what is for the client travels as
`x-authz-client-*`; a small plugin moves it onto the response.
"""

from authz.decision import Allow
from authz.refusal import Refusal
from authz.request import GatewayKind, Request
from authz.transport.body import framed_state
from authz.transport.certificate import from_base64
from authz.transport.dialect import Call, Dialect, Lines, plain_deny, upstream_lines
from authz.transport.forwarded import read_forwarded
from authz.transport.headers import Fields


def certificate(fields: Fields) -> str | None:
    """Of the passTLSClientCert middleware (`pem: true`): base64 without armour, the client's first."""
    if "x-forwarded-tls-client-cert" in fields.doubled:
        return None
    text = fields.gateway.get("x-forwarded-tls-client-cert")
    return from_base64(text) if text else None


def read(call: Call, body: bytes) -> Request | Refusal:
    return read_forwarded(
        call,
        body,
        method_field="x-forwarded-method",
        target_field="x-forwarded-uri",
        state=framed_state(len(body)),
        certificate=certificate,
    )


def allow(request: Request, allow: Allow, spoofed: list[str]) -> Lines:
    return upstream_lines(request, allow, spoofed) + [
        f"x-authz-client-{name}: {value}" for name, value in allow.client
    ]


TRAEFIK = Dialect(kind=GatewayKind.TRAEFIK, read=read, allow=allow, deny=plain_deny, certificate=certificate)
