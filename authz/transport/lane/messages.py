"""gRPC's messages out of the bytes of DATA frames: a flag, a length, the message."""

from authz.transport.lane.status import INTERNAL, RESOURCE_EXHAUSTED, UNIMPLEMENTED, Refused

PREFIX = 5  # bytes


class Messages:
    """Collects the bytes of one stream."""

    __slots__ = ("_bytes", "_largest", "_need")

    def __init__(self, largest: int) -> None:
        self._bytes = bytearray()
        self._largest = largest
        self._need = -1  # of the message that is arriving; -1 until its prefix is here

    def __len__(self) -> int:
        """Bytes held."""
        return len(self._bytes)

    def add(self, data: bytes) -> None:
        self._bytes += data

    def excess(self) -> int:
        """How many bytes follow the message that is arriving; negative while some are missing.

        Raises Refused for a message that we do not take.
        """
        if len(self._bytes) < PREFIX:
            return -1
        return len(self._bytes) - PREFIX - message_size(self._bytes, self._largest)

    def take(self) -> bytes | None:
        """The next message where it is whole. Raises Refused for one that we do not take."""
        if self._need < 0:
            if len(self._bytes) < PREFIX:
                return None
            self._need = message_size(self._bytes, self._largest)
        end = PREFIX + self._need
        if len(self._bytes) < end:
            return None
        message = bytes(memoryview(self._bytes)[PREFIX:end])
        del self._bytes[:end]
        self._need = -1
        return message


def message_size(data: bytes | bytearray, largest: int) -> int:
    """What the first five bytes announce. Raises Refused for a message that we do not take."""
    if data[0]:
        if data[0] == 1:
            raise Refused(UNIMPLEMENTED, "Compressed messages are not taken.")
        raise Refused(INTERNAL, "The message's prefix is malformed.")
    size = data[1] << 24 | data[2] << 16 | data[3] << 8 | data[4]
    if size > largest:
        raise Refused(RESOURCE_EXHAUSTED, f"The message is larger than {largest} bytes.")
    return size
