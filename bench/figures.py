"""What is said of several rounds: a median, and between which values the rounds lay."""

import statistics
from collections.abc import Mapping, Sequence

from msgspec import Struct

DRIFT = 0.10
"""Two null runs of one round may differ by so much; else something else used the machine meanwhile."""


class Spread(Struct, frozen=True):
    """Of one figure over the rounds."""

    median: float
    least: float
    most: float

    @staticmethod
    def of(values: Sequence[float]) -> "Spread":
        return Spread(statistics.median(values), min(values), max(values))


class Sample(Struct, frozen=True):
    """One run of one server."""

    per_second: float
    cpu_us: float  # of the server, for each decision
    other_us: dict[str, float] = {}  # of what else took part: the gateway, Redis
    latency_us: dict[str, float] = {}  # p50, p99, p99.9, max

    def value(self, name: str) -> float:
        """`per_second`, `cpu_us`, a latency, or the CPU of another process."""
        if name in self.latency_us:
            return self.latency_us[name]
        if name in self.other_us:
            return self.other_us[name]
        return float(getattr(self, name))


Round = Mapping[str, Sample]
"""By the name of the server."""


def spread(rounds: Sequence[Round], name: str, figure: str) -> Spread:
    return Spread.of([each[name].value(figure) for each in rounds])


def ratio(rounds: Sequence[Round], name: str, beside: str, figure: str) -> Spread:
    """Taken within each round: what slowed down the machine slowed down both."""
    return Spread.of([each[name].value(figure) / each[beside].value(figure) for each in rounds])


def drifted(before: float, after: float, most: float = DRIFT) -> bool:
    """Whether two runs of the same null server differ too much for what lay between them to count."""
    return abs(before - after) > most * min(before, after)


def percentile(ordered: Sequence[float], share: float) -> float:
    """The nearest rank: the least value that so large a share does not exceed."""
    if not ordered:
        raise ValueError("there are no values")
    rank = -(-len(ordered) * share // 1)
    return ordered[max(0, min(len(ordered), int(rank)) - 1)]


def latencies(seconds: Sequence[float]) -> dict[str, float]:
    """In microseconds."""
    ordered = sorted(seconds)
    shares = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
    return {name: percentile(ordered, share) * 1e6 for name, share in shares.items()}
