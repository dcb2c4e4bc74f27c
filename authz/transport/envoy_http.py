"""Envoy's ext_authz over HTTP (`http_service`, `path_prefix: /auth/envoy`).

https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/ext_authz_filter

The call is the original request itself, behind the prefix. Envoy copies the
response headers that its configuration names onto the request or the response,
and drops those in `x-envoy-auth-headers-to-remove`. It cannot rewrite a path
from here, so a new query travels in `x-authz-uri`. The length of the call is
that of the buffered part, so only `allow_partial_message: false` is safe.
"""

from authz.decision import Allow
from authz.reason import Reason
from authz.refusal import Refusal
from authz.request import BodyState, GatewayKind, Request
from authz.transport.body import framed_state, is_partial_flag
from authz.transport.certificate import from_forwarded
from authz.transport.dialect import (
    EDIT,
    Call,
    Dialect,
    Lines,
    only,
    plain_deny,
    request_of,
    rewritten,
    to_remove,
)
from authz.transport.headers import GATEWAY_CAN, Fields, mark_joined
from authz.transport.reply import lines


def certificate(fields: Fields) -> str | None:
    """Of x-forwarded-client-cert, which Envoy must be told to overwrite (SANITIZE_SET)."""
    if "x-forwarded-client-cert" in fields.doubled:
        return None
    text = fields.gateway.get("x-forwarded-client-cert")
    return from_forwarded(text) if text else None


def read(call: Call, body: bytes) -> Request | Refusal:
    mark_joined(call.fields)
    if GATEWAY_CAN in call.fields.gateway:  # a client may have written one too: none of it goes upstream
        call.fields.spoofed.append(GATEWAY_CAN)
    host = only(call.fields, "host", Reason.BAD_HOST)
    if isinstance(host, Refusal):
        return host
    state = framed_state(len(body))
    if state is BodyState.WHOLE and is_partial_flag(call.fields.gateway.get("x-envoy-auth-partial-body")):
        state = BodyState.PARTIAL
    return request_of(
        call,
        body,
        method=call.method,
        target=call.target,
        host=host,
        state=state,
        certificate=certificate,
    )


def allow(request: Request, allow: Allow, spoofed: list[str]) -> Lines:
    out = lines(allow.upstream) + lines(allow.client)
    if allow.query is not None:
        out.append(f"x-authz-uri: {rewritten(request, allow.query)}")
    if allow.edit is not None:
        out.append(EDIT + allow.edit)
    gone = ",".join(to_remove(request, allow, spoofed))
    if gone:
        out.append(f"x-envoy-auth-headers-to-remove: {gone}")
    return out


ENVOY_HTTP = Dialect(kind=GatewayKind.ENVOY, read=read, allow=allow, deny=plain_deny, certificate=certificate)
