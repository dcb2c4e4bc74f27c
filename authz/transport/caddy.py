"""Caddy: a `reverse_proxy` to us with `handle_response`, the body included.

https://caddyserver.com/docs/caddyfile/directives/forward_auth
"""

from authz.decision import Allow
from authz.reason import Reason
from authz.refusal import Refusal
from authz.request import BodyState, GatewayKind, Request
from authz.transport.body import body_state, framed_state
from authz.transport.certificate import from_base64
from authz.transport.dialect import Call, Dialect, Lines, plain_deny, upstream_lines
from authz.transport.forwarded import read_forwarded
from authz.transport.headers import Fields
from authz.transport.reply import lines


def certificate(fields: Fields) -> str | None:
    """`{http.request.tls.client.certificate_der_base64}`; an absent one leaves text that is no base64."""
    text = fields.gateway.get("x-client-cert")
    return from_base64(text) if text and "x-client-cert" not in fields.doubled else None


def _state(call: Call, body: bytes) -> BodyState:
    """Above its `max_size` Caddy asks with an empty body; the original length tells, if sent."""
    original = call.fields.gateway.get("x-original-content-length")
    if not original:
        return framed_state(len(body))
    return body_state(len(body), original, None, most=None, empty_is_none=True)


def read(call: Call, body: bytes) -> Request | Refusal:
    """Caddy passes trailers on, to us and to the model server, and cannot be told to take them off.

    Many a server (uvicorn) counts them among the headers: `X-Authz-User` could come once more (attack 96).
    """
    if "trailer" in call.fields.gateway:
        text = "Trailers are not accepted. Send what they hold as headers."
        return Refusal(Reason.BAD_HEADER, text, "trailer")
    return read_forwarded(
        call,
        body,
        method_field="x-forwarded-method",
        target_field="x-forwarded-uri",
        state=_state(call, body),
        certificate=certificate,
    )


def allow(request: Request, allow: Allow, spoofed: list[str]) -> Lines:
    return upstream_lines(request, allow, spoofed) + lines(allow.client)


CADDY = Dialect(kind=GatewayKind.CADDY, read=read, allow=allow, deny=plain_deny, certificate=certificate)
