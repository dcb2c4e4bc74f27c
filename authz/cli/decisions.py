"""`authz decisions`: what was refused, and why."""

from collections.abc import Mapping
from typing import Annotated, Any

from cyclopts import App, Parameter

from authz.cli import context, output, values
from authz.cli.errors import CommandError, UsageError
from authz.cli.options import DEFAULTS, Common
from authz.cli.rows import DENIAL_COLUMNS, DENIAL_SPARE, denial_row, figure
from authz.config.base import nearest
from authz.reason import ANSWERS, Reason
from authz.store.records import Denial

app = App(name="decisions", help="Refused requests and why.")


@app.command(name="list")
def list_(
    *,
    user: str = "",
    status: int = 0,
    reason: str = "",
    since: str | None = None,
    limit: Annotated[int, Parameter(help="How many at most: 100 unless given.")] = 100,
    common: Common = DEFAULTS,
) -> None:
    """List refused requests, the latest first. Floods of the same refusal are one row with a count.

    Parameters
    ----------
    user
        Only this user's.
    status
        Only those answered with this HTTP status, such as 429.
    reason
        Only those refused for this reason, such as rate_limited.
    since
        2h, or a date in the config's time zone.
    """
    if reason and reason not in [str(known) for known in Reason]:
        meant = nearest(reason, [str(known) for known in Reason])
        hint = f"Did you mean {meant}?" if meant else "authz decisions list shows reasons in its column."
        raise UsageError(f"there is no reason {reason!r}.", hint=hint)
    if limit < 1:
        raise UsageError("--limit is at least 1.")
    at = context.read(common)
    begin = values.moment_ago(since, at.now, at.zone) if since is not None else 0
    with context.view(at) as store:
        found = store.denial_log.list(since=begin, user=user, status=status, reason=reason, limit=limit)
    rows = [denial_row(denial) for denial in found]
    none = "No refused requests" + (" that match." if user or status or reason or since else ".")
    output.show_rows(rows, DENIAL_COLUMNS, as_json=common.json, none=none, spare=DENIAL_SPARE)


@app.command
def show(id: str, /, *, common: Common = DEFAULTS) -> None:
    """Explain a refusal: who, what, why, and how every limit stood.

    Parameters
    ----------
    id
        The request id that the client saw (header x-request-id).
    """
    with context.view(context.read(common)) as store:
        denial = store.denial_log.show(id)
    if denial is None:
        raise CommandError(
            "no refusal of that id is kept.",
            hint="authz decisions list shows the latest. Old ones are dropped; allowed requests never kept.",
        )
    if common.json:
        output.show_json(denial_row(denial))
        return
    for line in explain(denial):
        output.say(line)


def explain(denial: Denial) -> list[str]:
    """A refusal in words for somebody who has not seen this system before."""
    lines = [f"Refused with HTTP {denial.status}: {denial.message or _text_of(denial.reason)}", ""]
    first, last = values.spell_moment(denial.at), values.spell_moment(denial.last_at)
    often = f", {denial.count} times the same until {last}" if denial.count > 1 else ""
    lines.append(f"When     {first}{often}")
    who = [f"user {denial.user}"] if denial.user else ["nobody that is known"]
    who += [f"{what} {name}" for what, name in (("team", denial.team), ("key", denial.key)) if name]
    who += [f"from {denial.ip}"] if denial.ip else []
    lines.append(f"Who      {', '.join(who)}")
    model = f", model {denial.model}" if denial.model else ""
    lines.append(f"What     {denial.method} {denial.path}{model}")
    where = f"gateway {denial.gateway}" + (
        f", route {denial.route}" if denial.route else ", no route takes it"
    )
    lines.append(f"Through  {where}")
    if denial.client_request_id:
        lines.append(f"Its id   {denial.client_request_id}, as the client calls it")
    lines.append(f"Reason   {denial.reason}")
    if denial.detail:
        lines.append(f"Detail   {denial.detail}")
    if denial.limits:
        lines += ["", "The limits that the request had to fit, as they stood:"]
        lines += [f"  {_limit_line(figures)}" for figures in denial.limits]
    return lines


def _limit_line(figures: Mapping[str, Any]) -> str:
    unit = str(figures["unit"])
    quota, needed, left = (figure(int(figures[name]), unit) for name in ("quota", "needed", "remaining"))
    how_often = f"{unit} per {figures['window']}" if figures["window"] else "requests at once"
    whose = f" for {figures['partition']}" if figures["partition"] else " for all together"
    shadow = " (a trial that never refuses)" if figures["shadow"] else ""
    verdict = "too little was left" if figures["exhausted"] else "enough was left"
    seconds = float(figures["reset_after"])
    free = f" All of it is free again after {values.spell_wait(seconds)}." if seconds > 0 else ""
    return (
        f"{figures['policy']}: {quota} {how_often}{whose}{shadow}. "
        f"Needed {needed}, left {left}: {verdict}.{free}"
    )


def _text_of(reason: str) -> str:
    try:
        return ANSWERS[Reason(reason)].text
    except ValueError:
        return reason
