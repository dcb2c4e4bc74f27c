"""What a replica sets aside of shared counters, in figures."""

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from authz.store.allowances import Allowances


def collect(allowances: Allowances) -> Iterable[Metric]:
    """Of one replica."""
    yield CounterMetricFamily(
        "authz_allowance_decisions",
        "Requests let through by units that were set aside ahead, without asking the store.",
        allowances.decisions,
    )
    lots = CounterMetricFamily(
        "authz_allowance_lots",
        "Times that units were set aside; and those whose rest could not be given back, and counts as used.",
        labels=["fate"],
    )
    lots.add_metric(["made"], allowances.lots)
    lots.add_metric(["stranded"], allowances.stranded)
    yield lots
    outstanding = GaugeMetricFamily(
        "authz_allowance_outstanding", "Units that are set aside and not spent.", labels=["unit"]
    )
    for unit, amount in allowances.outstanding.items():
        outstanding.add_metric([unit.value], amount)
    yield outstanding
