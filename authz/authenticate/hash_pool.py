"""Slow hashes, off the event loop: few threads of low priority behind a short queue, fair to its origins.

Whoever had the fewest wrong passwords lately goes first. So a flood waits behind
itself, and everybody else goes before it (attack 74).
"""

import asyncio
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

from msgspec import Struct

from authz.recent import Recent

MOST_WAITING = 256  # checks
MOST_OF_AN_ORIGIN = 8
PATIENCE = 1.5  # seconds from the question to the answer; gateways wait 2 s for everything
MOST_ORIGINS = 16_384  # remembered with their wrong passwords
HALF_LIFE = 60.0  # seconds in which half of the wrong passwords are forgiven

_NICENESS = 10
_MOST_THREADS = 4

Check = Callable[[], bool]
Learned = Callable[[bool], None]


class _Waiting(Struct, eq=False):
    check: Check
    learned: Learned
    origin: str
    number: int  # in the order of arrival
    answer: "asyncio.Future[bool | None]"
    timer: asyncio.TimerHandle | None = None


class HashPool:
    """Runs checks on half of the processors, four at most.

    One that was not answered within `patience` seconds is answered with None. If
    it runs by then it runs on, so that whoever tries again need not wait for it.
    """

    def __init__(
        self,
        *,
        threads: int | None = None,
        patience: float = PATIENCE,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._free = threads or max(1, min(_MOST_THREADS, (os.cpu_count() or 1) // 2))
        self._patience = patience
        self._now = now
        self._queues: dict[str, deque[_Waiting]] = {}
        self._count = 0
        self._arrived = 0
        self._wrong: Recent[str, tuple[int, float]] = Recent(MOST_ORIGINS)  # how many, and when the last
        self._threads = ThreadPoolExecutor(self._free, thread_name_prefix="authz-hash", initializer=_be_nice)
        self._closed = False

    def submit(self, origin: str, check: Check, learned: Learned) -> "asyncio.Future[bool | None]":
        """A bare future of the answer; None: too busy to answer in time. Needs a running loop.

        `learned` is told the outcome, on the loop, also where it comes too late for the answer.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bool | None] = loop.create_future()
        queue = self._queues.get(origin)
        full = self._count >= MOST_WAITING or (queue is not None and len(queue) >= MOST_OF_AN_ORIGIN)
        if self._closed or full:
            answer.set_result(None)
            return answer
        self._arrived += 1
        waiting = _Waiting(check, learned, origin, self._arrived, answer)
        waiting.timer = loop.call_later(self._patience, self._give_up, waiting)
        self._queues.setdefault(origin, deque()).append(waiting)
        self._count += 1
        self._run()
        return answer

    def close(self) -> None:
        """Let the threads go. What still waits is answered with None."""
        self._closed = True
        for waiting in [each for queue in self._queues.values() for each in queue]:
            self._give_up(waiting)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _run(self) -> None:
        while self._free and self._queues:
            origin = min(self._queues, key=self._turn)
            waiting = self._queues[origin][0]
            self._drop(waiting)
            self._free -= 1
            self._threads.submit(waiting.check).add_done_callback(_on_the_loop(waiting, self._done))

    def _turn(self, origin: str) -> tuple[int, int]:
        """Orders the origins that wait: the fewest wrong passwords, then the earliest arrival."""
        return self._faults(origin), self._queues[origin][0].number

    def _done(self, waiting: _Waiting, done: "Future[bool]") -> None:
        self._free += 1
        if done.cancelled() or done.exception() is not None:
            _answer(waiting, None)
        else:
            right = done.result()
            faults = 0 if right else self._faults(waiting.origin) + 1
            self._wrong.put(waiting.origin, (faults, self._now()))
            waiting.learned(right)
            _answer(waiting, right)
        if not self._closed:
            self._run()

    def _faults(self, origin: str) -> int:
        """How many wrong passwords came from there lately."""
        known = self._wrong.get(origin)
        return known[0] >> min(63, int((self._now() - known[1]) / HALF_LIFE)) if known is not None else 0

    def _give_up(self, waiting: _Waiting) -> None:
        if waiting in self._queues.get(waiting.origin, ()):
            self._drop(waiting)
        _answer(waiting, None)

    def _drop(self, waiting: _Waiting) -> None:
        queue = self._queues[waiting.origin]
        queue.remove(waiting)
        self._count -= 1
        if not queue:
            del self._queues[waiting.origin]


def _answer(waiting: _Waiting, outcome: bool | None) -> None:
    if waiting.timer is not None:
        waiting.timer.cancel()
    if not waiting.answer.done():
        waiting.answer.set_result(outcome)


def _on_the_loop(
    waiting: _Waiting, done: Callable[[_Waiting, "Future[bool]"], None]
) -> Callable[["Future[bool]"], None]:
    """Back from the thread to the loop that asked; nowhere where that is closed by now."""
    loop = waiting.answer.get_loop()

    def hand_over(future: "Future[bool]") -> None:
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(done, waiting, future)

    return hand_over


def _be_nice() -> None:
    """A decision that is ready to run goes first. Linux counts niceness by thread."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
