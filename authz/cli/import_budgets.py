"""LiteLLM's limits and budgets as ours.

`tpm_limit` and `rpm_limit` are per minute, `max_budget` is in US dollars per `budget_duration`, or for ever
(https://docs.litellm.ai/docs/proxy/users).
"""

import re
from collections.abc import Mapping, Sequence
from decimal import ROUND_DOWN, Decimal
from typing import Any, Final

from msgspec import Struct

from authz.cli.context import Context
from authz.cli.import_rows import Fields
from authz.quota import MAX_AMOUNT, NANO, BadQuota, Quota

FOR_EVER: Final = "3650d"
"""The longest window: a budget that is never filled up again."""

_SMALLEST: Final = Decimal(1) / NANO
_DURATION: Final = re.compile(r"([1-9]\d{0,8})(mo|[smhdw])", re.ASCII)
_CALENDAR: Final = {"1d": "day", "24h": "day", "7d": "week", "1w": "week", "30d": "month", "1mo": "month"}
"""LiteLLM aligns these to midnight, to Monday and to the first of the month."""


class Limited(Struct, frozen=True):
    """The limits of a key, a user or a team."""

    quotas: tuple[Quota, ...]
    lost: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def limits_of(fields: Fields, budgets: Mapping[str, Fields], at: Context) -> Limited:
    """What its own columns say, else those of the budget that it names."""
    lost: list[str] = []
    budget = _budget(fields, budgets, lost)
    written: list[str] = []
    for column, limit in (("rpm_limit", "requests={}/1m"), ("tpm_limit", "tokens={}/1m")):
        amount = _either(fields, budget, column)
        if amount is not None:
            written.append(limit.format(amount))
    slots = _either(fields, budget, "max_parallel_requests")
    if slots is not None:
        written.append(f"concurrency={slots}")
    notes: list[str] = []
    cost = _cost(fields, budget, lost, notes)
    if cost is not None:
        written.append(cost)
    return Limited(_quotas(fields, written, at, lost), tuple(lost), tuple(notes))


def _budget(fields: Fields, budgets: Mapping[str, Fields], lost: list[str]) -> Fields | None:
    name = fields.text("budget_id")
    inside = fields.mapping("litellm_budget_table")
    if inside:
        return Fields(f"{fields.place}.litellm_budget_table", inside)
    if name is None:
        return None
    if name not in budgets:
        lost.append("its budget is not in the files (LiteLLM_BudgetTable, /budget/list)")
        return None
    if budgets[name].has("model_max_budget"):
        lost.append("a budget for each model")
    return budgets[name]


def _either(fields: Fields, budget: Fields | None, column: str) -> int | None:
    own = fields.whole(column)
    return own if own is not None or budget is None else budget.whole(column)


def _cost(fields: Fields, budget: Fields | None, lost: list[str], notes: list[str]) -> str | None:
    source = fields if fields.number("max_budget") is not None or budget is None else budget
    most = source.number("max_budget")
    if most is None:
        return None
    duration = source.text("budget_duration")
    if duration is None:
        # What was spent stays spent: nothing ever fills this budget up.
        left = max(Decimal(0), most - (fields.number("spend") or 0))
        notes.append("its budget has no period: what is left of it becomes one for ten years")
        return f"cost={_amount(left)}/{FOR_EVER}"
    window = _CALENDAR.get(duration) or _rolling(duration)
    if window is None:
        lost.append("a budget for a period that cannot be written here")
        return None
    return f"cost={_amount(most)}/{window}"


def _amount(cost: Decimal) -> str:
    """In the currency, with the nine decimals that are counted; never more than it was."""
    return f"{min(cost, Decimal(MAX_AMOUNT // NANO)).quantize(_SMALLEST, ROUND_DOWN):f}"


def _rolling(duration: str) -> str | None:
    match = _DURATION.fullmatch(duration)
    if match is None or match[2] == "mo":
        return None
    return f"{int(match[1]) * 7}d" if match[2] == "w" else duration


def _quotas(fields: Fields, written: Sequence[str], at: Context, lost: list[str]) -> tuple[Quota, ...]:
    quotas = []
    for text in written:
        try:
            quotas.append(at.quota(text))
        except BadQuota:
            lost.append(f"a limit that cannot be written here ({text.partition('=')[0]})")
    return tuple(quotas)


def per_model(fields: Fields) -> tuple[str, ...]:
    """Limits that hold for single models: here they belong into the config file."""
    metadata: Mapping[str, Any] = fields.mapping("metadata")
    found = []
    if fields.has("model_max_budget") or fields.has("budget_limits"):
        found.append("a budget for each model")
    if metadata.get("model_rpm_limit") or metadata.get("model_tpm_limit"):
        found.append("limits for each model")
    return tuple(found)
