"""Quotas and windows as values, and the short forms people write them in.

Amounts are integers in the quota's unit (cost: 1e-9 of the currency). Times are
integer milliseconds.
"""

import re
from decimal import Decimal, InvalidOperation
from enum import StrEnum

from msgspec import Struct

MAX_AMOUNT = 2**53 - 1  # every stored number must survive a Lua double
NANO = 10**9  # cost is kept in 1e-9 of the currency


class Unit(StrEnum):
    """What a quota counts."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    INPUT_TOKENS = "input_tokens"
    OUTPUT_TOKENS = "output_tokens"
    COST = "cost"
    CONCURRENCY = "concurrency"


TOKEN_UNITS = frozenset({Unit.TOKENS, Unit.INPUT_TOKENS, Unit.OUTPUT_TOKENS, Unit.COST})
"""The units that a model's work is measured in."""


class Algorithm(StrEnum):
    """How a window forgets."""

    GCRA = "gcra"  # drains steadily; admits at most burst + rate x t in any t
    FIXED = "fixed"  # aligned to the epoch
    SLIDING = "sliding"  # 60 sub-windows, each counted whole: exact in any interval
    CALENDAR = "calendar"  # day, week, month in a time zone
    CONCURRENCY = "concurrency"  # leases, no window


class Window(Struct, frozen=True, kw_only=True, gc=False):
    """A window: rolling (`length_ms`) or calendar (`period`)."""

    algorithm: Algorithm
    length_ms: int = 0
    period: str = ""  # "day", "week" or "month" for a calendar window
    timezone: str = "UTC"
    week_start: int = 0  # 0 = Monday ... 6 = Sunday

    def __str__(self) -> str:
        return self.period or (spell_duration(self.length_ms) if self.length_ms else "")


