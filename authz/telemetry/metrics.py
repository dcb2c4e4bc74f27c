"""Prometheus metrics, counted in plain integers and turned into samples when somebody asks.

Everything is counted on the loop's thread, so no lock is taken on the path of
a decision. Labels come from the configuration and from our own enums only: no
client can make up a new one.
"""

import platform
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from authz.reason import Reason
from authz.store.allowances import Allowances
from authz.store.reconciling import Without
from authz.store.waits import Shared
from authz.telemetry import set_aside, shared_store, without_store
from authz.telemetry.settlements import Names, Settlements

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS = (
    0.00005,
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.5,
    2.0,
)  # seconds


class _Durations:
    """A histogram of one gateway. The last bucket holds what is longer than every bound."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.total = 0.0


class Metrics:
    """Everything that is counted. Also a prometheus_client collector."""

    def __init__(
        self,
        *,
        version: str,
        config: Callable[[], str] = lambda: "",
        denials_dropped: Callable[[], int] = lambda: 0,
        expired: Callable[[], int] = lambda: 0,
        names: Names | None = None,
        tried: Callable[[], Mapping[str, int]] = dict,
        without: Callable[[], Without | None] = lambda: None,
        shared: Callable[[], Shared | None] = lambda: None,
        allowances: Callable[[], Allowances | None] = lambda: None,
        cut_off: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        """`config` gives the digest of the configuration in force, `denials_dropped` what did not fit.

        `expired` counts the reservations that nobody told the end of; `names` says what a counter is
        called by a person. `tried` counts what limits on trial would have refused, by limit. `without` is
        what was decided without the store, where that is possible; `shared` how a store is reached that
        others share, and `allowances` what is set aside of its counters. `cut_off` counts connections of
        gateways that were ended for what they did, by the error that they were told.
        """
        self._cut_off = cut_off
        self._tried = tried
        self._without = without
        self._shared = shared
        self._allowances = allowances
        self._expired = expired
        self.settlements = Settlements(names) if names is not None else Settlements()
        self._denials_dropped = denials_dropped
        self._version = version
        self._config = config
        self._decisions: dict[tuple[str, str, str], int] = {}
        self._durations: dict[str, _Durations] = {}
        self._store_errors: dict[str, int] = {}
        self._reloads = {"applied": 0, "rejected": 0}
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    def decided(self, gateway: str, route: str, reason: Reason, seconds: float) -> None:
        """Count one answer. `route` is empty where none was found."""
        # The plain string: hashing an enum member costs more than all the rest.
        key = (gateway, route, reason._value_)
        decisions = self._decisions
        decisions[key] = decisions.get(key, 0) + 1
        durations = self._durations.get(gateway)
        if durations is None:
            durations = self._durations[gateway] = _Durations()
        durations.counts[bisect_left(BUCKETS, seconds)] += 1
        durations.total += seconds

    def store_failed(self, operation: str) -> None:
        """Count one call that the store did not answer; `operation` is one of a few fixed words."""
        self._store_errors[operation] = self._store_errors.get(operation, 0) + 1

    def reloaded(self, *, applied: bool) -> None:
        """Count one attempt to load a changed configuration."""
        self._reloads["applied" if applied else "rejected"] += 1

    def render(self) -> bytes:
        """The text format (CONTENT_TYPE)."""
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """For prometheus_client."""
        decisions = CounterMetricFamily(
            "authz_decisions",
            "Decisions by gateway, route and reason.",
            labels=["gateway", "route", "reason"],
        )
        for labels, count in self._decisions.items():
            decisions.add_metric(labels, count)
        yield decisions
        seconds = HistogramMetricFamily(
            "authz_decision_seconds", "Time spent on a decision, by gateway.", labels=["gateway"]
        )
        bounds = [*map(str, BUCKETS), "+Inf"]
        for gateway, durations in self._durations.items():
            cumulated = list(zip(bounds, accumulate(durations.counts), strict=True))
            seconds.add_metric([gateway], buckets=cumulated, sum_value=durations.total)
        yield seconds
        errors = CounterMetricFamily(
            "authz_store_errors", "Calls that the store did not answer.", labels=["operation"]
        )
        for operation, count in self._store_errors.items():
            errors.add_metric([operation], count)
        yield errors
        reloads = CounterMetricFamily(
            "authz_config_reloads", "Attempts to load a changed config.", labels=["result"]
        )
        for result, count in self._reloads.items():
            reloads.add_metric([result], count)
        yield reloads
        yield from self.settlements.collect()
        expired = CounterMetricFamily(
            "authz_reservations_expired", "Requests charged as held, because nobody told their end in time."
        )
        expired.add_metric([], self._expired())
        yield expired
        dropped = CounterMetricFamily(
            "authz_denials_dropped", "Refusals that did not fit into the log of `authz decisions`."
        )
        dropped.add_metric([], self._denials_dropped())
        yield dropped
        tried = CounterMetricFamily(
            "authz_trial_refusals",
            "Requests that were let through and that a limit on trial would have refused.",
            labels=["policy"],
        )
        for name, count in self._tried().items():
            tried.add_metric([name], count)
        yield tried
        without = self._without()
        if without is not None:
            yield from without_store.collect(without)
        shared = self._shared()
        if shared is not None:
            yield from shared_store.collect(shared)
        ahead = self._allowances()
        if ahead is not None:
            yield from set_aside.collect(ahead)
        cut_off = CounterMetricFamily(
            "authz_grpc_connections_cut_off",
            "gRPC connections ended for what the peer did, by the error of HTTP/2.",
            labels=["error"],
        )
        for error, count in self._cut_off().items():
            cut_off.add_metric([error], count)
        yield cut_off
        info = GaugeMetricFamily(
            "authz_build_info", "What is running; always 1.", labels=["version", "python", "config"]
        )
        info.add_metric([self._version, platform.python_version(), self._config()], 1)
        yield info
