"""Calendar bounds, swept over years and zones."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest

from authz.calendar import calendar_bounds
from tests.contract.kit import DAY, HOUR, at

ZONES = [
    "UTC",
    "Europe/Helsinki",
    "America/Havana",
    "America/Sao_Paulo",
    "Pacific/Apia",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
]


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize(("period", "week_start"), [("day", 0), ("week", 0), ("week", 6), ("month", 0)])
def test_windows_follow_each_other_without_gap(zone: str, period: str, week_start: int) -> None:
    now, end = at("2011-12-20"), at("2012-01-10")
    while now < end or now < at("2018-11-10"):
        before, start, stop, after = calendar_bounds(now, period, zone, week_start)
        assert before < start <= now < stop < after
        assert calendar_bounds(stop - 1, period, zone, week_start) == (before, start, stop, after)
        assert calendar_bounds(stop, period, zone, week_start)[:3] == (start, stop, after)
        local = datetime.fromtimestamp(start / 1000, ZoneInfo(zone))
        a_moment_before = datetime.fromtimestamp(start / 1000 - 0.001, ZoneInfo(zone))
        assert a_moment_before.date() < local.date(), "a window begins with a local day"
        if period == "week":
            first = local.date() - timedelta(days=(local.weekday() - week_start) % 7)
            assert local.date() == first or zone == "Pacific/Apia"
        if period == "month":
            assert local.day == 1
        now = stop + (0 if period != "day" or now < at("2012-01-10") else 13 * DAY)


def test_a_clock_that_steps_back_gets_its_own_window() -> None:
    today = calendar_bounds(at("2024-05-02 00:00"), "day", "UTC")
    yesterday = calendar_bounds(at("2024-05-02 00:00") - HOUR, "day", "UTC")
    assert yesterday[2] == today[1]


def test_what_is_no_calendar() -> None:
    with pytest.raises(ValueError, match="day, week or month"):
        calendar_bounds(0, "fortnight", "UTC")
    with pytest.raises(ZoneInfoNotFoundError):
        calendar_bounds(0, "day", "Europe/Atlantis")
