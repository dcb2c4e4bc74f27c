"""What it costs to ask a store that others share, in figures."""

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from authz.store.waits import Shared


def collect(shared: Shared) -> Iterable[Metric]:
    """Of one replica."""
    waits = HistogramMetricFamily(
        "authz_store_wait_seconds", "How long a decision or settlement waited for an answer of the store."
    )
    waits.add_metric([], buckets=shared.waits.cumulated(), sum_value=shared.waits.total)
    yield waits
    yield GaugeMetricFamily(
        "authz_store_longest_wait_seconds",
        "The longest of these waits since the start.",
        shared.waits.longest,
    )
    yield GaugeMetricFamily(
        "authz_store_undos_owed",
        "Calls without an answer that are still to be taken back from the store.",
        shared.owed,
    )
    given_up = CounterMetricFamily(
        "authz_store_undos_given_up", "Calls without an answer that were never taken back."
    )
    given_up.add_metric([], shared.given_up)
    yield given_up
