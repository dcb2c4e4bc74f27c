from prometheus_client.parser import text_string_to_metric_families

from authz.quota import Unit
from authz.reason import Reason
from authz.store.allowances import Allowances
from authz.store.reconciling import Without
from authz.store.waits import Shared, Waits
from authz.telemetry.metrics import BUCKETS, Metrics


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(metrics.render().decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_decisions_are_counted_by_gateway_route_and_reason() -> None:
    metrics = Metrics(version="1.2.3", config=lambda: "abc")
    for seconds in (0.00001, 0.0001, 0.003, 5.0):
        metrics.decided("edge", "inference", Reason.ALLOWED, seconds)
    metrics.decided("edge", "", Reason.NO_ROUTE, 0.0)
    found = samples(metrics)
    labels = (("gateway", "edge"), ("reason", "allowed"), ("route", "inference"))
    assert found["authz_decisions_total", labels] == 4
    assert found["authz_decisions_total", (("gateway", "edge"), ("reason", "no_route"), ("route", ""))] == 1
    assert found["authz_decision_seconds_count", (("gateway", "edge"),)] == 5
    assert abs(found["authz_decision_seconds_sum", (("gateway", "edge"),)] - 5.00311) < 1e-9
    buckets = {
        key[1][1][1]: value for key, value in found.items() if key[0] == "authz_decision_seconds_bucket"
    }
    assert buckets["5e-05"] == 2
    assert buckets["0.0001"] == 3, "a bound is inclusive"
    assert buckets["2.0"] == 4
    assert buckets["+Inf"] == 5
    assert len(buckets) == len(BUCKETS) + 1


def test_store_errors_reloads_and_build() -> None:
    metrics = Metrics(version="1.2.3", config=lambda: "abc")
    metrics.store_failed("reserve")
    metrics.store_failed("reserve")
    metrics.reloaded(applied=True)
    metrics.reloaded(applied=False)
    found = samples(metrics)
    assert found["authz_store_errors_total", (("operation", "reserve"),)] == 2
    assert found["authz_config_reloads_total", (("result", "applied"),)] == 1
    assert found["authz_config_reloads_total", (("result", "rejected"),)] == 1
    [info] = [dict(labels) for name, labels in found if name == "authz_build_info"]
    assert (info["version"], info["config"]) == ("1.2.3", "abc")
    assert any(name == "process_open_fds" for name, _ in found)


def test_what_was_decided_without_the_store() -> None:
    assert not any("without_store" in name for name, _ in samples(Metrics(version="1")))
    without = Without(since=1_790_000_000_500, shared=3, unlimited=2, refused=1, entered=4, lost=5, waiting=6)
    found = samples(Metrics(version="1", without=lambda: without))
    decisions = {
        labels: value for (name, labels), value in found.items() if name.endswith("_decisions_total")
    }
    assert decisions == {
        (("answer", "shared"),): 3,
        (("answer", "unlimited"),): 2,
        (("answer", "refused"),): 1,
    }
    assert found["authz_without_store_reservations_total", (("fate", "entered"),)] == 4
    assert found["authz_without_store_reservations_total", (("fate", "lost"),)] == 5
    assert found["authz_without_store_waiting", ()] == 6
    assert found["authz_without_store_since_timestamp_seconds", ()] == 1_790_000_000.5


def test_what_is_set_aside() -> None:
    assert not any("allowance" in name for name, _ in samples(Metrics(version="1")))
    ahead = Allowances(decisions=7, lots=3, stranded=1, outstanding={Unit.TOKENS: 500, Unit.REQUESTS: 4})
    found = samples(Metrics(version="1", allowances=lambda: ahead))
    assert found["authz_allowance_decisions_total", ()] == 7
    assert found["authz_allowance_lots_total", (("fate", "made"),)] == 3
    assert found["authz_allowance_lots_total", (("fate", "stranded"),)] == 1
    assert found["authz_allowance_outstanding", (("unit", "tokens"),)] == 500
    assert found["authz_allowance_outstanding", (("unit", "requests"),)] == 4


def test_how_a_shared_store_is_reached() -> None:
    assert not any("store_wait" in name for name, _ in samples(Metrics(version="1")))
    waits = Waits()
    waits.add(0.0004, 3)
    waits.add(0.0502, 2)
    waits.add(7.0, 1)
    found = samples(Metrics(version="1", shared=lambda: Shared(waits, owed=4, given_up=5)))
    buckets = {
        labels[0][1]: value for (name, labels), value in found.items() if name.endswith("wait_seconds_bucket")
    }
    assert (buckets["0.0005"], buckets["0.05"], buckets["0.06"], buckets["1.0"]) == (3, 3, 5, 5)
    assert buckets["+Inf"] == found["authz_store_wait_seconds_count", ()] == 6
    assert abs(found["authz_store_wait_seconds_sum", ()] - 7.1016) < 1e-9
    assert found["authz_store_longest_wait_seconds", ()] == 7.0
    assert found["authz_store_undos_owed", ()] == 4
    assert found["authz_store_undos_given_up_total", ()] == 5


def test_two_of_them_do_not_share_figures() -> None:
    one, two = Metrics(version="1"), Metrics(version="1")
    one.decided("edge", "", Reason.ALLOWED, 0.1)
    assert not any(name == "authz_decisions_total" for name, _ in samples(two))
