"""Random and mutated frames by the million: whatever comes, a connection answers or ends, and keeps nothing."""

import asyncio
import gc
import random
from collections.abc import Iterator
from typing import NamedTuple

from authz.transport.lane import Lane, Limits
from authz.transport.lane.connection import Connection
from authz.transport.lane.stream import Stream
from authz.transport.lane.wire import LARGEST_FRAME, frame, number, settings
from tests.lane.peer import GREETING, Peer, Scripted, block, call, continuation, data, headers, message, reset

_OF_A_CONNECTION = 400  # frames
PATHS = ["/t/Echo", "/t/Ready", "/t/Wait", "/t/Collect", "/t/Early", "/t/None", "/t/Refuse", "/t/Future"]
# Small, so that every one of them is met; times so long that only the bytes count.
LIMITS = Limits(message_bytes=500, held_bytes=3000, streams=20, header_bytes=1000, block_bytes=2000, continuations=4,
                remembered_blocks=12, resets=400, control_frames=1000, window_bytes=70_000)  # fmt: skip


_USUAL = [block(path) for path in PATHS]


class Sender:
    """Makes frames of which most are in order, so that what is not meets every state."""

    def __init__(self, how: random.Random) -> None:
        self.how = how
        self.next = 1
        self.wild = how.choice([0.0, 0.1, 1.0])  # the tame ones go far, the wild ones end soon

    def errs(self, share: float) -> bool:
        return self.how.random() < share * self.wild

    def increment(self) -> int:
        return self.how.choice([0, 2**31 - 1]) if self.errs(0.3) else self.how.choice([1, 100, 5000])

    def setting(self) -> dict[int, int]:
        if self.errs(0.5):
            return {self.how.randint(0, 6): 2**31}
        return self.how.choice([{8: 1}, {4: 0}, {4: 5}, {4: 100_000}, {5: 20_000}])

    def stream(self) -> int:
        if self.errs(0.05):
            return self.how.choice([0, 2, self.next + 2, 2**31 - 1, self.how.getrandbits(31)])
        return max(1, self.next - 2 * self.how.randint(0, 4))

    def body(self) -> bytes:
        sent = message(bytes(self.how.choice([0, 1, 5, 100, 499, 501])), compressed=self.how.random() < 0.02)
        return sent[: self.how.randint(0, len(sent))] if self.how.random() < 0.2 else sent

    def open(self) -> bytes:
        self.next += 2
        how = self.how
        if how.random() < 0.7:
            return headers(self.next, how.choice(_USUAL), ended=how.random() < 0.05)
        timeout = [("grpc-timeout", how.choice(["1S", "1m", "9n", "x"]))] if how.random() < 0.1 else []
        extra = [(how.choice(["a", "B", "te", "content-length"]), how.choice(["1", "", "9" * 300]))]
        sent = block(how.choice(PATHS), *timeout, *(extra if how.random() < 0.2 else []))
        if how.random() < 0.05:
            sent = how.choice([b"\x40\x01k\x05value", b"\x3f\x01", b"\x20"]) + sent
        if self.errs(0.05):
            sent = how.choice([b"\xbe", b"\xff\xff", b"\x40"]) + sent
        if how.random() < 0.1:
            at = how.randint(0, len(sent))
            return headers(self.next, sent[:at], whole=False) + continuation(self.next, sent[at:])
        return headers(self.next, sent, ended=how.random() < 0.05)

    def frame(self) -> bytes:
        how = self.how
        kind = how.random()
        if kind < 0.35:
            return self.open()
        if kind < 0.65:
            return data(self.stream(), self.body(), ended=how.random() < 0.5)
        if kind < 0.72:
            return reset(self.stream())
        if kind < 0.8:
            return frame(8, 0, how.choice([0, self.stream()]), number(self.increment()))
        if kind < 0.85:
            return settings(self.setting())
        if kind < 0.9:
            return frame(6, how.getrandbits(1), 0, how.randbytes(8))
        if kind < 0.93 or not self.errs(1):
            self.next += 2
            return call(self.next, how.choice(PATHS))
        return frame(
            how.randint(0, 11),
            how.getrandbits(8),
            self.stream(),
            how.randbytes(how.choice([0, 1, 4, 5, 6, 8, 40])),
        )

    def maybe_mutated(self) -> bytes:
        sent = self.frame()
        return mutated(self.how, sent) if self.errs(0.05) else sent


