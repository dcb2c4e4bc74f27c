"""What a stream's number tells once the stream is gone (RFC 9113 sections 5.1 and 5.1.1)."""

from authz.transport.lane.wire import PROTOCOL_ERROR, STREAM_CLOSED, ConnectionFault

_MOST_REMEMBERED = 1024
_MOST_GAPS = 16


class Numbers:
    """Of one connection's streams. A peer counts up by two; what it skips is closed unopened."""

    __slots__ = ("_gaps", "_left", "last")

    def __init__(self) -> None:
        self.last = 0  # the highest that was opened
        self._gaps: list[tuple[int, int]] = []
        self._left: dict[int, None] = {}

    def open(self, number: int) -> None:
        """A header block for a stream that is not open. Raises ConnectionFault where none can begin."""
        if not number & 1:
            raise ConnectionFault(PROTOCOL_ERROR, "a request on a stream of even number")
        if number <= self.last:
            if any(first <= number <= end for first, end in self._gaps):
                raise ConnectionFault(PROTOCOL_ERROR, "a stream of a lower number than one before")
            raise ConnectionFault(STREAM_CLOSED, "a header block for a stream that is closed")
        if number != self.last + 2 and number > 1:
            self._gaps.append((self.last + 1, number - 1))
            del self._gaps[:-_MOST_GAPS]
        self.last = number

    def leave(self, number: int) -> None:
        """We ended it before the peer did: what is still on its way is no fault of the peer's."""
        self._left[number] = None
        if len(self._left) > _MOST_REMEMBERED:
            del self._left[next(iter(self._left))]

    def was_left(self, number: int) -> bool:
        return number in self._left

    def is_idle(self, number: int) -> bool:
        """Whether it was never opened, and no higher one of the peer's; ours are never opened."""
        return number > self.last or not number & 1
