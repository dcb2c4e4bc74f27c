"""`authz limits`: what the config file's limits are, how they stand, and who has more or less."""

import secrets
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Annotated

from cyclopts import App, Parameter

from authz.authenticate.key_format import ID_PREFIX
from authz.cli import context, output, people, values
from authz.cli.context import Context
from authz.cli.errors import CommandError, UsageError
from authz.cli.options import DEFAULTS, Common
from authz.cli.output import Row
from authz.cli.rows import ADJUSTMENT_COLUMNS, ADJUSTMENT_SPARE, adjustment_row, figure
from authz.cli.trial_report import report
from authz.config.base import nearest
from authz.config.fineness import countable
from authz.limit.partition import Partition, read_key
from authz.limit.planner import hold_of
from authz.limit.policy import Policy
from authz.ruleset import policy_of
from authz.store.levels import level_of, settled_of
from authz.store.protocols import Registry
from authz.store.records import Adjustment

app = App(name="limits", help="Limits: what is left, overrides and grants.")
adjustments = App(name="adjustments", help="The overrides and grants that were given by command.")
app.command(adjustments)
app.command(report)

_LIMIT_COLUMNS = ("name", "unit", "quota", "window", "counted_by", "overrides", "mode", "counters")
_LIMIT_SPARE = ("overrides", "counters", "mode")
_LEVEL_COLUMNS = ("for", "quota", "settled", "held", "left", "reset_after")

_Team = Annotated[str | None, Parameter(name="--team", help="For this team.")]
_User = Annotated[str | None, Parameter(name="--user", help="For this user.")]
_Key = Annotated[str | None, Parameter(name="--key-id", help="For the key of this id.")]
_Model = Annotated[str | None, Parameter(name="--model", help="For this model.")]
_Other = Annotated[
    list[str] | None,
    Parameter(name="--for", help="NAME=VALUE for anything else that it counts by; repeat for more."),
]


@app.command(name="list")
def list_(*, common: Common = DEFAULTS) -> None:
    """List the limits of the config file.

    Limits of a single key, user or team are shown with that key, user or team.
    """
    at = context.read(common)
    counters = _counters(at)
    rows: list[Row] = []
    for name, entry in at.config.limits.items():
        policy = policy_of(name, entry)
        rows.append(
            {
                "name": name,
                "unit": policy.quota.unit,
                "quota": figure(policy.quota.amount, policy.quota.unit),
                "window": str(policy.quota.window) or None,
                "counted_by": list(policy.partition_by),
                "overrides": len(policy.overrides),
                "mode": entry.mode,
                "counters": None if counters is None else len(_partitions(policy, counters)),
                "routes": [route.name for route in at.config.routes if name in route.limits],
            }
        )
    none = "No limits in the config file."
    output.show_rows(rows, _LIMIT_COLUMNS, as_json=common.json, none=none, spare=_LIMIT_SPARE)


@app.command
def show(name: str, /, *, common: Common = DEFAULTS) -> None:
    """Show a limit and how much of it is left to whom.

    The figures are those that the service wrote down last, at most a second ago.

    Parameters
    ----------
    name
        The limit's name in the config file.
    """
    at = context.read(common)
    policy = _policy(at, name)
    with context.registry(at) as registry:
        given = [each for each in registry.adjustments() if each.policy == name]
        levels = _levels(policy, registry.counter_levels(name), given, at.now)
    quota = policy.quota
    row: dict[str, output.Value] = {
        "name": name,
        "unit": quota.unit,
        "quota": figure(quota.amount, quota.unit),
        "window": str(quota.window) or None,
        "algorithm": quota.window.algorithm,
        "counted_by": list(policy.partition_by),
        "mode": "shadow" if policy.shadow else "live",
        "overrides": [
            {**dict(each.partition), "quota": figure(each.amount, quota.unit)} for each in policy.overrides
        ],
    }
    changes = [adjustment_row(each, quota.unit, at.now) for each in given]
    if common.json:
        output.show_json({**row, "adjustments": changes, "levels": levels})
        return
    output.show_record(row, as_json=False)
    output.say("")
    if changes:
        output.show_rows(changes, ADJUSTMENT_COLUMNS, as_json=False, none="", spare=ADJUSTMENT_SPARE)
        output.say("")
    output.show_rows(levels, _LEVEL_COLUMNS, as_json=False, none="Nobody has used any of it.")


@app.command
def override(
    name: str,
    amount: str,
    /,
    *,
    team: _Team = None,
    user: _User = None,
    key_id: _Key = None,
    model: _Model = None,
    other: _Other = None,
    until: str | None = None,
    common: Common = DEFAULTS,
) -> None:
    """Give somebody another quota instead of the limit's.

    Parameters
    ----------
    name
        The limit's name in the config file.
    amount
        The quota to use instead: 200M, 0 to block; cost in the currency.
    until
        90d or a date. Left out: for ever.
    """
    at = context.read(common)
    policy = _policy(at, name)
    number = values.amount(amount, policy.quota.unit)
    if not countable(at.loaded.store, policy.quota, number):
        raise UsageError(f"Redis cannot drain {amount} of the limit {name!r} exactly; give a rounder quota.")
    partition = {"team": team, "user": user, "key": key_id, "model": model}
    _adjust(at, policy, partition, other, until, override=number, as_json=common.json)


