"""Quotas as people write them."""

import pytest

from authz.quota import Algorithm, BadQuota, Unit, parse_amount, parse_duration, parse_quota, parse_window


@pytest.mark.parametrize(
    ("text", "unit", "amount", "algorithm", "window"),
    [
        ("requests=60/m", Unit.REQUESTS, 60, Algorithm.GCRA, "1m"),
        ("60r/m", Unit.REQUESTS, 60, Algorithm.GCRA, "1m"),
        ("1r/s", Unit.REQUESTS, 1, Algorithm.GCRA, "1s"),
        ("2r/m", Unit.REQUESTS, 2, Algorithm.GCRA, "1m"),
        ("requests=5/30s", Unit.REQUESTS, 5, Algorithm.GCRA, "30s"),
        ("tokens=10000/day", Unit.TOKENS, 10000, Algorithm.CALENDAR, "day"),
        ("tokens=200k/24h", Unit.TOKENS, 200_000, Algorithm.SLIDING, "24h"),
        ("cost=5/month", Unit.COST, 5 * 10**9, Algorithm.CALENDAR, "month"),
        ("cost=0.25/day", Unit.COST, 250_000_000, Algorithm.CALENDAR, "day"),
        ("concurrency=4", Unit.CONCURRENCY, 4, Algorithm.CONCURRENCY, ""),
    ],
)
def test_limits_on_the_command_line(
    text: str, unit: Unit, amount: int, algorithm: Algorithm, window: str
) -> None:
    quota = parse_quota(text)
    assert (quota.unit, quota.amount, quota.window.algorithm, str(quota.window)) == (
        unit,
        amount,
        algorithm,
        window,
    )
    assert parse_quota(str(quota)) == quota


@pytest.mark.parametrize(
    "text",
    ["", "60", "requests", "requests=", "requests=60", "requests=-1/m", "requests=1.5/m", "requests=60/fortnight", "words=5/m",
     "concurrency=4/m", "tokens=1e9/day", "tokens=９/day", "tokens=9007199254740993/day", "requests=60/0s", "60r/x"],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(text: str) -> None:
    with pytest.raises(BadQuota):
        parse_quota(text)


def test_durations_and_amounts() -> None:
    assert parse_duration("90d") == 90 * 86_400_000
    assert parse_amount("50M", Unit.TOKENS) == 50_000_000
    assert parse_amount(0.1, Unit.COST) == 100_000_000
    with pytest.raises(BadQuota, match="ten years"):
        parse_duration("99999d")
    with pytest.raises(BadQuota, match="calendar"):
        parse_window("day", Unit.TOKENS, algorithm="sliding")
