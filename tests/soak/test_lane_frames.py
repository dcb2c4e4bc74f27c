"""Ten million random and mutated frames, each made up for itself: no crash, no hang, no leak.

`LANE_FRAMES` and `LANE_SEED` as in `tests/lane/test_mutations.py`.
"""

import os
from pathlib import Path

import pytest

from tests.lane.frames import storm

FRAMES = int(os.environ.get("LANE_FRAMES", "10000000"))
SEED = os.environ.get("LANE_SEED", "soak")
PARTS = 20
MOST_GROWTH = 8 * 1024 * 1024  # bytes, over nine tenths of it; what leaked a byte a frame would be found


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.timeout(7200)
async def test_whatever_comes_is_answered_or_ends_the_connection() -> None:
    sizes = []
    frames = connections = 0
    for part in range(PARTS):
        figures = await storm(f"{SEED}/{part}", FRAMES // PARTS, again=1)
        assert figures.longest > 300
        frames += figures.frames
        connections += figures.connections
        sizes.append(resident())
    print(
        f"\n{frames:,} frames on {connections:,} connections; {sizes[1] >> 10:,} KiB, then {sizes[-1] >> 10:,}"
    )
    assert frames >= FRAMES // PARTS * PARTS
    assert sizes[-1] - sizes[PARTS // 10] < MOST_GROWTH
