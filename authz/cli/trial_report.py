"""`authz limits report`: whom the limits on trial would have refused."""

from authz.cli import context, output, values
from authz.cli.context import Context
from authz.cli.options import DEFAULTS, Common
from authz.cli.output import Row
from authz.cli.rows import figure
from authz.ruleset import policy_of
from authz.store.trials import Trial

_COLUMNS = ("limit", "for", "would_refuse", "refused_live", "quota", "window", "first_at", "last_at")
_SPARE = ("window", "first_at", "quota")


def report(*, since: str = "7d", common: Common = DEFAULTS) -> None:
    """Tell whom limits on trial would have refused: `mode: shadow`, or `shadow: {quota: N}` beside a limit.

    Requests that were let through are counted by limit and partition, and beside them those that the limit
    itself refused.

    Parameters
    ----------
    since
        24h, or a date in the config's time zone; counted from the full hour. Left out: 7d.
    """
    at = context.read(common)
    begin = values.moment_ago(since, at.now, at.zone)
    with context.view(at) as store:
        found = store.trial_log.list(since=begin)
    rows = [_row(at, each) for each in found]
    none = "No limit on trial would have refused anything."
    if not any(entry.mode == "shadow" or entry.shadow is not None for entry in at.config.limits.values()):
        none = "No limit is on trial: set `mode: shadow` or `shadow: {quota: N}`."
    output.show_rows(rows, _COLUMNS, as_json=common.json, none=none, spare=_SPARE)


def _row(at: Context, trial: Trial) -> Row:
    entry = at.config.limits.get(trial.policy)
    policy = policy_of(trial.policy, entry) if entry is not None else None
    amount = None
    if policy is not None and (policy.shadow or policy.shadow_amount is not None):
        amount = policy.shadow_amount if policy.shadow_amount is not None else policy.quota.amount
    beside = policy is not None and policy.shadow_amount is not None
    return {
        "limit": trial.policy,
        "for": dict(trial.partition),
        "would_refuse": trial.would,
        "refused_live": trial.live if beside or trial.live else None,
        "quota": figure(amount, policy.quota.unit) if amount is not None and policy is not None else None,
        "unit": policy.quota.unit if policy is not None else None,
        "window": str(policy.quota.window) or None if policy is not None else None,
        "first_at": values.spell_moment(trial.first_at),
        "last_at": values.spell_moment(trial.last_at),
    }
