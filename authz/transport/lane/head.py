"""Reads a request's header fields: well-formed (RFC 9113 sections 8.2, 8.3), a gRPC call, which one."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from authz.transport.lane.routes import Caller, ClientStream, Routes, Unary
from authz.transport.lane.status import INTERNAL, UNIMPLEMENTED

Field = tuple[bytes, bytes]

_PSEUDO = frozenset({b":method", b":scheme", b":path", b":authority"})
_OF_A_CONNECTION = frozenset(
    {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"}
)
_NAME = re.compile(rb"[!-9;-@\[-~]+")  # section 8.2.1: visible, no capital letter, no colon
_BAD_VALUE = re.compile(rb"[\x00\r\n]|\A[ \t]|[ \t]\Z")
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}


class Head(Struct, frozen=True, kw_only=True):
    """What a header block means when it opens a call. `fields` are what it holds, whatever it is."""

    fields: Sequence[Field]
    malformed: bool = False
    http: int = 200  # what the request is answered with; anything else than 200 is final
    answers_body: bool = True
    refusal: tuple[int, str] | None = None  # a gRPC status that is certain before any message came
    unary: Unary | None = None
    streaming: ClientStream | None = None
    timeout: float | None = None  # seconds (`grpc-timeout`)
    length: int | None = None  # `content-length`
    caller: Any = None  # as it was recognized


def read_head(
    fields: Sequence[Field],
    routes: Routes,
    recognize: Callable[[Caller], Any],
    largest: int,
    peer: object,
    tls: object,
) -> Head:
    """`largest` is in bytes as SETTINGS_MAX_HEADER_LIST_SIZE counts them."""
    pseudo = _pseudo(fields)
    rest = fields[len(pseudo) :] if pseudo is not None else ()
    if pseudo is None or not _plain(rest):
        return Head(fields=fields, malformed=True)
    lengths = {value for name, value in rest if name == b"content-length"}
    length = lengths.pop() if lengths else None
    if lengths or (length is not None and not (length.isdigit() and len(length) < 20)):
        return Head(fields=fields, malformed=True)
    announced = int(length) if length is not None else None
    method = pseudo[b":method"]
    if sum(len(name) + len(value) + 32 for name, value in fields) > largest:
        return Head(fields=fields, http=431, answers_body=method != b"HEAD", length=announced)
    if method != b"POST":
        return Head(fields=fields, http=405, answers_body=method != b"HEAD", length=announced)
    types = [value for name, value in rest if name == b"content-type"]
    if len(types) != 1 or not _is_grpc(types[0]):
        return Head(fields=fields, http=415, length=announced)
    path = pseudo[b":path"].decode("latin-1")
    route = routes.get(path)
    timeouts = [value for name, value in rest if name == b"grpc-timeout"]
    timeout = _seconds(timeouts[0]) if len(timeouts) == 1 else None
    refusal = None
    if route is None:
        refusal = UNIMPLEMENTED, f"There is no method {path[:200]}."
    elif timeouts and timeout is None:
        refusal = INTERNAL, "The grpc-timeout is malformed."
    return Head(
        fields=fields,
        refusal=refusal,
        unary=route if isinstance(route, Unary) else None,
        streaming=route if isinstance(route, ClientStream) else None,
        timeout=timeout,
        length=announced,
        caller=recognize(Caller(tuple([_text(name, value) for name, value in rest]), peer, tls)),
    )


def are_trailers(fields: Sequence[Field]) -> bool:
    """Whether these may end a request (section 8.1): no pseudo-header fields, and well-formed."""
    return _plain(fields)


def _pseudo(fields: Sequence[Field]) -> dict[bytes, bytes] | None:
    """The pseudo-header fields, which come first and once each; None where they are malformed."""
    found: dict[bytes, bytes] = {}
    for name, value in fields:
        if not name.startswith(b":"):
            break
        if name not in _PSEUDO or name in found or _BAD_VALUE.search(value):
            return None
        found[name] = value
    if not (found.get(b":method") and found.get(b":scheme") and found.get(b":path")):
        return None
    return found


def _plain(fields: Sequence[Field]) -> bool:
    return all(
        _NAME.fullmatch(name) is not None
        and _BAD_VALUE.search(value) is None
        and name not in _OF_A_CONNECTION
        and (name != b"te" or value == b"trailers")
        for name, value in fields
    )


def _text(name: bytes, value: bytes) -> tuple[str, str]:
    return name.decode("latin-1"), value.decode("latin-1")


def _is_grpc(value: bytes) -> bool:
    value = value.lower()
    return value == b"application/grpc" or value.startswith((b"application/grpc+", b"application/grpc;"))


def _seconds(text: bytes) -> float | None:
    match = _TIMEOUT.fullmatch(text)
    return int(match[1]) * _UNITS[match[2]] if match is not None else None
