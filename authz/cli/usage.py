"""`authz usage`: what was used, summed from the ledger."""

import csv
import re
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from cyclopts import App, Parameter

from authz.authenticate.key_format import ID_PREFIX
from authz.calendar import calendar_bounds
from authz.cli import context, output, people, values
from authz.cli.context import Context
from authz.cli.errors import UsageError
from authz.cli.options import DEFAULTS, Common
from authz.config.base import nearest
from authz.quota import NANO
from authz.store.protocols import Registry, UsageRow

app = App(name="usage")

DIMENSIONS = ("user", "team", "key", "model", "route", "gateway", "source", "day")
FIGURES = (
    "requests",
    "input_tokens",
    "output_tokens",
    "cached_input_tokens",
    "reasoning_tokens",
    "cost",
    "currency",
    "estimated_input_tokens",
    "estimated_output_tokens",
)
_SPARE = (
    "estimated_input_tokens",
    "estimated_output_tokens",
    "reasoning_tokens",
    "cached_input_tokens",
    "currency",
)


@app.default
def usage(
    *,
    by: str = "user,model",
    month: str | None = None,
    since: str | None = None,
    until: str | None = None,
    user: str | None = None,
    team: str | None = None,
    key: str | None = None,
    model: str | None = None,
    route: str | None = None,
    as_csv: Annotated[
        bool, Parameter(name="--csv", help="Print CSV (RFC 4180), safe to open in a spreadsheet.")
    ] = False,
    common: Common = DEFAULTS,
) -> None:
    """Tell who used how much of what: requests, tokens, cost. Without a time: this month so far.

    Parameters
    ----------
    by
        What to sum by: any of user, team, key, model, route, gateway, source, day. Left out: user,model.
    month
        2026-10: that month in the config's time zone.
    since
        7d, or a date in the config's time zone.
    until
        Up to this moment: 1d ago, or a date in the config's time zone, itself not included.
    user
        Only this user's.
    team
        Only this team's.
    key
        Only this key's: its id, or what is displayed of it.
    model
        Only this model's.
    route
        Only this route's.
    """
    if as_csv and common.json:
        raise UsageError("--csv and --json are two forms; choose one.")
    dimensions = _dimensions(by)
    at = context.read(common)
    begin, end = _range(at, month, since, until)
    chosen = {"user": user, "team": team, "key": key, "model": model, "route": route}
    only = {dimension: value for dimension, value in chosen.items() if value is not None}
    with context.view(at) as store:
        if "key" in only:
            only["key"] = _key_id(only["key"], store.registry)
        found = store.ledger.usage(since=begin, until=end, by=dimensions, only=only)
    columns = (*dimensions, *FIGURES)
    _explain_border(at, begin, end)
    if as_csv:
        _show_csv(found, columns, at.config.currency)
        return
    rows = [_row(each, at.config.currency) for each in found]
    output.show_rows(rows, columns, as_json=common.json, none="No requests in that time.", spare=_SPARE)


def _dimensions(by: str) -> tuple[str, ...]:
    """Raises UsageError."""
    dimensions = tuple(by.split(","))
    for dimension in dimensions:
        if dimension not in DIMENSIONS:
            meant = nearest(dimension, DIMENSIONS)
            hint = f"Did you mean {meant}?" if meant else f"Choose from {', '.join(DIMENSIONS)}."
            raise UsageError(f"nothing is summed by {dimension!r}.", hint=hint)
    if len(set(dimensions)) < len(dimensions):
        raise UsageError(f"--by {by} names something twice.")
    return dimensions


def _range(at: Context, month: str | None, since: str | None, until: str | None) -> tuple[int, int]:
    """[begin, end) in ms. Raises UsageError."""
    if month is not None:
        if since is not None or until is not None:
            raise UsageError("--month is a time of its own; leave out --since and --until.")
        return _month(month, at)
    # Nothing is later than now, and whole days are summed already.
    _, _, tonight, _ = calendar_bounds(at.now, "day", at.config.timezone)
    end = values.moment_ago(until, at.now, at.zone) if until is not None else tonight
    if since is not None:
        begin = values.moment_ago(since, at.now, at.zone)
    else:
        _, begin, _, _ = calendar_bounds(at.now, "month", at.config.timezone)
    if begin >= end:
        raise UsageError("the time ends before it begins.", hint="--since comes before --until.")
    return begin, end


def _month(text: str, at: Context) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{4})-(\d\d)", text, re.ASCII)
    if match is None or not 1 <= int(match[2]) <= 12 or not 1970 <= int(match[1]) <= 9000:
        raise UsageError(f"{text!r} is not a month.", hint="Write for example --month 2026-10.")
    within = datetime(int(match[1]), int(match[2]), 15, tzinfo=at.zone)
    _, begin, end, _ = calendar_bounds(round(within.timestamp() * 1000), "month", at.config.timezone)
    return begin, end


def _key_id(given: str, registry: Registry) -> str:
    if given.startswith(ID_PREFIX):
        return given
    with people.Explained("authz keys list"):
        return registry.find_key(given).id


def _explain_border(at: Context, begin: int, end: int) -> None:
    """Say so where a range cuts a day of which there is only a sum."""
    kept_from = at.now - at.config.ledger.retention
    cut = [
        border
        for border in (begin, end)
        if border < kept_from and calendar_bounds(border, "day", at.config.timezone)[1] != border
    ]
    if cut:
        days = at.config.ledger.retention // 86_400_000
        output.note(f"Single requests are kept for {days} days: earlier days are counted whole.")


def _row(row: UsageRow, currency: str) -> output.Row:
    return {
        **row.group,
        "requests": row.requests,
        "input_tokens": row.input_tokens,
        "output_tokens": row.output_tokens,
        "cached_input_tokens": row.cached_input_tokens,
        "reasoning_tokens": row.reasoning_tokens,
        "cost": row.cost / NANO,
        "currency": currency,
        "estimated_input_tokens": row.estimated_input_tokens,
        "estimated_output_tokens": row.estimated_output_tokens,
    }


def _show_csv(found: Sequence[UsageRow], columns: Sequence[str], currency: str) -> None:
    """RFC 4180: a header, commas, CR LF. The cost is exact."""
    writer = csv.writer(sys.stdout, lineterminator="\r\n")
    writer.writerow(columns)
    for each in found:
        row = {**_row(each, currency), "cost": _decimal(each.cost)}
        writer.writerow([_safe(str(row[column])) for column in columns])


def _decimal(cost: int) -> str:
    whole, rest = divmod(cost, NANO)
    return f"{whole}.{rest:09d}".rstrip("0").rstrip(".")


def _safe(cell: str) -> str:
    """Text that no spreadsheet takes for a formula: a name may come from a stranger.

    https://owasp.org/www-community/attacks/CSV_Injection
    """
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell
