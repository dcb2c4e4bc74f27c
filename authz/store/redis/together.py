"""Requests that nobody settles, counted together: all that one tick of the event loop asks for is one call.

Each still makes all of its holds or none, in the order in which they came. A call without a timely answer is
taken back whole; of one that was answered, those are taken back whose callers went away meanwhile.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from authz.quota import MAX_AMOUNT, Unit
from authz.store.protocols import Exhausted, Hold, Kind, Level, Reserved, StoreUnavailable
from authz.store.redis import names, scripts
from authz.store.redis.calls import CANCELLED_MS, Calls, unanswered
from authz.store.redis.link import Undo
from authz.store.redis.scripts import Status

MOST_HOLDS = 128
"""In one call, unless one request alone has more: so many keep Redis for less than a millisecond."""

ALL = b""  # of the requests of a call

_FIXED, _REQUESTS = Kind.FIXED, Unit.REQUESTS
_RESERVED, _NO_ROOM = Status.RESERVED.value, Status.NO_ROOM.value

_encode = msgspec.msgpack.Encoder().encode

Answer = Reserved | Exhausted
Asked = tuple["asyncio.Future[Answer]", Sequence[Hold]]


def can_be_together(gateway: str, holds: Sequence[Hold], facts: bytes) -> bool:
    """Whether these are of a request that nobody repeats, settles or extends, all in fixed windows."""
    if gateway or facts or not holds:
        return False
    for hold in holds:
        if hold.kind is not _FIXED or hold.unit is not _REQUESTS or hold.owner or hold.owed:
            return False
    return True


class Together:
    """Of one shard. `reserve` is for the event loop only."""

    def __init__(self, calls: Calls, shard: str, new_name: Callable[[], str]) -> None:
        """`new_name` is one of a call alone, among all processes."""
        self._calls = calls
        self._keys = (names.running(shard),)
        self._new_name = new_name
        self._loop = asyncio.get_running_loop()
        self._asked: list[Asked] = []
        self._holds = 0  # of all that was asked
        self._windows: dict[str, int] = {}  # by counter
        self._ttl_ms = 0

    def reserve(self, holds: Sequence[Hold], ttl_ms: int) -> "asyncio.Future[Answer]":
        """Holds that `can_be_together` and are `sendable`. Raises StoreUnavailable.

        Within `ttl_ms` it can be taken back, and is, unless its answer comes in time.
        """
        if self._asked and not self._is_room_for(holds):
            self._send()  # what comes next is another call, behind this one
        future: asyncio.Future[Answer] = self._loop.create_future()
        if not self._asked:
            self._loop.call_soon(self._send)
        self._asked.append((future, holds))
        self._holds += len(holds)
        for hold in holds:
            self._windows[hold.key] = hold.window
        if ttl_ms > self._ttl_ms:
            self._ttl_ms = ttl_ms
        return future

    def _is_room_for(self, holds: Sequence[Hold]) -> bool:
        """In a call a counter has one window: under another it is another counter, that begins empty."""
        if self._holds + len(holds) > MOST_HOLDS:
            return False
        windows = self._windows
        return all(windows.get(hold.key, hold.window) == hold.window for hold in holds)

    def _send(self) -> None:
        asked, ttl_ms = [each for each in self._asked if not each[0].done()], self._ttl_ms
        self._asked, self._holds, self._windows, self._ttl_ms = [], 0, {}, 0
        if not asked:
            return
        try:
            _Call(self._calls, self._keys, self._new_name(), asked, ttl_ms)
        except Exception as error:
            for future, _ in asked:  # whatever it is: nobody waits for ever
                future.set_exception(error)


class _Call:
    """One call, from when it is sent."""

    __slots__ = ("_asked", "_calls", "_counters", "_keys", "_name", "_places", "_requests")

    def __init__(
        self, calls: Calls, keys: tuple[str], name: str, asked: Sequence[Asked], ttl_ms: int
    ) -> None:
        self._calls, self._keys, self._name, self._asked = calls, keys, name, asked
        places: dict[str, int] = {}
        counters: list[str | int] = []
        requests: list[int] = []
        for _, holds in asked:
            requests.append(len(holds))
            for hold in holds:
                place = places.get(hold.key)
                if place is None:
                    place = places[hold.key] = len(places) + 1
                    counters += (hold.key, hold.window, hold.quota)
                requests += (place, hold.quota, hold.amount, 1 if hold.shadow else 0)
        self._places = places
        self._counters, self._requests = _encode(counters), _encode(requests)
        words = (calls.now, name, ttl_ms, calls.most_counters, self._counters, self._requests)
        calls.link.run(scripts.COUNT, keys, words, undo=self._undo(ALL)).add_done_callback(self._answered)

    def _undo(self, which: bytes) -> Undo:
        words = (self._calls.now, self._name, CANCELLED_MS, self._counters, self._requests, which)
        return Undo(scripts.TAKE_BACK, self._keys, words)

    def _answered(self, done: "asyncio.Future[Any]") -> None:
        try:
            reply = done.result()
            if reply[0] != _RESERVED:
                raise unanswered(reply[0])
        except StoreUnavailable as failure:
            for future, _ in self._asked:
                if not future.done():
                    future.set_exception(StoreUnavailable(*failure.args))
            return
        gone = []
        places, verdicts = self._places, reply[1]
        at = 2 + 2 * len(places)  # of what was used
        for number, (future, holds) in enumerate(self._asked):
            verdict = verdicts[number]
            if future.done():  # cancelled
                gone.append(number + 1)
            elif verdict == _NO_ROOM:
                future.set_exception(unanswered(verdict))
            else:
                future.set_result(_answer(verdict == _RESERVED, holds, places, reply, at))
            at += len(holds)
        if gone:
            undo = self._undo(_encode(gone))
            self._calls.link.run(undo.script, undo.keys, undo.args, undo=undo)


def _answer(
    made: bool, holds: Sequence[Hold], places: dict[str, int], reply: Sequence[Any], at: int
) -> Answer:
    """`at` is where `reply` begins to tell what was used of the counters before."""
    levels, unfit, wait = [], [], 0
    for index, hold in enumerate(holds):
        of_counter = 2 * places[hold.key]
        reset, held = reply[of_counter], reply[of_counter + 1]
        used, amount, quota = reply[at + index], hold.amount, hold.quota
        if amount > 0 and amount > quota - used and (made or not hold.shadow):
            unfit.append(index)
            wait = -1 if amount > quota or wait < 0 else max(wait, reset, 1)
        if made:
            used = min(MAX_AMOUNT, used + amount)
        left = quota - used
        levels.append(Level(left if left > 0 else 0, reset, min(held, used)))
    if made:
        return Reserved(tuple(levels), over=tuple(unfit))
    return Exhausted(tuple(unfit), wait, tuple(levels))
