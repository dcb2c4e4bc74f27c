"""Envoy's ext_authz over gRPC: `envoy.service.auth.v3.Authorization/Check`.

https://www.envoyproxy.io/docs/envoy/latest/api-v3/service/auth/v3/external_auth.proto

Configured with `encode_raw_headers: true` the header fields arrive one by one
and as bytes; in the older map form repeated ones are already joined, and bytes
that are no UTF-8 already replaced.
"""

from collections.abc import Sequence
from typing import Any

from envoy.service.auth.v3 import external_auth_pb2
from envoy.service.auth.v3.attribute_context_pb2 import AttributeContext
from google.protobuf.message import DecodeError
from msgspec import Struct

from authz.decision import Allow, Decision, Deny, Header
from authz.reason import ANSWERS, Reason
from authz.refusal import Refusal
from authz.request import MAX_BODY, BodyState, Gateway, GatewayKind, Request
from authz.transport.address import parse_address
from authz.transport.body import body_state, is_partial_flag
from authz.transport.capability import NONE, capability
from authz.transport.certificate import from_escaped_pem
from authz.transport.dialect import rewritten, to_remove
from authz.transport.gateways import UNIDENTIFIED, GatewayRegistry
from authz.transport.headers import (
    GATEWAY_CAN,
    MOST_HEADERS,
    Fields,
    encode,
    mark_joined,
    read_fields,
)
from authz.transport.peer_certificate import PeerCertificate
from authz.transport.request_id import RequestIds, request_id_of
from authz.transport.service import Desk

SERVICE = "envoy.service.auth.v3.Authorization"

_OVERWRITE = 2  # HeaderValueOption.HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD
_CheckRequest = external_auth_pb2.CheckRequest
_CheckResponse = external_auth_pb2.CheckResponse
_NONE_REPEATED: frozenset[str] = frozenset()
_ANNOUNCED = frozenset({"", "HTTP/1.0", "HTTP/1.1"})
_BODILESS = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})


class ExtAuthz:
    """Answers Check. Suspends only where the decision does."""

    def __init__(self, desk: Desk, gateways: GatewayRegistry, *, max_body: int = MAX_BODY) -> None:
        """`max_body` is in bytes. `gateways` may be replaced when the configuration changes."""
        self.gateways = gateways
        self._desk = desk
        self.max_body = max_body
        self._new_id = RequestIds()

    async def answer(
        self, message: bytes, token: str | None, peer: str, certificate: PeerCertificate | None = None
    ) -> bytes:
        """A serialized CheckRequest in, a serialized CheckResponse out."""
        request_id = self._new_id()
        gateway = self.gateways.identify(GatewayKind.ENVOY, token, peer, certificate)
        if gateway is None:
            return _denied(self._desk.refuse(UNIDENTIFIED, request_id, Refusal(Reason.GATEWAY_UNPROVEN)))
        try:
            read = read_check(_CheckRequest.FromString(message), gateway, request_id, self.max_body)
            if isinstance(read, Refusal):
                return _denied(self._desk.refuse(gateway.name, request_id, read))
            decision = await self._desk.decide(read.request)
            return _allowed(read, decision) if isinstance(decision, Allow) else _denied(decision)
        except DecodeError:
            refusal = Refusal(Reason.BAD_METHOD, "The gateway sent a CheckRequest that is no valid protobuf.")
            return _denied(self._desk.refuse(gateway.name, request_id, refusal))
        except Exception as error:
            return _denied(self._desk.fault(gateway.name, request_id, error))


class Read(Struct, frozen=True):
    """A request and the `x-authz-*` fields that came with it although they are ours."""

    request: Request
    spoofed: list[str]


def read_check(
    check: external_auth_pb2.CheckRequest, gateway: Gateway, request_id: str, max_body: int
) -> Read | Refusal:
    """The request that a CheckRequest describes."""
    attributes = check.attributes
    http = attributes.request.http
    fields = _fields(http)
    if isinstance(fields, Refusal):
        return fields
    plumbing = fields.gateway
    # The raw pseudo-header, if there is one: where a byte is no UTF-8 the attribute holds "!" in its place.
    method = plumbing.get(":method") or http.method
    target = plumbing.get(":path") or http.path
    if not method or not target:
        return Refusal(Reason.BAD_METHOD, "The CheckRequest describes no HTTP request.")
    if ":path" in fields.doubled or ":method" in fields.doubled:
        return Refusal(Reason.BAD_PATH, "The CheckRequest describes several HTTP requests.")
    if ":authority" in fields.doubled or "host" in fields.doubled:
        return Refusal(Reason.BAD_HOST, "The request has several Host headers.")
    body = http.raw_body or http.body.encode()
    if len(body) > max_body:
        return Refusal(Reason.BODY_TOO_LARGE)
    proven = gateway.proven
    source = attributes.source
    said = attributes.context_extensions.get("can") if proven else None
    can = capability(said) if said is not None else NONE
    request = Request(
        gateway=gateway,
        request_id=request_id_of(gateway, fields, request_id),
        method=method,
        target=target,
        host=plumbing.get(":authority") or http.host,
        scheme="https" if http.scheme == "https" else "http",
        headers=fields.client,
        repeated=frozenset(fields.repeated) if fields.repeated else _NONE_REPEATED,
        body=body,
        body_state=_state(
            len(body), plumbing, method, http.protocol, attributes.context_extensions.get("max_request_bytes")
        ),
        ip=_client(gateway, source.address.socket_address.address, plumbing) if proven else None,
        certificate=from_escaped_pem(source.certificate) if proven and source.certificate else None,
        can_edit=can.edit,
        lease_ms=can.lease_ms,
    )
    return Read(request, fields.spoofed)


