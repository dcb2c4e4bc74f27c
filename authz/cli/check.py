"""`authz check`."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from authz.authenticate.presented import Slot
from authz.cli import context, output
from authz.cli.credential import headers_of, key_from_stdin
from authz.cli.errors import CommandError, Exit, UsageError
from authz.cli.options import DEFAULTS, Common
from authz.cli.rows import figure
from authz.config import SecretMissing
from authz.decision import Allow, Deny, LimitState
from authz.explain import Explanation, Question, explain
from authz.limit.estimate import Bound
from authz.quota import Unit
from authz.transport.address import parse_address

app = App(name="check")


@app.default
def check(
    *,
    path: str,
    key: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    key_in: str = "header:authorization",
    user: str | None = None,
    certificate: str | None = None,
    model: str | None = None,
    method: str = "POST",
    body: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    host: str = "localhost",
    header: list[str] | None = None,
    ip: str | None = None,
    common: Common = DEFAULTS,
) -> int:
    """Explain what would be decided for a request, stage by stage. Charges nothing.

    The exit code is 0 where the request would pass and 3 where it would be refused.

    Parameters
    ----------
    path
        Path and query, such as /v1/chat/completions.
    key
        `-`: read the API key, token or secret from standard input. Left out: none is sent.
    key_in
        Where it stands: header:NAME, query:NAME or cookie:NAME.
    user
        Read this user's password from standard input instead, and send both.
    certificate
        A file with the client's certificate in PEM.
    model
        The model that the body names.
    method
        POST unless given.
    body
        A file with the whole body, or `-` for standard input. Left out: one that names the model.
    host
        The host that is asked.
    header
        NAME=VALUE, such as user-agent=curl; repeat for more.
    ip
        The client's address.
    """
    secret = "-" if user is not None else key
    question = Question(
        path=path,
        method=method,
        host=host,
        model=model,
        body=_body(body, key or user),
        headers=headers_of(header or ()),
        key=None if secret is None else key_from_stdin(secret),
        key_in=_slot(key_in),
        user=user,
        certificate=Path(certificate).read_text(errors="replace") if certificate is not None else None,
        ip=_address(ip),
    )
    at = context.read(common)
    with context.view(at) as store:
        try:
            explanation = asyncio.run(explain(at.loaded, store, question, context.now))
        except SecretMissing as error:
            raise CommandError(f"{error}.", hint="Run this where the service runs, as its user.") from None
        except ValueError as error:
            raise CommandError(str(error)) from None
    _show(explanation, as_json=common.json)
    return Exit.REFUSED if isinstance(explanation.decision, Deny) else Exit.OK


def _slot(text: str) -> Slot:
    kind, _, name = text.partition(":")
    match kind:
        case "header" | "query" | "cookie" if name:
            return Slot(kind, name.lower() if kind == "header" else name)
    raise UsageError("--key-in is header:NAME, query:NAME or cookie:NAME.")


def _address(text: str | None) -> str | None:
    if text is not None and parse_address(text) is None:
        raise UsageError(f"{text!r} is no address.", hint="Write for example --ip 192.0.2.7.")
    return text


def _body(given: str | None, key: str | None) -> bytes | None:
    if given is None:
        return None
    if given == "-":
        if key is not None:
            raise UsageError(
                "key and body cannot both come from standard input.", hint="Name a file: --body FILE."
            )
        return sys.stdin.buffer.read()
    return Path(given).read_bytes()


def _show(explanation: Explanation, *, as_json: bool) -> None:
    decision = explanation.decision
    refused = isinstance(decision, Deny)
    rows: list[output.Row] = [
        {"stage": stage.name, "passed": stage.passed, "why": stage.text} for stage in explanation.stages
    ]
    if as_json:
        subject = decision.subject
        output.show_json(
            {
                "allowed": not refused,
                "status": decision.status if isinstance(decision, Deny) else 200,
                "reason": decision.reason.value,
                "route": decision.route,
                "user": subject.user if subject is not None else None,
                "team": subject.team if subject is not None else None,
                "key": subject.key if subject is not None else None,
                "model": decision.model,
                "stages": rows,
                "admission": explanation.admission,
                "hold": _hold(explanation.bound),
                "edit": decision.edit if isinstance(decision, Allow) else None,
                "limits": [_limit(state) for state in decision.limits],
            }
        )
        return
    output.show_rows(rows, ("stage", "passed", "why"), as_json=False, none="")
    if decision.limits:
        output.say("")
        limits = [_limit(state) for state in decision.limits]
        columns = ("limit", "for", "unit", "quota", "window", "needed", "left", "fits")
        output.show_rows(limits, columns, as_json=False, none="", spare=("for", "window"))
    output.say("")
    if isinstance(decision, Deny):
        output.say(f"Refused: HTTP {decision.status} {decision.reason}")
    else:
        output.say(f"Allowed on the route {decision.route}")
        if decision.edit is not None:
            output.say(f"A gateway that can change bodies is told: {decision.edit}")


def _hold(bound: Bound | None) -> output.Row | None:
    """The most that the request may use."""
    if bound is None:
        return None
    cost = figure(bound.cost, Unit.COST)
    return {"input_tokens": bound.input, "output_tokens": bound.output, "cost": cost, "sure": bound.sure}


def _limit(state: LimitState) -> output.Row:
    limit = state.limit
    return {
        "limit": limit.policy,
        "for": limit.partition,
        "unit": limit.unit,
        "quota": figure(limit.quota, limit.unit),
        "window": limit.window,
        "needed": figure(limit.needed, limit.unit),
        "left": figure(state.remaining, limit.unit),
        "fits": not state.exhausted,
        "shadow": limit.shadow,
    }
