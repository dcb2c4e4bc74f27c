"""Which draining buckets Redis can keep: its numbers are doubles, and nothing of ours is ever rounded."""

from math import gcd

FINEST = 2**52
"""Parts of units that the quota of a draining bucket may have: twice as many fit into a double."""


def too_fine(burst: int, rate: int, window_ms: int) -> bool:
    """Whether a `gcra` limit of `rate` units per window needs more parts of a unit than fit.

    Round quotas never do: 1,000,000 tokens a month is a unit every 2.592 s. For the check of a
    configuration; `reserve` raises StoreUnavailable.
    """
    return burst * (window_ms // gcd(rate, window_ms)) > FINEST
