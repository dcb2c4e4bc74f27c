"""Random and mutated frames: whatever comes, a connection answers or ends, and keeps nothing.

`LANE_FRAMES` sets how many (20,000 unless told otherwise), `LANE_SEED` where they begin.
"""

import asyncio
import gc
import os
import random

import pytest

from authz.transport.lane import Limits
from authz.transport.lane.stream import Stream
from authz.transport.lane.wire import LARGEST_FRAME, frame, number, settings
from tests.lane.peer import GREETING, Peer, Scripted, block, call, continuation, data, headers, message, reset

FRAMES = int(os.environ.get("LANE_FRAMES", "20000"))
SEED = int(os.environ.get("LANE_SEED", "1"))
PARTS = 8
PATHS = ["/t/Echo", "/t/Ready", "/t/Wait", "/t/Collect", "/t/Early", "/t/None", "/t/Refuse", "/t/Future"]
# Small, so that every one of them is met; times so long that only the bytes count.
LIMITS = Limits(message_bytes=500, held_bytes=3000, streams=20, header_bytes=1000, block_bytes=2000, continuations=4,
                remembered_blocks=3, resets=400, control_frames=1000, window_bytes=70_000)  # fmt: skip


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
        timeout = [("grpc-timeout", how.choice(["1S", "1m", "9n", "x"]))] if how.random() < 0.1 else []
        extra = [(how.choice(["a", "B", "te", "content-length"]), how.choice(["1", "", "9" * 300]))]
        sent = block(how.choice(PATHS), *timeout, *(extra if how.random() < 0.2 else []))
        if how.random() < 0.1:
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
        sent = bytearray(self.frame())
        if self.errs(0.05):
            for _ in range(self.how.randint(1, 3)):
                at = self.how.randrange(len(sent))
                sent[at] = self.how.getrandbits(8)
            if self.how.random() < 0.3:
                del sent[self.how.randrange(len(sent)) :]
        return bytes(sent)


@pytest.mark.parametrize("part", range(PARTS))
async def test_whatever_comes_is_answered_or_ends_the_connection(part: int) -> None:
    how = random.Random(f"{SEED}/{part}")
    scripted = Scripted()
    lane = scripted.lane(LIMITS)
    before = asyncio.all_tasks()
    left, connections, longest = FRAMES // PARTS, 0, 0
    while left > 0:
        connections += 1
        peer, sender, sent = Peer(lane, greet=False), Sender(how), GREETING
        sent += sender.open()
        frames = 0
        while not peer.wire.closed and frames < 400 and left > 0:
            sent += b"".join(sender.maybe_mutated() for _ in range(how.randint(1, 6)))
            frames += 1
            left -= 1
            at = len(sent) if how.random() < 0.8 else how.randrange(len(sent) + 1)
            peer.send(sent[:at])
            sent = sent[at:]
            for future in scripted.waiting[:-3]:
                if not future.done():
                    future.set_result(b"done")
            del scripted.waiting[:-3]
            if how.random() < 0.3:
                await asyncio.sleep(0)
            assert len(peer.connection._calls.streams) <= LIMITS.streams
            assert len(peer.connection._rest) <= LARGEST_FRAME + 9
            assert 0 <= peer.connection._calls._open._held <= LIMITS.held_bytes + 600
            peer.take()
        longest = max(longest, frames)
        peer.lose()
        assert not peer.connection._calls.streams
        assert peer.connection._calls._open._held == 0
        del peer
    assert longest > 100  # some went far into it
    async with asyncio.timeout(20):
        while asyncio.all_tasks() - before:
            await asyncio.sleep(0)
    assert [each for each in scripted.reported if "secret" not in str(each)] == []
    assert lane.connections == 0
    scripted.waiting.clear()
    for _ in range(10):  # futures that were cancelled tell it in the next turns of the loop
        await asyncio.sleep(0)
    gc.collect()
    assert not [each for each in gc.get_objects() if isinstance(each, Stream)]


async def test_afterwards_a_call_is_as_fresh_as_ever() -> None:
    """Bytes of which not one is in order."""
    how = random.Random(SEED)
    lane = Scripted().lane()
    for _ in range(300):
        peer = Peer(lane, greet=how.random() < 0.8)
        peer.send(how.randbytes(how.randint(1, 3000)))
        peer.lose()
    peer = Peer(lane)
    peer.send(call(1))
    assert peer.take()
