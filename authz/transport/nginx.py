"""nginx: an njs subrequest that carries the body, or plain `auth_request`, which carries none.

https://nginx.org/en/docs/http/ngx_http_auth_request_module.html

`auth_request` turns every status but 401 and 403 into 500, so a denial also
states itself in `x-authz-status` and `x-authz-body`, from which the
configuration answers the client.
"""

from authz.decision import Allow, Deny
from authz.refusal import Refusal
from authz.request import GatewayKind, Request
from authz.transport.body import body_state
from authz.transport.certificate import from_escaped_pem
from authz.transport.dialect import Call, Dialect, Lines, plain_deny, upstream_lines
from authz.transport.forwarded import read_forwarded
from authz.transport.headers import Fields
from authz.transport.reply import lines


def certificate(fields: Fields) -> str | None:
    """`$ssl_client_escaped_cert`, only where `$ssl_client_verify` says SUCCESS (attack 45)."""
    plumbing = fields.gateway
    if plumbing.get("x-client-verify") != "SUCCESS" or "x-client-cert" in fields.doubled:
        return None
    text = plumbing.get("x-client-cert")
    return from_escaped_pem(text) if text else None


def read(call: Call, body: bytes) -> Request | Refusal:
    plumbing = call.fields.gateway
    transfer_encoding = plumbing.get("x-original-transfer-encoding") or None
    received = len(body)
    state = body_state(
        received,
        plumbing.get("x-original-content-length") or None,
        transfer_encoding,
        most=received
        + 1,  # njs reads bodies whole or not at all: what came without a declared length is complete
        empty_is_none=True,
    )
    return read_forwarded(
        call,
        body,
        method_field="x-original-method",
        target_field="x-original-uri",
        state=state,
        certificate=certificate,
    )


def allow(request: Request, allow: Allow, spoofed: list[str]) -> Lines:
    return upstream_lines(request, allow, spoofed) + lines(allow.client)


def deny(deny: Deny) -> Lines:
    return [
        *plain_deny(deny),
        f"x-authz-status: {deny.status}",
        f"x-authz-body: {deny.body.decode('ascii')}",
    ]


NGINX = Dialect(kind=GatewayKind.NGINX, read=read, allow=allow, deny=deny, certificate=certificate)