class Quota(Struct, frozen=True, kw_only=True, gc=False):
    """So much of a unit in a window. `burst` is GCRA's alone."""

    unit: Unit
    amount: int
    window: Window
    burst: int = 0

    def burst_of(self, amount: int) -> int:
        """The burst where another amount stands in the place of the quota's: as much of it."""
        if self.burst == self.amount:
            return amount
        return max(1, self.burst * amount // self.amount) if self.amount else 0

    def __str__(self) -> str:
        amount = str(Decimal(self.amount) / NANO) if self.unit is Unit.COST else str(self.amount)
        return f"{self.unit}={amount}/{self.window}" if str(self.window) else f"{self.unit}={amount}"


class OwnedQuotas(Struct, frozen=True, kw_only=True, gc=False):
    """The quotas of one key, user or team. Each counts that owner as a whole, on every route."""

    kind: str  # "key", "user" or "team"
    owner: str
    home: str  # whose the counters are, see `Hold.owner`
    quotas: tuple[Quota, ...]


class BadQuota(ValueError):
    """A quota, amount or window that cannot be read. The message says what would be right."""


_DURATION = re.compile(r"(\d+)\s*(ms|s|m|h|d)\Z", re.ASCII)
_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_MULTIPLES = {"k": 1000, "K": 1000, "M": 10**6, "G": 10**9}
_CALENDAR = frozenset({"day", "week", "month"})
_ROLLING = {
    "s": "1s",
    "m": "1m",
    "h": "1h",
    "d": "24h",
    "second": "1s",
    "minute": "1m",
    "min": "1m",
    "hour": "1h",
}


def parse_duration(text: str, wanted: str = "a duration; write for example 30s, 1m, 24h or 90d") -> int:
    """Milliseconds of `30s`, `1m`, `24h`, `90d`. Raises BadQuota, which says what is `wanted`."""
    match = _DURATION.match(text.strip())
    if match is None or int(match[1]) == 0:
        raise BadQuota(f"{text!r} is not {wanted}")
    milliseconds = int(match[1]) * _MS[match[2]]
    if milliseconds > 366 * 86_400_000 * 10:
        raise BadQuota(f"{text!r} is longer than ten years")
    return milliseconds


def spell_duration(milliseconds: int) -> str:
    """The shortest spelling that `parse_duration` reads back."""
    for unit in ("h", "m", "s"):
        if milliseconds % _MS[unit] == 0:
            return f"{milliseconds // _MS[unit]}{unit}"
    return f"{milliseconds}ms"


def parse_amount(text: str | int | float, unit: Unit) -> int:
    """An amount in the unit: `60`, `200k`, `50M`; cost takes decimals of the currency. Raises BadQuota."""
    spelled = str(text).strip().replace("_", "")
    factor = _MULTIPLES.get(spelled[-1:], 1)
    digits = spelled[:-1] if factor > 1 else spelled
    if not re.fullmatch(r"\d+(\.\d+)?", digits, re.ASCII):
        raise BadQuota(f"{text!r} is not an amount; write for example 60, 200k or 50M")
    try:
        value = Decimal(digits) * factor * (NANO if unit is Unit.COST else 1)
    except InvalidOperation as error:
        raise BadQuota(f"{text!r} is not an amount") from error
    if value != value.to_integral_value():
        fine = "an amount of money to 9 decimals" if unit is Unit.COST else f"a whole number of {unit}"
        raise BadQuota(f"{text!r} is not {fine}")
    if value > MAX_AMOUNT:
        raise BadQuota(f"{text!r} is too large; the most is {MAX_AMOUNT}")
    return int(value)


def parse_window(
    text: str, unit: Unit, *, algorithm: str | None = None, timezone: str = "UTC", week_start: int = 0
) -> Window:
    """`30s 1m 24h` roll; `day week month` follow the calendar of `timezone`. Raises BadQuota.

    A rolling window of requests is GCRA, of anything else sliding, unless named.
    """
    text = text.strip()
    if text in _CALENDAR:
        if algorithm not in (None, Algorithm.CALENDAR):
            raise BadQuota(
                f"a {text} window follows the calendar; {algorithm} needs a rolling one such as 24h"
            )
        return Window(algorithm=Algorithm.CALENDAR, period=text, timezone=timezone, week_start=week_start)
    length = parse_duration(
        _ROLLING.get(text, text), "a window; write for example 30s, 1m, 24h, day or month"
    )
    if algorithm == Algorithm.CALENDAR:
        raise BadQuota("a calendar window is day, week or month")
    chosen = (
        Algorithm(algorithm) if algorithm else Algorithm.GCRA if unit is Unit.REQUESTS else Algorithm.SLIDING
    )
    if chosen is Algorithm.SLIDING and length % 60:
        raise BadQuota(
            f"a sliding window must divide into 60 whole parts of a millisecond; {text!r} does not"
        )
    return Window(algorithm=chosen, length_ms=length)


_SHORTHAND = re.compile(r"(\d+)\s*r/\s*(\w+)\Z", re.ASCII)


def parse_quota(text: str, *, timezone: str = "UTC", week_start: int = 0) -> Quota:
    """`requests=60/m`, `tokens=10000/day`, `cost=5/month`, `concurrency=4` or `60r/m`. Raises BadQuota."""
    shorthand = _SHORTHAND.match(text.strip())
    if shorthand:
        text = f"requests={shorthand[1]}/{shorthand[2]}"
    name, equals, rest = text.strip().partition("=")
    if not equals or name not in Unit.__members__.values():
        units = ", ".join(Unit)
        raise BadQuota(
            f"{text!r} is not a limit; write UNIT=N/WINDOW with one of {units}, for example requests=60/m"
        )
    unit = Unit(name)
    amount_text, slash, window_text = rest.partition("/")
    amount = parse_amount(amount_text, unit)
    if unit is Unit.CONCURRENCY:
        if slash:
            raise BadQuota("concurrency has no window; write concurrency=4")
        return Quota(unit=unit, amount=amount, window=Window(algorithm=Algorithm.CONCURRENCY))
    if not slash:
        raise BadQuota(f"{text!r} has no window; write for example {unit}={amount_text}/day")
    window = parse_window(window_text, unit, timezone=timezone, week_start=week_start)
    return Quota(
        unit=unit, amount=amount, window=window, burst=amount if window.algorithm is Algorithm.GCRA else 0
    )
