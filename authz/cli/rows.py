"""Records as rows: the shape that `--json` prints and that tables are made of. It is stable."""

from collections.abc import Collection, Iterable

from authz.cli.output import Row
from authz.cli.values import spell_moment
from authz.quota import NANO, Quota, Unit
from authz.store.records import Adjustment, Denial, Key, Model, Team, User

KEY_COLUMNS = ("id", "display", "name", "user", "team", "models", "roles", "limits", "status", "expires_at")
KEY_SPARE = ("roles", "limits", "name", "team", "models", "expires_at", "display")
USER_COLUMNS = ("name", "email", "team", "models", "roles", "limits", "status")
TEAM_COLUMNS = ("name", "models", "limits")
MODEL_COLUMNS = ("name", "context", "max_output", "price", "access", "source")
ADJUSTMENT_COLUMNS = ("id", "limit", "for", "quota", "grant", "until", "by")
ADJUSTMENT_SPARE = ("by", "limit", "until")
DENIAL_COLUMNS = ("id", "last_at", "count", "status", "reason", "user", "model", "method", "path")
DENIAL_SPARE = ("path", "method", "model", "count", "status", "last_at")  # a reason has one status


def key_row(key: Key, now: int) -> Row:
    return {
        "id": key.id,
        "display": key.display,
        "name": key.name,
        "user": key.user,
        "team": key.team,
        "models": _sorted(key.models),
        "roles": _sorted(key.roles),
        "limits": _limits(key.quotas),
        "status": _status(key, now),
        "created_at": spell_moment(key.created_at),
        "expires_at": spell_moment(key.expires_at),
        "revoked_at": spell_moment(key.revoked_at),
        "last_used_at": spell_moment(key.last_used_at),
    }


def user_row(user: User) -> Row:
    return {
        "name": user.name,
        "email": user.email,
        "team": user.team,
        "models": _sorted(user.models),
        "roles": _sorted(user.roles),
        "limits": _limits(user.quotas),
        "status": "disabled" if user.disabled else "active",
        "created_at": spell_moment(user.created_at),
    }


def team_row(team: Team) -> Row:
    return {
        "name": team.name,
        "models": _sorted(team.models),
        "limits": _limits(team.quotas),
        "created_at": spell_moment(team.created_at),
    }


def model_row(model: Model, source: str) -> Row:
    """`source` says whether the config file or the store holds it."""
    price = model.price
    return {
        "name": model.name,
        "context": model.context,
        "max_output": model.max_output,
        "price": {
            "input": price.input / NANO,
            "cached_input": None if price.cached_input is None else price.cached_input / NANO,
            "output": price.output / NANO,
        },
        "access": {"roles": _sorted(model.access.roles), "teams": _sorted(model.access.teams)},
        "source": source,
        "created_at": spell_moment(model.created_at or None),
    }


def adjustment_row(adjustment: Adjustment, unit: Unit | None, now: int) -> Row:
    """`unit` is the limit's; None where the config no longer has that limit."""
    ended = adjustment.until is not None and adjustment.until <= now
    return {
        "id": adjustment.id,
        "limit": adjustment.policy,
        "for": dict(adjustment.partition),
        "quota": _amount(adjustment.override, unit),
        "grant": _amount(adjustment.grant, unit) if adjustment.override is None else None,
        "until": spell_moment(adjustment.until),
        "status": "ended" if ended else "active" if unit is not None else "unused: no such limit",
        "by": adjustment.created_by,
        "created_at": spell_moment(adjustment.created_at),
    }


def denial_row(denial: Denial) -> Row:
    return {
        "id": denial.id,
        "at": spell_moment(denial.at),
        "last_at": spell_moment(denial.last_at),
        "count": denial.count,
        "status": denial.status,
        "reason": denial.reason,
        "message": denial.message,
        "user": denial.user,
        "team": denial.team,
        "key": denial.key,
        "model": denial.model,
        "gateway": denial.gateway,
        "route": denial.route,
        "method": denial.method,
        "path": denial.path,
        "ip": denial.ip,
        "client_request_id": denial.client_request_id,
        "detail": denial.detail,
        "limits": [dict(figures) for figures in denial.limits],
    }


def figure(amount: int, unit: str) -> int | float:
    """An amount as people count it: cost in the currency, anything else as it is."""
    return amount / NANO if unit == Unit.COST else amount


def _amount(amount: int | None, unit: Unit | None) -> int | float | None:
    return None if amount is None else figure(amount, unit or "")


def _status(key: Key, now: int) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expires_at is not None and now >= key.expires_at else "active"


def _sorted(names: Collection[str] | None) -> list[str] | None:
    return None if names is None else sorted(names)


def _limits(quotas: Iterable[Quota]) -> list[str]:
    return [str(quota) for quota in quotas]