@app.command
def grant(
    name: str,
    amount: str,
    /,
    *,
    until: str,
    team: _Team = None,
    user: _User = None,
    key_id: _Key = None,
    model: _Model = None,
    other: _Other = None,
    common: Common = DEFAULTS,
) -> None:
    """Give somebody more on top of a limit, for a while.

    Parameters
    ----------
    name
        The limit's name in the config file.
    amount
        How much more: 1M; cost in the currency.
    until
        When it ends: 7d or a date.
    """
    at = context.read(common)
    policy = _policy(at, name)
    number = values.amount(amount, policy.quota.unit)
    if number < 1:
        raise UsageError("a grant adds at least 1.", hint="authz limits override sets a smaller quota.")
    if until == "never":
        raise UsageError("a grant has an end.", hint="authz limits override sets a larger quota for ever.")
    partition = {"team": team, "user": user, "key": key_id, "model": model}
    _adjust(at, policy, partition, other, until, grant=number, as_json=common.json)


@adjustments.command(name="list")
def list_adjustments(*, limit: str | None = None, common: Common = DEFAULTS) -> None:
    """List the overrides and grants that were given by command.

    Parameters
    ----------
    limit
        Only those of this limit.
    """
    at = context.read(common)
    with context.registry(at) as registry:
        rows = [_row(at, each) for each in registry.adjustments() if limit is None or each.policy == limit]
    columns = (*ADJUSTMENT_COLUMNS, "status")
    none = "No overrides or grants."
    output.show_rows(rows, columns, as_json=common.json, none=none, spare=ADJUSTMENT_SPARE)


@adjustments.command(name="remove")
def remove_adjustment(id: str, /, *, common: Common = DEFAULTS) -> None:
    """Take an override or grant back.

    Parameters
    ----------
    id
        Its id, as `list` shows it.
    """
    with (
        context.registry(context.read(common)) as registry,
        people.Explained("authz limits adjustments list"),
    ):
        registry.remove_adjustment(id)
    output.show_record({"removed": id}, as_json=common.json)


def _policy(at: Context, name: str) -> Policy:
    entry = at.config.limits.get(name)
    if entry is None:
        meant = nearest(name, list(at.config.limits))
        hint = f"Did you mean {meant!r}?" if meant else "authz limits list shows those that exist."
        raise CommandError(f"there is no limit {name!r} in {at.path}.", hint=hint)
    return policy_of(name, entry)


def _adjust(
    at: Context,
    policy: Policy,
    options: Mapping[str, str | None],
    other: Sequence[str] | None,
    until: str | None,
    *,
    override: int | None = None,
    grant: int = 0,
    as_json: bool,
) -> None:
    with context.registry(at) as registry, people.Explained("authz keys list"):
        adjustment = Adjustment(
            id=f"adj_{secrets.token_hex(8)}",
            policy=policy.name,
            partition=_partition(policy, options, other, registry),
            override=override,
            grant=grant,
            until=None if until is None else values.moment_ahead(until, at.now, at.zone),
            created_at=at.now,
            created_by=context.operator(),
        )
        registry.add_adjustment(adjustment)
    output.show_record(_row(at, adjustment), as_json=as_json)


def _partition(
    policy: Policy, options: Mapping[str, str | None], other: Sequence[str] | None, registry: Registry
) -> Partition:
    """Whom it is for, in the order in which the limit counts. Raises UsageError."""
    chosen = {dimension: value for dimension, value in options.items() if value is not None}
    for pair in other or ():
        dimension, equals, value = pair.partition("=")
        if not equals or dimension in chosen:
            raise UsageError(f"--for {pair!r} is not NAME=VALUE, or names something twice.")
        chosen[dimension] = value
    counted = ", ".join(policy.partition_by) or "nothing: it is one for all"
    for dimension in chosen:
        if dimension not in policy.partition_by:
            raise UsageError(
                f"the limit {policy.name!r} does not count by {dimension}.", hint=f"It counts by {counted}."
            )
    if policy.partition_by and not chosen:
        raise UsageError("whom is it for?", hint=f"The limit {policy.name!r} counts by {counted}.")
    if "key" in chosen and not chosen["key"].startswith(ID_PREFIX):
        chosen["key"] = registry.find_key(chosen["key"]).id
    return tuple((dimension, chosen[dimension]) for dimension in policy.partition_by if dimension in chosen)


def _row(at: Context, adjustment: Adjustment) -> Row:
    entry = at.config.limits.get(adjustment.policy)
    return adjustment_row(adjustment, entry.unit if entry is not None else None, at.now)


def _counters(at: Context) -> Mapping[str, bytes] | None:
    """None where the store cannot tell."""
    if at.loaded.store.scheme == "memory":
        return None
    with context.registry(at) as registry:
        return registry.counter_levels()


def _partitions(policy: Policy, counters: Mapping[str, bytes]) -> list[tuple[str, Partition]]:
    found = ((key, read_key(policy.name, policy.partition_by, key)) for key in counters)
    return [(key, partition) for key, partition in found if partition is not None]


def _levels(
    policy: Policy, counters: Mapping[str, bytes], given: Sequence[Adjustment], now: int
) -> list[dict[str, output.Value]]:
    """How each counter stands, the fullest first."""
    by_partition = {
        partition: list(some)
        for partition, some in groupby(
            sorted(given, key=lambda each: each.partition), lambda each: each.partition
        )
    }
    rows = []
    for key, partition in _partitions(policy, counters):
        amount = policy.amount_for(partition, by_partition, now)
        hold = hold_of(policy, partition, amount, needed=0, now=now)
        level = level_of(counters[key], hold, now)
        unit = policy.quota.unit
        share = level.remaining / hold.quota if hold.quota else 0.0
        row: dict[str, output.Value] = {
            "for": dict(partition),
            "quota": figure(hold.quota, unit),
            "settled": figure(settled_of(counters[key], hold, now), unit),
            "held": figure(level.held, unit),
            "left": figure(level.remaining, unit),
            "reset_after": round(level.reset_ms / 1000, 3),
        }
        rows.append((share, str(partition), row))
    return [row for _, _, row in sorted(rows, key=lambda each: each[:2])]
