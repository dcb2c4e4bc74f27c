"""What every HTTP forward-auth dialect has in common."""

from collections.abc import Callable

from msgspec import Struct

from authz.decision import Allow, Deny
from authz.reason import Reason
from authz.refusal import Refusal
from authz.request import BodyState, Gateway, GatewayKind, Request
from authz.transport.address import client_address
from authz.transport.capability import NONE, Capability, capability
from authz.transport.headers import GATEWAY_CAN, Fields
from authz.transport.reply import Reply, lines
from authz.transport.request_id import request_id_of

Lines = list[str]
"""Header fields as a reply has them."""
Certificate = Callable[[Fields], str | None]
"""Finds the client certificate (PEM) that a gateway asserts."""

_SCHEMES = {"https": "https", "wss": "https"}
EDIT = "x-authz-edit: "


class Call(Struct, frozen=True):
    """One auth call over HTTP: the gateway's request to us, up to its body."""

    gateway: Gateway
    request_id: str  # ours
    method: str
    target: str  # path and query of the call itself, after the adapter's prefix
    fields: Fields


class Dialect(Struct, frozen=True, kw_only=True):
    """One gateway's way of asking and of being answered."""

    kind: GatewayKind
    read: Callable[[Call, bytes], Request | Refusal]  # of the call and its body
    allow: Callable[[Request, Allow, list[str]], Lines]  # the list: spoofed fields to take off
    deny: Callable[[Deny], Lines]
    certificate: Certificate


def only(fields: Fields, name: str, reason: Reason) -> str | Refusal:
    """A plumbing field that must be there exactly once; otherwise the gateway is set up wrongly."""
    value = fields.gateway.get(name)
    if value and name not in fields.doubled:
        return value
    fault = "more than once" if name in fields.doubled else "not"
    return Refusal(
        reason, f"The gateway sent {name} {fault}. Check its configuration: it must set it exactly once."
    )


def request_of(
    call: Call,
    body: bytes,
    *,
    method: str,
    target: str,
    host: str,
    state: BodyState,
    certificate: Certificate,
) -> Request | Refusal:
    """The request, with what only a proven gateway may assert."""
    fields, gateway = call.fields, call.gateway
    if fields.malformed is not None:
        return Refusal(Reason.BAD_HEADER, f"The header {fields.malformed} holds a control character.")
    plumbing, can = fields.gateway, _capability(call)
    return Request(
        gateway=gateway,
        request_id=request_id_of(gateway, fields, call.request_id),
        method=method,
        target=target,
        host=host,
        scheme=_SCHEMES.get(plumbing.get("x-forwarded-proto", ""), "http"),
        headers=fields.client,
        repeated=frozenset(fields.repeated) if fields.repeated else frozenset(),
        body=body,
        body_state=state,
        ip=_client(gateway, plumbing.get("x-forwarded-for", "")) if gateway.proven else None,
        certificate=certificate(fields) if gateway.proven else None,
        can_edit=can.edit,
        lease_ms=can.lease_ms,
    )


def _client(gateway: Gateway, forwarded_for: str) -> str | None:
    return gateway.hops.client(forwarded_for) if gateway.hops is not None else client_address(forwarded_for)


def _capability(call: Call) -> Capability:
    """Of a proven gateway. Caddy can do none of it, so where it passes the field on, a client wrote it."""
    fields, gateway = call.fields, call.gateway
    text = fields.gateway.get(GATEWAY_CAN)
    if text is None or not gateway.proven or gateway.kind is GatewayKind.CADDY:
        return NONE
    return capability(text) if GATEWAY_CAN not in fields.doubled else NONE


def rewritten(request: Request, query: str) -> str:
    """The target with another query."""
    path = request.target.partition("?")[0]
    return f"{path}?{query}" if query else path


def to_remove(request: Request, allow: Allow, spoofed: list[str]) -> tuple[str, ...]:
    """The fields to take off the request, none that is set: a gateway may remove after it has set.

    Many a backend reads `X.Is.Admin` and `X_Is_Admin` as `X-Is-Admin`, so whoever decides one decides all.
    """
    gone, names = spoofed, "".join(request.headers)
    if "_" in names or "." in names:
        decided = {_folded(name) for name in (*allow.remove, *(name for name, _ in allow.upstream))}
        respellable = [name for name in request.headers if "." in name or "_" in name]
        gone = [*spoofed, *(name for name in respellable if _folded(name) in decided)]
    if not gone:
        return allow.remove
    named = {*allow.remove, *(name for name, _ in allow.upstream)}
    return (*allow.remove, *(name for name in gone if name not in named))


def _folded(name: str) -> str:
    return name.replace(".", "-").replace("_", "-")


def upstream_lines(request: Request, allow: Allow, spoofed: list[str]) -> Lines:
    """What goes upstream, for gateways that copy from our answer.

    Their configuration removes credentials and every `x-authz-*` by itself. A
    Cookie and a new query cannot be copied as they are, so they travel in
    `x-authz-cookie` and `x-authz-uri`; `x-authz-remove` lists what else to drop.
    `x-authz-edit` is for the gateway itself: how it changes the body (`authz.edit`).
    """
    out = [
        f"{name}: {value}" if name != "cookie" else f"x-authz-cookie: {value}"
        for name, value in allow.upstream
    ]
    if allow.query is not None:
        out.append(f"x-authz-uri: {rewritten(request, allow.query)}")
    gone = [name for name in to_remove(request, allow, spoofed) if not name.startswith("x-authz-")]
    if gone:
        out.append(f"x-authz-remove: {','.join(gone)}")
    if allow.edit is not None:
        out.append(EDIT + allow.edit)
    return out


def plain_deny(deny: Deny) -> Lines:
    """A refusal's headers as they are, for gateways that pass our response to the client."""
    return lines(deny.headers)


def refusal(spell: Callable[[Deny], Lines], denied: Deny) -> Reply:
    """A refusal as a gateway wants it."""
    return Reply(denied.status, spell(denied), denied.body)
