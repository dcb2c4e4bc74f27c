"""What the peer told us of itself (RFC 9113 section 6.5.2).

Our header blocks use no table of the peer's, so its size is no matter.
"""

from struct import Struct as Layout

from msgspec import Struct

from authz.transport.lane.wire import (
    DEFAULT_WINDOW,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    LARGEST_FRAME,
    LARGEST_WINDOW,
    PROTOCOL_ERROR,
    ConnectionFault,
)

ENABLE_PUSH = 0x2
MAX_CONCURRENT_STREAMS = 0x3
INITIAL_WINDOW_SIZE = 0x4
MAX_FRAME_SIZE = 0x5
MAX_HEADER_LIST_SIZE = 0x6

_PAIR = Layout(">HI")


class PeerSettings(Struct, frozen=True):
    """In bytes."""

    window: int = DEFAULT_WINDOW
    largest_frame: int = LARGEST_FRAME

    def changed_by(self, payload: bytes) -> "PeerSettings":
        """After a SETTINGS frame. What stands twice counts as it stands last; unknown ones are ignored."""
        if len(payload) % _PAIR.size:
            raise ConnectionFault(FRAME_SIZE_ERROR, "SETTINGS of a length that is no multiple of 6")
        window, largest = self.window, self.largest_frame
        for name, value in _PAIR.iter_unpack(payload):
            if name == INITIAL_WINDOW_SIZE:
                if value > LARGEST_WINDOW:
                    raise ConnectionFault(FLOW_CONTROL_ERROR, "an initial window above 2^31-1")
                window = value
            elif name == MAX_FRAME_SIZE:
                if not LARGEST_FRAME <= value < 1 << 24:
                    raise ConnectionFault(PROTOCOL_ERROR, "a largest frame out of its range")
                largest = value
            elif name == ENABLE_PUSH and value > 1:
                raise ConnectionFault(PROTOCOL_ERROR, "ENABLE_PUSH is 0 or 1")
        return PeerSettings(window, largest)
