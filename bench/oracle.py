"""The correctness gate: what a server admitted of a known quota must be exactly that quota.

More is asked than fits, many at a time, and from an exact model of what fits: quota N, so N admitted, the first
of each key or not. A speed without this line beside it says nothing.
"""

from collections.abc import Callable, Sequence

from msgspec import Struct

from bench.replay import Replay

QUOTA = 500
ASKED = 800
"""Of each limited key."""


class Verdict(Struct, frozen=True):
    """What one server did with limited keys."""

    admitted: int
    expected: int

    @property
    def exact(self) -> bool:
        return self.admitted == self.expected

    def __str__(self) -> str:
        return f"{self.admitted} of {self.expected}" + ("" if self.exact else " WRONG")


def judge(
    replay: Replay, requests: Sequence[bytes], quota: int, asked: int, admits: Callable[[bytes], bool]
) -> Verdict:
    """`requests`: one for each limited key. Each is asked `asked` times, in turns with the others."""
    played = replay.saturate(requests, len(requests) * asked)
    return Verdict(sum(map(admits, played.answers)), expected(len(requests), quota, asked))


def expected(keys: int, quota: int, asked: int) -> int:
    """Of keys that share nothing."""
    return keys * min(quota, asked)
