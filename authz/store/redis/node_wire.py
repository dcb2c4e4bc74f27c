"""One connection: what was asked, in order, and the replies, in the same order."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol, cast

import hiredis

from authz.store.redis.batch import Call
from authz.store.redis.errors import Refused

_MORE = object()  # a reply that did not arrive as a whole yet


class Listener(Protocol):
    """What a wire tells."""

    def refused(self, call: Call, error: Refused) -> None:
        """An error instead of a reply."""
        ...

    def answered(self, calls: int, begun: float) -> None:
        """Replies to calls of one write, that someone waited for; `begun` is theirs."""
        ...

    def unwanted(self, call: Call) -> None:
        """A reply that nobody waits for: an undo's, a late one, one of a cancelled call."""
        ...

    def lost(self, wire: "Wire", calls: Sequence[Call]) -> None:
        """The connection ended; these have no reply."""
        ...


class Wire(asyncio.Protocol):
    """A protocol of asyncio. Parses with hiredis; a call costs one `popleft` and one `set_result`."""

    def __init__(self, listener: Listener) -> None:
        self.waiting: deque[Call] = deque()
        self.heard = 0  # replies that someone waited for
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()  # of no more use
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()  # and closed
        self._listener = listener
        self._reader = _reader()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def write(self, calls: Sequence[Call], packed: bytes) -> None:
        """Send calls, packed in their order."""
        if self._transport is None or self.ended.done():
            self._listener.lost(self, calls)
            return
        self.waiting.extend(calls)
        self._transport.write(packed)

    def data_received(self, data: bytes) -> None:
        reader, waiting, listener = self._reader, self.waiting, self._listener
        reader.feed(data)
        answered, begun = 0, 0.0  # calls of one write, counted together
        try:
            while (reply := reader.gets()) is not _MORE:
                call = waiting.popleft()
                if reply.__class__ is Refused:
                    listener.refused(call, reply)
                    continue
                future = call.future
                if future is None or future.done():
                    listener.unwanted(call)
                else:
                    self.heard += 1
                    if call.begun != begun:
                        listener.answered(answered, begun)
                        answered, begun = 0, call.begun
                    answered += 1
                    future.set_result(reply)
        except (hiredis.ProtocolError, IndexError):  # not Redis, or it says more than it was asked
            self.abort()
        listener.answered(answered, begun)

    def connection_lost(self, error: Exception | None) -> None:
        self.gone.set_result(None)
        self._end()

    def abort(self) -> None:
        """Forget the connection: whatever was written may still run."""
        if self._transport is not None:
            self._transport.abort()
        self._end()

    def _end(self) -> None:
        if self.ended.done():
            return
        self.ended.set_result(None)
        calls = list(self.waiting)
        self.waiting.clear()
        self._listener.lost(self, calls)


def _reader() -> Any:
    return hiredis.Reader(protocolError=hiredis.ProtocolError, replyError=Refused, notEnoughData=_MORE)
