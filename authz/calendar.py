"""Calendar windows: local days, weeks and months as instants.

All arithmetic is on local dates of an IANA zone; an instant is made of a date
only at the very end, so days of 23 and 25 hours come out right.
"""

from datetime import date, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

Bounds = tuple[int, int, int, int]
"""Starts of the previous, current, next and after-next window, in ms since the Unix epoch."""

_ZONES_KEPT = (
    4096  # distinct (period, timezone, week start): bounded by the configuration, capped all the same
)

_current: dict[tuple[str, str, int], Bounds] = {}


def calendar_bounds(
    now: int, period: Literal["day", "week", "month"] | str, timezone: str, week_start: int = 0
) -> Bounds:
    """The windows around `now` (ms). `week_start`: 0 = Monday ... 6 = Sunday.

    The answer is kept until `now` leaves its current window. Raises ValueError
    for another period, ZoneInfoNotFoundError for an unknown zone.
    """
    name = (period, timezone, week_start)
    bounds = _current.get(name)
    if bounds is None or not bounds[1] <= now < bounds[2]:
        bounds = _compute(now, period, timezone, week_start)
        if len(_current) >= _ZONES_KEPT:
            _current.clear()
        _current[name] = bounds
    return bounds


def _compute(now: int, period: str, timezone: str, week_start: int) -> Bounds:
    zone = ZoneInfo(timezone)
    today = datetime.fromtimestamp(now / 1000, zone).date()
    first = _first_day(today, period, week_start)
    # A zone may jump over a local midnight or over a whole day (Pacific/Apia had no 30 December 2011):
    # the local date and the window that holds the instant can then be one step apart.
    while _instant(first, zone) > now:
        first = _step(first, period, -1)
    while _instant(_step(first, period, 1), zone) <= now:
        first = _step(first, period, 1)
    # Empty windows (the skipped day) are no windows.
    previous, following = _step(first, period, -1), _step(first, period, 1)
    while _instant(previous, zone) == _instant(first, zone):
        previous = _step(previous, period, -1)
    after = _step(following, period, 1)
    while _instant(after, zone) == _instant(following, zone):
        after = _step(after, period, 1)
    return _instant(previous, zone), _instant(first, zone), _instant(following, zone), _instant(after, zone)


def _first_day(day: date, period: str, week_start: int) -> date:
    match period:
        case "day":
            return day
        case "week":
            return day - timedelta(days=(day.weekday() - week_start) % 7)
        case "month":
            return day.replace(day=1)
    raise ValueError(f"a calendar window is day, week or month, not {period!r}")


def _step(first: date, period: str, count: int) -> date:
    """The first day of the window that many windows later."""
    if period == "month":
        year, month = divmod(first.year * 12 + first.month - 1 + count, 12)
        return date(year, month + 1, 1)
    return first + timedelta(days=count * (7 if period == "week" else 1))


def _instant(day: date, zone: ZoneInfo) -> int:
    """When a local day begins, in ms. A midnight inside a gap begins at the jump itself.

    PEP 495: with fold=0 a time in a gap takes the offset from before it, which
    is the instant that the clocks jumped or, further into the gap, after it;
    midnight is the first moment of a day, so whatever lies before it is yesterday.
    """
    moment = datetime(day.year, day.month, day.day, tzinfo=zone)
    instant = int(moment.timestamp())
    if datetime.fromtimestamp(instant, zone).replace(tzinfo=None) == moment.replace(tzinfo=None):
        return instant * 1000
    return _jump(instant, moment.replace(tzinfo=None), zone) * 1000


def _jump(instant: int, local: datetime, zone: ZoneInfo) -> int:
    """The second at which local time first reaches or passes `local`, at most two days around `instant`."""
    low, high = instant - 172_800, instant + 172_800
    while low < high:
        middle = (low + high) // 2
        if datetime.fromtimestamp(middle, zone).replace(tzinfo=None) >= local:
            high = middle
        else:
            low = middle + 1
    return low