def mutated(how: random.Random, sent: bytes) -> bytes:
    """Some bytes are others, or the end is missing."""
    changed = bytearray(sent)
    for _ in range(how.randint(1, 3)):
        changed[how.randrange(len(changed))] = how.getrandbits(8)
    if how.random() < 0.3:
        del changed[how.randrange(len(changed)) :]
    return bytes(changed)


class Figures(NamedTuple):
    frames: int  # that a connection took
    connections: int
    longest: int  # frames of one connection


async def storm(seed: str, frames: int, *, again: int) -> Figures:
    """Send so many. What is made up is sent `again` times, each time damaged elsewhere: making costs the most.

    Asserts that nothing is kept: neither bytes nor streams beyond the limits while it goes on, and no object, no
    task afterwards.
    """
    how = random.Random(seed)
    scripted = Scripted()
    lane = scripted.lane(LIMITS)
    before = asyncio.all_tasks()
    sent = connections = longest = 0
    while sent < frames:
        sender = Sender(how)
        script = [GREETING + sender.open(), *(sender.maybe_mutated() for _ in range(_OF_A_CONNECTION))]
        for damaged in _damaged(how, script, again):
            took = await _send(how, lane, scripted, damaged)
            connections += 1
            longest = max(longest, took)
            sent += took
    async with asyncio.timeout(60):
        while asyncio.all_tasks() - before:
            await asyncio.sleep(0)
    assert [each for each in scripted.reported if "secret" not in str(each)] == []
    assert lane.connections == 0
    scripted.waiting.clear()
    for _ in range(10):  # futures that were cancelled tell it in the next turns of the loop
        await asyncio.sleep(0)
    gc.collect()
    assert not [each for each in gc.get_objects() if isinstance(each, Stream | Connection)]
    return Figures(sent, connections, longest)


def _damaged(how: random.Random, script: list[bytes], times: int) -> Iterator[list[bytes]]:
    """The script itself, then with frames that are lost, come twice or too early, or are others."""
    yield script
    for _ in range(times - 1):
        other = script.copy()
        for _ in range(how.choice([0, 1, 1, 2, 8])):
            at = how.randrange(1, len(other))
            what = how.random()
            if what < 0.3:
                del other[at]
            elif what < 0.6:
                other.insert(at, other[how.randrange(1, len(other))])
            elif what < 0.8:
                other[at], other[at - 1] = other[at - 1], other[at]
            else:
                other[at] = mutated(how, other[at])
        yield other


async def _send(how: random.Random, lane: Lane, scripted: Scripted, script: list[bytes]) -> int:
    """In pieces as a network cuts them; how many frames were taken before the connection ended."""
    peer = Peer(lane, greet=False)
    connection, wire = peer.connection, peer.wire
    calls, held = connection._calls, connection._calls._open
    at, rest = 0, b""
    while at < len(script):
        before = at
        at += how.randint(1, 32)
        piece = rest + b"".join(script[before:at])
        cut = how.randrange(len(piece) + 1) if how.random() < 0.2 else len(piece)
        rest = piece[cut:]
        connection.data_received(piece[:cut])
        wire.written = b""
        for future in scripted.waiting[:-3]:
            if not future.done():
                future.set_result(b"done")
        del scripted.waiting[:-3]
        if how.random() < 0.3:
            await asyncio.sleep(0)
        assert len(calls.streams) <= LIMITS.streams
        assert len(connection._rest) <= LARGEST_FRAME + 9
        assert 0 <= held._held <= LIMITS.held_bytes + 600
        if wire.closed:
            at = before  # of the last piece nobody knows
            break
    peer.lose()
    assert not calls.streams
    assert held._held == 0
    return min(at, len(script))
