"""Frames and error codes of HTTP/2 (RFC 9113 sections 4.1, 6, 7), and the two ways to fail (section 5.4)."""

from struct import Struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # section 3.4

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    range(10)
)

END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
HAS_PRIORITY = 0x20

NO_ERROR = 0x0
PROTOCOL_ERROR = 0x1
INTERNAL_ERROR = 0x2
FLOW_CONTROL_ERROR = 0x3
SETTINGS_TIMEOUT = 0x4
STREAM_CLOSED = 0x5
FRAME_SIZE_ERROR = 0x6
REFUSED_STREAM = 0x7
CANCEL = 0x8
COMPRESSION_ERROR = 0x9
ENHANCE_YOUR_CALM = 0xB
INADEQUATE_SECURITY = 0xC
ERROR_NAMES = {
    NO_ERROR: "NO_ERROR",
    PROTOCOL_ERROR: "PROTOCOL_ERROR",
    INTERNAL_ERROR: "INTERNAL_ERROR",
    FLOW_CONTROL_ERROR: "FLOW_CONTROL_ERROR",
    SETTINGS_TIMEOUT: "SETTINGS_TIMEOUT",
    STREAM_CLOSED: "STREAM_CLOSED",
    FRAME_SIZE_ERROR: "FRAME_SIZE_ERROR",
    COMPRESSION_ERROR: "COMPRESSION_ERROR",
    ENHANCE_YOUR_CALM: "ENHANCE_YOUR_CALM",
    INADEQUATE_SECURITY: "INADEQUATE_SECURITY",
}  # with which a connection ends

LARGEST_FRAME = 16_384  # bytes of payload; the least that anybody must take, and what we take (section 4.2)
LARGEST_WINDOW = 2**31 - 1  # section 6.9.1
DEFAULT_WINDOW = 65_535  # of a stream and of a connection, until told otherwise (section 6.9.2)
LARGEST_STREAM = 2**31 - 1

HEADER = Struct(">BHBBI")  # of a frame: length in two pieces, type, flags, stream
HEADER_SIZE = HEADER.size


class ConnectionFault(Exception):
    """The connection cannot go on (section 5.4.1): GOAWAY with this code and text, then it is closed."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class StreamFault(Exception):
    """One stream cannot go on (section 5.4.2): RST_STREAM with this code."""

    def __init__(self, stream: int, code: int) -> None:
        super().__init__(f"stream {stream}: error {code}")
        self.stream = stream
        self.code = code


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame as it is sent. The payload has to be within what the peer takes."""
    length = len(payload)
    return HEADER.pack(length >> 16, length & 0xFFFF, kind, flags, stream) + payload


def number(value: int) -> bytes:
    """Four bytes: an error code, a window's increment, a stream."""
    return value.to_bytes(4, "big")


def settings(pairs: dict[int, int]) -> bytes:
    """A SETTINGS frame (section 6.5)."""
    payload = b"".join(name.to_bytes(2, "big") + number(value) for name, value in pairs.items())
    return frame(SETTINGS, 0, 0, payload)


def goaway(last_stream: int, code: int, text: str = "") -> bytes:
    """A GOAWAY frame (section 6.8); the text is for whoever reads the peer's log."""
    return frame(GOAWAY, 0, 0, number(last_stream) + number(code) + text.encode("ascii", "replace"))


def unpadded(flags: int, payload: bytes) -> bytes:
    """The payload of a DATA or HEADERS frame without its padding (sections 6.1 and 6.2)."""
    if not flags & PADDED:
        return payload
    if not payload:
        raise ConnectionFault(FRAME_SIZE_ERROR, "a padded frame without the length of its padding")
    padding = payload[0]
    if padding >= len(payload):
        raise ConnectionFault(PROTOCOL_ERROR, "more padding than frame")
    return payload[1 : len(payload) - padding]
