"""A decision as a serialized CheckResponse, put together from its bytes.

What many answers say alike is kept as it is written. Field numbers:
https://github.com/envoyproxy/envoy/blob/main/api/envoy/service/auth/v3/external_auth.proto
"""

from collections.abc import Sequence
from functools import lru_cache

from authz.decision import Allow, Decision, Deny, Header
from authz.reason import ANSWERS
from authz.transport.check.reading import Read
from authz.transport.dialect import rewritten, to_remove
from authz.transport.headers import encode

_STATUS, _DENIED, _OK, _METADATA = b"\x0a", b"\x12", b"\x1a", b"\x22"  # of a CheckResponse
_OK_HEADER, _OK_REMOVE, _OK_CLIENT_HEADER = b"\x12", b"\x2a", b"\x32"  # of an OkHttpResponse
_DENIED_STATUS, _DENIED_HEADER, _DENIED_BODY = b"\x0a", b"\x12", b"\x1a"  # of a DeniedHttpResponse
_KEY, _VALUE = b"\x0a", b"\x12"  # of a HeaderValue, and of an entry of a map
_TEXT, _TRUE = b"\x1a", b"\x20\x01"  # of a google.protobuf.Value: string_value, bool_value
_FIELDS = b"\x0a"  # of a google.protobuf.Struct
_CODE = b"\x08"  # of both kinds of status
_OVERWRITE = b"\x18\x02"  # append_action: OVERWRITE_IF_EXISTS_OR_ADD
_ALL_WELL = b"\x0a\x00"  # a status that says OK

# Of these every answer has another value: to remember them would push out what comes again.
_NEW_EACH_TIME = frozenset(
    {"x-authz-reservation", "x-authz-request-id", "x-request-id", "ratelimit", "retry-after-ms"}
    | {"x-ratelimit-remaining-requests", "x-ratelimit-remaining-tokens", "cookie"}
)


def _number(value: int) -> bytes:
    """A varint."""
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


_SHORT = tuple([_number(value) for value in range(1024)])


def _size(of: bytes) -> bytes:
    size = len(of)
    return _SHORT[size] if size < 1024 else _number(size)


def _field(tag: bytes, value: bytes) -> bytes:
    return tag + _size(value) + value


def allowed(read: Read, allow: Allow) -> bytes:
    """The answer that lets the request through."""
    parts = [_header(_OK_HEADER, header) for header in allow.upstream]
    if allow.query is not None:
        # Not query_parameters_to_remove: it knows a parameter only by its plain spelling.
        parts.append(_header(_OK_HEADER, (":path", rewritten(read.request, allow.query))))
    parts.append(_removals(tuple(to_remove(read.request, allow, read.spoofed))))
    parts += [_header(_OK_CLIENT_HEADER, header) for header in allow.client]
    return _ALL_WELL + _field(_OK, b"".join(parts)) + _field(_METADATA, _described(allow))


def denied(deny: Deny) -> bytes:
    """The answer that refuses it."""
    parts = [_field(_DENIED_STATUS, _CODE + _number(deny.status))]
    parts += [_header(_DENIED_HEADER, header) for header in deny.headers]
    parts.append(_field(_DENIED_BODY, deny.body))
    status = _field(_STATUS, _CODE + _number(ANSWERS[deny.reason].grpc))
    return status + _field(_DENIED, b"".join(parts)) + _field(_METADATA, _described(deny))


def _header(tag: bytes, header: Header) -> bytes:
    """A HeaderValueOption: set, whatever is there already.

    Always in `value`: from a response Envoy does not read `raw_value` and would
    set an empty header.
    """
    name, value = header
    return _spelled(tag, name, value) if name in _NEW_EACH_TIME else _remembered(tag, name, value)


def _spelled(tag: bytes, name: str, value: str) -> bytes:
    text = value.encode("ascii") if value.isascii() else _as_text(name, value)
    return _field(tag, _field(_KEY, _field(_KEY, name.encode()) + _field(_VALUE, text)) + _OVERWRITE)


_remembered = lru_cache(maxsize=16_384)(_spelled)


def _as_text(name: str, value: str) -> bytes:
    """What leaves as the same bytes that HTTP would carry, as far as those are UTF-8."""
    encoded = encode(name, value)
    try:
        encoded.decode("utf-8")
    except UnicodeDecodeError:
        return value.encode()
    return encoded


@lru_cache(maxsize=4096)
def _removals(names: Sequence[str]) -> bytes:
    return b"".join([_field(_OK_REMOVE, name.encode()) for name in names])


def _described(decision: Decision) -> bytes:
    """Dynamic metadata, for access logs and for the settlement that they bring."""
    subject = decision.subject
    parts = [
        _told("request_id", decision.request_id),
        _who(
            decision.reason.value,
            decision.route,
            decision.model,
            *((subject.user, subject.team, subject.key) if subject is not None else (None, None, None)),
        ),
    ]
    if decision.client_request_id:
        parts.append(_told("client_request_id", decision.client_request_id))
    if isinstance(decision, Allow) and decision.reservation is not None:
        parts.append(_told("reservation", decision.reservation))
        if decision.edit is not None:
            parts.append(_told("edit", decision.edit))
        if decision.may_overrun:
            parts.append(_so("may_overrun"))
        if decision.without_store:
            parts.append(_so("without_store"))
    return b"".join(parts)


@lru_cache(maxsize=16_384)
def _who(
    reason: str, route: str | None, model: str | None, user: str | None, team: str | None, key: str | None
) -> bytes:
    named = {"reason": reason, "route": route, "model": model, "user": user, "team": team, "key": key}
    return b"".join([_told(name, text) for name, text in named.items() if text is not None])


def _told(name: str, text: str) -> bytes:
    """A member of a google.protobuf.Struct."""
    value = _field(_TEXT, text.encode())
    return _field(_FIELDS, _field(_KEY, name.encode()) + _field(_VALUE, value))


def _so(name: str) -> bytes:
    return _field(_FIELDS, _field(_KEY, name.encode()) + _field(_VALUE, _TRUE))
