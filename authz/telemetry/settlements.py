"""Settlements in figures, and the budgets that they bring to a threshold."""

from collections.abc import Callable, Iterable

import structlog
from prometheus_client.core import CounterMetricFamily, Metric

from authz.ledger.thresholds import Reached
from authz.store.protocols import Outcome
from authz.store.records import Note

log = structlog.get_logger("authz.budget")

Names = Callable[[str], tuple[str, str]]
"""Policy and readable partition of a counter."""

_KINDS = ("input", "output", "cached", "reasoning")


class Settlements:
    """Told of every report. Labels come from the configuration, from limits of keys, and from enums."""

    def __init__(self, names: Names = lambda counter: (counter.partition("|")[0], "")) -> None:
        self._names = names
        self._settled: dict[tuple[str, str, str], int] = {}
        self._tokens: dict[str, list[int]] = {}
        self._rejected: dict[tuple[str, str], int] = {}
        self._reached: dict[tuple[str, str], int] = {}

    def settled(self, gateway: str, outcome: Outcome, note: Note | None) -> None:
        """Count one report that was taken; `note` where it changed something."""
        source = note.source._value_ if note is not None else ""
        key = (gateway, outcome._value_, source)
        self._settled[key] = self._settled.get(key, 0) + 1
        if note is None:
            return
        tokens = self._tokens.get(source)
        if tokens is None:
            tokens = self._tokens[source] = [0, 0, 0, 0]
        usage = note.usage
        tokens[0] += usage.input
        tokens[1] += usage.output
        tokens[2] += usage.cached
        tokens[3] += usage.reasoning

    def rejected(self, gateway: str, reason: str) -> None:
        """Count one usage that was not believed; `reason` is one of a few fixed words."""
        key = (gateway, reason)
        self._rejected[key] = self._rejected.get(key, 0) + 1

    def reached(self, reached: Reached) -> None:
        """Tell of a budget that came to a threshold."""
        policy, partition = self._names(reached.counter)
        key = (policy, str(reached.percent))
        self._reached[key] = self._reached.get(key, 0) + 1
        log.warning(
            "budget threshold",
            policy=policy,
            partition=partition,
            percent=reached.percent,
            unit=reached.unit,
            quota=reached.quota,
            used=reached.used,
            shadow=reached.shadow,
        )

    def collect(self) -> Iterable[Metric]:
        """For prometheus_client."""
        settled = CounterMetricFamily(
            "authz_settlements",
            "Reports of what a response used, by gateway, outcome and source of the figures.",
            labels=["gateway", "outcome", "source"],
        )
        for labels, count in self._settled.items():
            settled.add_metric(labels, count)
        yield settled
        tokens = CounterMetricFamily(
            "authz_tokens",
            "Tokens charged, by source and kind; cached is part of input, reasoning of output.",
            labels=["source", "kind"],
        )
        for source, counts in self._tokens.items():
            for kind, count in zip(_KINDS, counts, strict=True):
                tokens.add_metric([source, kind], count)
        yield tokens
        rejected = CounterMetricFamily(
            "authz_usage_rejected", "Reported usage that was not believed.", labels=["gateway", "reason"]
        )
        for (gateway, reason), count in self._rejected.items():
            rejected.add_metric([gateway, reason], count)
        yield rejected
        reached = CounterMetricFamily(
            "authz_budget_threshold", "Budgets that came to a threshold.", labels=["policy", "threshold"]
        )
        for (policy, percent), count in self._reached.items():
            reached.add_metric([policy, percent], count)
        yield reached
