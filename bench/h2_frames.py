"""As much of HTTP/2 (RFC 9113) as a client needs that writes its requests once and sends them often."""

import struct
from collections.abc import Iterator, Mapping

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
WIDE = (1 << 31) - 1


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload) << 8 | kind) + struct.pack(">BI", flags, stream) + payload


def opening() -> bytes:
    """What a client says first: no table for header fields, and windows that never close."""
    settings = struct.pack(">HIHI", 1, 0, 4, WIDE)
    return (
        PREFACE
        + frame(SETTINGS, 0, 0, settings)
        + frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", WIDE - 65535))
    )


def header_block(fields: Mapping[str, str]) -> bytes:
    """Literal fields that touch no table (RFC 7541 section 6.2.2); names and values below 127 bytes."""
    block = b""
    for name, value in fields.items():
        for text in (b"\0" + bytes((len(name),)) + name.encode(), bytes((len(value),)) + value.encode()):
            block += text
        if max(len(name), len(value)) > 126:
            raise ValueError(f"{name} is too long for this client")
    return block


def frames(buffer: bytearray) -> Iterator[tuple[int, int, int, bytes]]:
    """(kind, flags, stream, payload) of what has arrived whole, which is taken out of the buffer."""
    at, size = 0, len(buffer)
    while size - at >= 9:
        length = buffer[at] << 16 | buffer[at + 1] << 8 | buffer[at + 2]
        end = at + 9 + length
        if end > size:
            break
        stream = int.from_bytes(buffer[at + 5 : at + 9], "big") & WIDE
        yield buffer[at + 3], buffer[at + 4], stream, bytes(buffer[at + 9 : end])
        at = end
    del buffer[:at]
