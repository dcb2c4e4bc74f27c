"""The request that a CheckRequest describes.

Configured with `encode_raw_headers: true` the header fields arrive one by one
and as bytes; in the older map form repeated ones are already joined, and bytes
that are no UTF-8 already replaced.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from google.protobuf.message import DecodeError
from msgspec import Struct

from authz.reason import Reason
from authz.refusal import Refusal
from authz.request import BodyState, Gateway, Request
from authz.transport.address import parse_address
from authz.transport.body import body_state, is_partial_flag
from authz.transport.capability import NONE, Capability, capability
from authz.transport.certificate import from_escaped_pem
from authz.transport.check.entries import fields_of, split
from authz.transport.check.wire import Address, Check
from authz.transport.headers import GATEWAY_CAN, MOST_HEADERS, Fields, mark_joined
from authz.transport.request_id import request_id_of

_NONE_REPEATED: frozenset[str] = frozenset()
_ANNOUNCED = frozenset({"", "HTTP/1.0", "HTTP/1.1"})
_BODILESS = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})


class Read(Struct, frozen=True, gc=False):
    """A request and the `x-authz-*` fields that came with it although they are ours."""

    request: Request
    spoofed: list[str]


def read_check(message: bytes, gateway: Gateway, request_id: str, max_body: int) -> Read | Refusal:
    """The request of a serialized CheckRequest; why there is none."""
    try:
        attributes = Check.FromString(message).attributes
        http = attributes.request.http
        fields = _fields(http)
        if isinstance(fields, Refusal):
            return fields
        said = _said(tuple(attributes.context_extensions))
        source = attributes.source if gateway.proven else None
        peer = _peer(source.address) if source is not None else ""
    except DecodeError:
        return Refusal(Reason.BAD_METHOD, "The gateway sent a CheckRequest that is no valid protobuf.")
    plumbing = fields.gateway
    # The raw pseudo-header, if there is one: where a byte is no UTF-8 the attribute holds "!" in its place.
    method = plumbing.get(":method") or http.method
    target = plumbing.get(":path") or http.path
    if not method or not target:
        return Refusal(Reason.BAD_METHOD, "The CheckRequest describes no HTTP request.")
    doubled = fields.doubled
    if doubled:
        if ":path" in doubled or ":method" in doubled:
            return Refusal(Reason.BAD_PATH, "The CheckRequest describes several HTTP requests.")
        if ":authority" in doubled or "host" in doubled:
            return Refusal(Reason.BAD_HOST, "The request has several Host headers.")
    body = http.raw_body or http.body.encode()
    if len(body) > max_body:
        return Refusal(Reason.BODY_TOO_LARGE)
    ip = certificate = None
    can = NONE
    if source is not None:
        can, ip = said.can, _client(gateway, peer, plumbing)
        if (shown := source.certificate) != "":
            certificate = from_escaped_pem(shown)
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
        body_state=_state(len(body), plumbing, method, http.protocol, said.most),
        ip=ip,
        certificate=certificate,
        can_edit=can.edit,
        lease_ms=can.lease_ms,
    )
    return Read(request, fields.spoofed)


def _fields(http: Any) -> Fields | Refusal:
    """The header fields: one by one where Envoy sends them raw, else as the map that it made of them."""
    listed, mapped = http.header_map.headers, http.headers
    if len(listed) > MOST_HEADERS or len(mapped) > MOST_HEADERS:
        return Refusal(Reason.BAD_HEADER, f"The request has more than {MOST_HEADERS} headers.")
    if listed:
        fields = fields_of(listed)
        # Envoy keeps Authorization in a slot of its own and joins a second one to it even here.
        if "," in fields.client.get("authorization", ""):
            fields.repeated.add("authorization")
    else:
        fields = fields_of({split(entry)[0]: entry for entry in mapped}.values())  # of a key the last counts
        mark_joined(fields)
    if GATEWAY_CAN in fields.gateway:  # here the gateway says it in a context extension: a client wrote this
        fields.spoofed.append(GATEWAY_CAN)
    if fields.malformed is not None:
        return Refusal(Reason.BAD_HEADER, f"The header {fields.malformed} holds a control character.")
    return fields


class _Said(Struct, frozen=True):
    """What a route of the gateway's configuration says with each of its requests."""

    can: Capability = NONE
    most: int | None = None  # bytes of a body that the gateway buffers


@lru_cache(maxsize=256)
def _said(extensions: tuple[bytes, ...]) -> _Said:
    """Out of `context_extensions`, because nothing else in a CheckRequest tells it. Raises DecodeError."""
    told: Mapping[str, str] = {
        key: value.decode(errors="replace") for key, value in (split(entry) for entry in extensions)
    }
    can, most = told.get("can"), told.get("max_request_bytes")
    return _Said(
        capability(can) if can is not None else NONE,
        int(most) if most is not None and most.isascii() and most.isdigit() else None,
    )


def _state(
    received: int, plumbing: dict[str, str], method: str, protocol: str, most: int | None
) -> BodyState:
    """Whether the body is all there. `most`: as many bytes of it as the gateway buffers."""
    length = plumbing.get("content-length")
    state = body_state(
        received,
        length,
        plumbing.get("transfer-encoding"),
        most=most,
        # Only HTTP/2 and later can carry a body that no field announces.
        empty_is_none=most is not None or protocol in _ANNOUNCED or method in _BODILESS,
    )
    if state is BodyState.WHOLE and length is None:
        cut = is_partial_flag(plumbing.get("x-envoy-auth-partial-body"))
        return BodyState.PARTIAL if cut else BodyState.WHOLE
    return state


@lru_cache(maxsize=4096)
def _peer(address: bytes) -> str:
    """The IP address in a core.v3.Address as it is written there. Raises DecodeError."""
    return str(Address.FromString(address).socket_address.address)


def _client(gateway: Gateway, peer: str, plumbing: dict[str, str]) -> str | None:
    """Whoever is connected to Envoy, or who they say asked them, where they are a trusted proxy."""
    address = _canonical(peer)
    if address is None or gateway.hops is None:
        return address
    # Envoy may have appended the peer itself already (`use_remote_address`): once more is the same.
    return gateway.hops.client(f"{plumbing.get('x-forwarded-for', '')}, {address}")


@lru_cache(maxsize=4096)
def _canonical(peer: str) -> str | None:
    address = parse_address(peer)
    return str(address) if address is not None else None
