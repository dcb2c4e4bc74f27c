"""Random and mutated frames: whatever comes, a connection answers or ends, and keeps nothing.

`LANE_FRAMES` sets how many (a million unless told otherwise), `LANE_SEED` where they begin. `make soak` sends ten
million, of which each was made up for itself.
"""

import os
import random

import pytest

from tests.lane.frames import storm
from tests.lane.peer import Peer, Scripted, call

FRAMES = int(os.environ.get("LANE_FRAMES", "1000000"))
SEED = os.environ.get("LANE_SEED", "1")
PARTS = 8


@pytest.mark.parametrize("part", range(PARTS))
async def test_whatever_comes_is_answered_or_ends_the_connection(part: int) -> None:
    figures = await storm(f"{SEED}/{part}", FRAMES // PARTS, again=10)
    assert figures.frames >= FRAMES // PARTS
    assert figures.longest > 300  # some went far into it


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
