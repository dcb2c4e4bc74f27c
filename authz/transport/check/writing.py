"""A decision as a serialized CheckResponse, put together from its bytes.

What many answers say alike is kept as it is written. Field numbers:
https://github.com/envoyproxy/envoy/blob/main/api/envoy/service/auth/v3/external_auth.proto
"""

from collections.abc import Sequence
from functools import lru_cache

from authz.decision import Allow, Decision, Deny, Header
from authz.reason import ANSWERS
from authz.recent import Recent
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
_MOST_KEPT = 16_384


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
    steady, who = _steady(allow)
    parts = [steady]
    _add_headers(parts, _OK_HEADER, allow.upstream[len(allow.steady) :])
    if allow.query is not None:
        # Not query_parameters_to_remove: it knows a parameter only by its plain spelling.
        _add_headers(parts, _OK_HEADER, ((":path", rewritten(read.request, allow.query)),))
    parts.append(_removals(allow.remove))
    gone = to_remove(read.request, allow, read.spoofed)
    if gone is not allow.remove:
        parts.append(_removal(gone[len(allow.remove) :]))
    _add_headers(parts, _OK_CLIENT_HEADER, allow.client)
    ok = b"".join(parts)
    metadata = who + _described(allow)
    return b"".join((_ALL_WELL, _OK, _size(ok), ok, _METADATA, _size(metadata), metadata))


def denied(deny: Deny) -> bytes:
    """The answer that refuses it."""
    parts = [_field(_DENIED_STATUS, _CODE + _number(deny.status))]
    _add_headers(parts, _DENIED_HEADER, deny.headers)
    parts.append(_field(_DENIED_BODY, deny.body))
    status = _field(_STATUS, _CODE + _number(ANSWERS[deny.reason].grpc))
    return status + _field(_DENIED, b"".join(parts)) + _field(_METADATA, _who(deny) + _described(deny))


_kept: Recent[int, tuple[Sequence[Header], bytes, bytes]] = Recent(_MOST_KEPT)


def _steady(allow: Allow) -> tuple[bytes, bytes]:
    """What all answers to the caller share: of the headers, and of the metadata.

    Told by the identity of the headers, which are made once for a caller on a route.
    """
    kept = _kept.get(id(allow.steady))
    if kept is None or kept[0] is not allow.steady:
        parts: list[bytes] = []
        _add_headers(parts, _OK_HEADER, allow.steady)
        kept = (allow.steady, b"".join(parts), _who(allow))
        if allow.steady:
            _kept.put(id(allow.steady), kept)
    return kept[1], kept[2]


_heads: dict[tuple[bytes, str, int], bytes] = {}


def _add_headers(parts: list[bytes], tag: bytes, headers: Sequence[Header]) -> None:
    """Each as a HeaderValueOption: set, whatever is there already.

    Always in `value`: from a response Envoy does not read `raw_value` and would
    set an empty header.
    """
    heads = _heads
    for name, value in headers:
        text = value.encode() if value.isascii() else _as_text(name, value)
        parts += (heads.get((tag, name, len(text))) or _head(tag, name, len(text)), text, _OVERWRITE)


def _head(tag: bytes, name: str, size: int) -> bytes:
    """All that stands before a value of so many bytes."""
    inner = _field(_KEY, name.encode()) + _VALUE + _number(size)
    held = len(inner) + size
    outer = _KEY + _number(held) + inner
    head = tag + _number(len(outer) + size + len(_OVERWRITE)) + outer
    if len(_heads) >= _MOST_KEPT:
        _heads.clear()
    _heads[tag, name, size] = head
    return head


def _as_text(name: str, value: str) -> bytes:
    """What leaves as the same bytes that HTTP would carry, as far as those are UTF-8."""
    encoded = encode(name, value)
    try:
        encoded.decode("utf-8")
    except UnicodeDecodeError:
        return value.encode()
    return encoded


def _removal(names: tuple[str, ...]) -> bytes:
    return b"".join([_field(_OK_REMOVE, name.encode()) for name in names])


_removals = lru_cache(maxsize=1024)(_removal)  # of names that the configuration knows, none of a client's


def _described(decision: Decision) -> bytes:
    """Dynamic metadata, for access logs and for the settlement that they bring: what is of one request."""
    described = _told("request_id", decision.request_id)
    if decision.client_request_id:
        described += _told("client_request_id", decision.client_request_id)
    if isinstance(decision, Allow) and decision.reservation is not None:
        described += _told("reservation", decision.reservation)
        if decision.edit is not None:
            described += _told("edit", decision.edit)
        if decision.may_overrun:
            described += _so("may_overrun")
        if decision.without_store:
            described += _so("without_store")
    return described


def _who(decision: Decision) -> bytes:
    """The rest of it."""
    subject = decision.subject
    named = {"reason": decision.reason.value, "route": decision.route, "model": decision.model}
    if subject is not None:
        named |= {"user": subject.user, "team": subject.team, "key": subject.key}
    return b"".join([_told(name, text) for name, text in named.items() if text is not None])


def _told(name: str, text: str) -> bytes:
    """A member of a google.protobuf.Struct."""
    value = text.encode()
    head = _heads.get((_FIELDS, name, len(value))) or _text_head(name, len(value))
    return head + value


def _text_head(name: str, size: int) -> bytes:
    inner = _TEXT + _number(size)
    outer = _field(_KEY, name.encode()) + _VALUE + _number(len(inner) + size) + inner
    head = _FIELDS + _number(len(outer) + size) + outer
    if len(_heads) >= _MOST_KEPT:
        _heads.clear()
    _heads[_FIELDS, name, size] = head
    return head


def _so(name: str) -> bytes:
    return _field(_FIELDS, _field(_KEY, name.encode()) + _field(_VALUE, _TRUE))
