"""Undos that are owed: each tried until it has run, or its time is over."""

import asyncio
from collections import deque
from collections.abc import Callable

from authz.store.redis.batch import Call, Debt, script_words
from authz.store.redis.link import Undo

MOST = 10_000
"""Undos that may be owed at once; what is beyond is left to the reservation's own expiry."""

CHUNK = 200
"""Undos in one write: after an outage many are owed, and decisions shall not queue behind all of them."""

PAUSE = 0.05
"""Seconds until what could not be sent, or was refused, is tried again."""


class Undoing:
    """`push` takes a call and the key that decides about its server, and says whether it could be sent."""

    def __init__(self, push: Callable[[Call, str], bool]) -> None:
        self.given_up = 0  # undos that never ran: too many, or too late
        self._push = push
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Debt] = deque()
        self._sent = 0
        self._timer: asyncio.Handle | None = None
        self._stopped = False
        self._due = 0.0  # of the timer: uvloop's for at once does not tell

    @property
    def owed(self) -> int:
        """Undos of which it is not known that they ran."""
        return len(self._queue) + self._sent

    def owe(self, undo: Undo | Debt) -> None:
        """A call of unknown fate, or an undo that did not run."""
        if isinstance(undo, Undo):
            debt, pause = Debt(undo, self._loop.time() + undo.for_ms / 1000), 0.0
        else:
            self._sent -= 1
            debt, pause = undo, PAUSE
        if self._stopped or self.owed >= MOST:
            self.given_up += 1
            return
        self._queue.append(debt)
        self._try_in(pause)

    def paid(self) -> None:
        """One of them ran."""
        self._sent -= 1

    def hurry(self) -> None:
        """A server can be reached again."""
        if self._queue:
            self._try_in(0)

    def stop(self) -> None:
        """Give up what is owed, and what will be."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        self.given_up += len(self._queue)
        self._queue.clear()

    def _try_in(self, pause: float) -> None:
        due = self._loop.time() + pause
        if self._timer is not None:
            if self._due <= due:
                return
            self._timer.cancel()
        self._due = due
        self._timer = self._loop.call_at(due, self._try)

    def _try(self) -> None:
        self._timer = None
        now = self._loop.time()
        for _ in range(min(CHUNK, len(self._queue))):
            debt = self._queue.popleft()
            if debt.until < now:
                self.given_up += 1
                continue
            undo = debt.undo
            call = Call(None, script_words(undo.script, undo.keys, undo.args), undo.script, debt)
            if self._push(call, undo.keys[0]):
                self._sent += 1
            else:
                self._queue.append(debt)
        if self._queue:
            self._try_in(PAUSE)
