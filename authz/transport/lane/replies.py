"""Answers as they are sent: header blocks of literals that touch no table (RFC 7541 section 6.2.2).

https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

from struct import Struct

from authz.transport.lane.wire import DATA, END_HEADERS, END_STREAM, HEADERS, frame

_SAFE = frozenset(range(0x20, 0x7F)) - {0x25}  # of a grpc-message; all others as %XX
_LONGEST_TEXT = 1000  # bytes before escaping


def _integer(value: int, bits: int) -> bytes:
    """RFC 7541 section 5.1."""
    most = (1 << bits) - 1
    if value < most:
        return bytes((value,))
    value -= most
    octets = [most]
    while value > 127:
        octets.append(value & 127 | 128)
        value >>= 7
    octets.append(value)
    return bytes(octets)


def field(name: bytes, value: bytes) -> bytes:
    """A literal header field without indexing."""
    return b"\x00" + _integer(len(name), 7) + name + _integer(len(value), 7) + value


_STATUS_200 = b"\x88"  # of the static table
_GRPC = _STATUS_200 + field(b"content-type", b"application/grpc")
_DONE = field(b"grpc-status", b"0")

_head = frame(HEADERS, END_HEADERS, 0, _GRPC)
_done = frame(HEADERS, END_HEADERS | END_STREAM, 0, _DONE)
_BEFORE = Struct(f">5sI{len(_GRPC)}sBHBBIBI")  # HEADERS whole, then DATA's header and the message's prefix
_AFTER = Struct(f">5sI{len(_DONE)}s")
_HEAD_START, _DONE_START = _head[:5], _done[:5]


def whole(stream: int, message: bytes) -> bytes:
    """A complete answer of status OK, for a message that one DATA frame can carry."""
    size = len(message)
    length = size + 5
    before = _BEFORE.pack(_HEAD_START, stream, _GRPC, length >> 16, length & 0xFFFF, DATA, 0, stream, 0, size)
    return before + message + _AFTER.pack(_DONE_START, stream, _DONE)


def opening(stream: int) -> bytes:
    """The HEADERS before a message that goes out in pieces."""
    return frame(HEADERS, END_HEADERS, stream, _GRPC)


def closing(stream: int) -> bytes:
    """The trailers after it."""
    return frame(HEADERS, END_HEADERS | END_STREAM, stream, _DONE)


def prefixed(message: bytes) -> bytes:
    """A message as DATA carries it."""
    return b"\x00" + len(message).to_bytes(4, "big") + message


def refusal(stream: int, status: int, text: str) -> bytes:
    """A status without a message: headers that are trailers too ("Trailers-Only")."""
    block = _GRPC + field(b"grpc-status", b"%d" % status)
    if text:
        block += field(b"grpc-message", _escaped(text))
    # Whoever compressed learns what it may send (doc/compression.md).
    return frame(
        HEADERS, END_HEADERS | END_STREAM, stream, block + field(b"grpc-accept-encoding", b"identity")
    )


def plain(stream: int, status: int, *, ends: bool) -> bytes:
    """The HEADERS of an answer to what is no gRPC call."""
    block = field(b":status", b"%d" % status) + field(b"content-type", b"text/plain")
    return frame(HEADERS, END_HEADERS | (END_STREAM if ends else 0), stream, block)


def _escaped(text: str) -> bytes:
    octets = text.encode("utf-8", "replace")[:_LONGEST_TEXT]
    return b"".join(b"%c" % octet if octet in _SAFE else b"%%%02X" % octet for octet in octets)
