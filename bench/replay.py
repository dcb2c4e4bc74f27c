"""The bench's own client: requests that differ, as fast as they are answered or at a given pace.

One thread that never sleeps while it keeps a pace. The latency of a paced request counts from the moment at
which it was due, whether or not it could be sent then: a server that stops for a while is not spared the
requests that would have come meanwhile ("coordinated omission").
"""

import gc
import select
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from msgspec import Struct

from bench.connections import Answered, Connection

GIVE_UP = 30.0  # seconds without a single answer

Connect = Callable[[Answered], Connection]


class Played(Struct, frozen=True):
    """What came of a run."""

    answers: list[bytes]  # in the order of the requests
    seconds: float
    waits: list[float]  # seconds of each request; empty unless it was paced


class Replay:
    """So many connections to a server, and as many to others that it is compared with, request by request."""

    def __init__(self, connect: Connect, connections: int, *others: Connect) -> None:
        """The first request goes to the first server, the next to the next, and so on in turns."""
        self._answers: list[bytes | None] = []
        self._due: list[float] = []
        self._waits: list[float] = []
        self._left = 0
        self._groups = [
            deque(each(self._answered) for _ in range(connections)) for each in (connect, *others)
        ]
        self._connections = [each for group in self._groups for each in group]
        self._by_number = {each.plain.fileno(): each for each in self._connections}
        self._poll = select.epoll()
        for number in self._by_number:
            self._poll.register(number, select.EPOLLIN)

    def close(self) -> None:
        self._poll.close()
        for each in self._connections:
            each.plain.close()

    def __enter__(self) -> "Replay":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def saturate(self, requests: Sequence[bytes], count: int) -> Played:
        """Every connection always has as many under way as it takes. The requests are repeated in their order."""
        self._begin(count)
        begun = last = time.perf_counter()
        sent = 0
        with _undisturbed():
            while self._left:
                while sent < count and self._send(sent, requests):
                    sent += 1
                last = self._receive(1.0, last)
        return self._played(begun)

    def pace(self, requests: Sequence[bytes], count: int, per_second: float) -> Played:
        """Evenly spread over time, whatever the server does."""
        self._begin(count)
        self._due = [at / per_second for at in range(count)]
        sent = 0
        with _undisturbed():
            begun = last = time.perf_counter()
            self._due = [begun + at for at in self._due]
            while self._left:
                now = time.perf_counter()
                while sent < count and self._due[sent] <= now and self._send(sent, requests):
                    sent += 1  # while all are busy its time runs
                last = self._receive(0, last)
        return self._played(begun)

    def _send(self, number: int, requests: Sequence[bytes]) -> bool:
        """On the connection that waits longest of those that are free. False: none is."""
        group = self._groups[number % len(self._groups)]
        for _ in range(len(group)):
            connection = group[0]
            group.rotate(-1)
            if connection.free:
                connection.send(number, requests[number % len(requests)])
                return True
        return False

    def _begin(self, count: int) -> None:
        self._answers, self._left = [None] * count, count
        self._due, self._waits = [], [0.0] * count

    def _receive(self, within: float, last: float) -> float:
        """When something last came."""
        found = self._poll.poll(within)
        now = time.perf_counter()
        if found:
            for number, _ in found:
                self._by_number[number].receive()
            return now
        if now - last > GIVE_UP:
            raise TimeoutError(f"no answer for {GIVE_UP} s")
        return last

    def _answered(self, number: int, answer: bytes) -> None:
        if self._due:
            self._waits[number] = time.perf_counter() - self._due[number]
        self._answers[number] = answer
        self._left -= 1

    def _played(self, begun: float) -> Played:
        return Played(
            [each or b"" for each in self._answers],
            time.perf_counter() - begun,
            self._waits if self._due else [],
        )


@contextmanager
def _undisturbed() -> Iterator[None]:
    """The client's own collector must not stop it."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
