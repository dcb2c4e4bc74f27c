"""One call on a connection."""

from asyncio import Task, TimerHandle
from typing import Any

from authz.transport.lane.feed import Feed
from authz.transport.lane.head import Head
from authz.transport.lane.messages import Messages


class Stream:
    """From its header block until both sides have ended it."""

    __slots__ = (
        "credit",
        "ended",
        "feed",
        "head",
        "held",
        "messages",
        "number",
        "pending",
        "received",
        "stalled_since",
        "task",
        "timer",
        "trailers",
        "uncredited",
        "window",
    )

    def __init__(self, number: int, head: Head, window: int) -> None:
        self.number = number
        self.head = head
        self.ended = False  # by the peer
        self.window = window  # bytes that the peer may still send
        self.uncredited = 0  # bytes consumed that the peer does not know of yet
        self.received = 0  # bytes of DATA without padding
        self.held = 0  # bytes of messages that are not handed over yet
        self.credit = 0  # what the peer added to its initial window, less what we sent
        self.messages: Messages | None = None
        self.feed: Feed | None = None
        self.task: Task[Any] | None = None
        self.timer: TimerHandle | None = None
        self.pending: memoryview | None = None  # of an answer that waits for a window
        self.trailers = b""  # that follow it, with or without frames
        self.stalled_since: float | None = None
