"""What the bench says of several rounds."""

import pytest

from bench.figures import Sample, Spread, drifted, latencies, percentile, ratio, spread


def round_(ours: float, null: float) -> dict[str, Sample]:
    return {"ours": Sample(1e6 / ours, ours), "null": Sample(1e6 / null, null)}


ROUNDS = [round_(10, 100), round_(30, 100), round_(40, 400)]


def test_a_spread_is_the_median_and_the_ends() -> None:
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)
    assert spread(ROUNDS, "ours", "cpu_us") == Spread(30, 10, 40)


def test_a_ratio_is_taken_within_a_round() -> None:
    """Of medians it would be 0.3."""
    assert ratio(ROUNDS, "ours", "null", "cpu_us") == Spread(0.1, 0.1, 0.3)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1), (0.5, 5), (0.51, 6), (0.9, 9), (0.99, 10), (1.0, 10)], ids=str
)
def test_a_percentile_is_the_nearest_rank(share: float, expected: int) -> None:
    assert percentile(range(1, 11), share) == expected


def test_of_nothing_there_is_no_percentile() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_latencies_are_in_microseconds() -> None:
    told = latencies([at / 1000 for at in range(1000, 0, -1)])
    assert told == {"p50": 500_000, "p99": 990_000, "p99.9": 999_000, "max": 1_000_000}


@pytest.mark.parametrize(
    ("after", "expected"), [(100, False), (110, False), (111, True), (90.92, False), (90.9, True)], ids=str
)
def test_null_runs_may_differ_by_a_tenth_of_the_lesser(after: float, expected: bool) -> None:
    assert drifted(100, after) is expected


def test_a_sample_knows_its_figures_by_name() -> None:
    sample = Sample(5.0, 2.0, {"redis": 7.0}, {"p99": 9.0})
    assert [sample.value(name) for name in ("per_second", "cpu_us", "redis", "p99")] == [5.0, 2.0, 7.0, 9.0]