def _fields(http: AttributeContext.HttpRequest) -> Fields | Refusal:
    """The header fields: one by one where Envoy sends them raw, else as the map that it made of them."""
    listed = http.header_map.headers
    if max(len(listed), len(http.headers)) > MOST_HEADERS:
        return Refusal(Reason.BAD_HEADER, f"The request has more than {MOST_HEADERS} headers.")
    if listed:
        fields = read_fields([(field.key, field.raw_value or field.value.encode()) for field in listed])
        # Envoy keeps Authorization in a slot of its own and joins a second one to it even here.
        if "," in fields.client.get("authorization", ""):
            fields.repeated.add("authorization")
    else:
        fields = read_fields([(name, value.encode()) for name, value in http.headers.items()])
        mark_joined(fields)
    if GATEWAY_CAN in fields.gateway:  # here the gateway says it in a context extension: a client wrote this
        fields.spoofed.append(GATEWAY_CAN)
    if fields.malformed is not None:
        return Refusal(Reason.BAD_HEADER, f"The header {fields.malformed} holds a control character.")
    return fields


def _state(
    received: int, plumbing: dict[str, str], method: str, protocol: str, most: str | None
) -> BodyState:
    """`max_request_bytes` comes as a context extension, because nothing else in a CheckRequest tells it."""
    state = body_state(
        received,
        plumbing.get("content-length"),
        plumbing.get("transfer-encoding"),
        most=int(most) if most is not None and most.isascii() and most.isdigit() else None,
        # Only HTTP/2 and later can carry a body that no field announces.
        empty_is_none=most is not None or protocol in _ANNOUNCED or method in _BODILESS,
    )
    if state is BodyState.WHOLE and "content-length" not in plumbing:
        cut = is_partial_flag(plumbing.get("x-envoy-auth-partial-body"))
        return BodyState.PARTIAL if cut else BodyState.WHOLE
    return state


def _client(gateway: Gateway, peer: str, plumbing: dict[str, str]) -> str | None:
    """Whoever is connected to Envoy, or who they say asked them, where they are a trusted proxy."""
    address = parse_address(peer)
    if address is None or gateway.hops is None:
        return str(address) if address is not None else None
    # Envoy may have appended the peer itself already (`use_remote_address`): once more is the same.
    return gateway.hops.client(f"{plumbing.get('x-forwarded-for', '')}, {address}")


def _add(to: Any, headers: Sequence[Header]) -> None:
    """Set headers, whatever is there already.

    Always in `value`: from a response Envoy does not read `raw_value` and would
    set an empty header.
    """
    for name, value in headers:
        option = to.add(append_action=_OVERWRITE)
        header = option.header
        header.key = name
        header.value = value if value.isascii() else _as_text(name, value)


def _as_text(name: str, value: str) -> str:
    """What leaves as the same bytes that HTTP would carry, as far as those are UTF-8."""
    try:
        return encode(name, value).decode("utf-8")
    except UnicodeDecodeError:
        return value


def _describe(response: external_auth_pb2.CheckResponse, decision: Decision) -> None:
    """Dynamic metadata, for access logs and for the settlement that they bring."""
    fields = response.dynamic_metadata.fields
    fields["request_id"].string_value = decision.request_id
    fields["reason"].string_value = decision.reason.value
    if decision.route is not None:
        fields["route"].string_value = decision.route
    if decision.model is not None:
        fields["model"].string_value = decision.model
    if decision.client_request_id:
        fields["client_request_id"].string_value = decision.client_request_id
    subject = decision.subject
    if subject is not None:
        fields["user"].string_value = subject.user
        if subject.team is not None:
            fields["team"].string_value = subject.team
        if subject.key is not None:
            fields["key"].string_value = subject.key
    if isinstance(decision, Allow) and decision.reservation is not None:
        fields["reservation"].string_value = decision.reservation
        if decision.edit is not None:
            fields["edit"].string_value = decision.edit
        if decision.may_overrun:
            fields["may_overrun"].bool_value = True
        if decision.without_store:
            fields["without_store"].bool_value = True


def _allowed(read: Read, allow: Allow) -> bytes:
    response = _CheckResponse()
    response.status.code = 0
    ok = response.ok_response
    _add(ok.headers, allow.upstream)
    if allow.query is not None:
        # Not query_parameters_to_remove: it knows a parameter only by its plain spelling.
        _add(ok.headers, ((":path", rewritten(read.request, allow.query)),))
    ok.headers_to_remove.extend(to_remove(read.request, allow, read.spoofed))
    _add(ok.response_headers_to_add, allow.client)
    _describe(response, allow)
    return bytes(response.SerializeToString())


def _denied(deny: Deny) -> bytes:
    response = _CheckResponse()
    response.status.code = ANSWERS[deny.reason].grpc
    denied = response.denied_response
    denied.status.code = deny.status
    _add(denied.headers, deny.headers)
    denied.body = deny.body.decode("ascii")
    _describe(response, deny)
    return bytes(response.SerializeToString())
