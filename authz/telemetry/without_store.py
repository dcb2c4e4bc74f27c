"""What replicas decided while their store did not answer, in figures."""

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from authz.store.reconciling import Without


def collect(without: Without) -> Iterable[Metric]:
    """Of one replica."""
    decisions = CounterMetricFamily(
        "authz_without_store_decisions",
        "Requests decided while the store did not answer: let through by a share, let through unlimited, "
        "or refused by a share.",
        labels=["answer"],
    )
    decisions.add_metric(["shared"], without.shared)
    decisions.add_metric(["unlimited"], without.unlimited)
    decisions.add_metric(["refused"], without.refused)
    yield decisions
    told = CounterMetricFamily(
        "authz_without_store_reservations",
        "Requests let through without the store that it was told of afterwards, or never.",
        labels=["fate"],
    )
    told.add_metric(["entered"], without.entered)
    told.add_metric(["lost"], without.lost)
    yield told
    yield GaugeMetricFamily(
        "authz_without_store_waiting",
        "Requests let through without the store that it does not know of yet.",
        without.waiting,
    )
    yield GaugeMetricFamily(
        "authz_without_store_since_timestamp_seconds",
        "Since when the store does not answer, or does not know all yet; 0: all is well.",
        without.since / 1000,
    )
