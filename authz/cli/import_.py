"""`authz import`: keys, users and teams of another system. Their clients notice nothing."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Annotated, Final

from cyclopts import App, Parameter

from authz.cli import context, output
from authz.cli.context import Context
from authz.cli.errors import CommandError
from authz.cli.import_litellm import LiteLLM
from authz.cli.import_litellm_rows import read_export
from authz.cli.import_llmgateway import read_llmgateway
from authz.cli.import_plan import Action, Found, Plan, Step, apply, make_plan
from authz.cli.import_rows import Table, Wrong, read_file
from authz.cli.options import DEFAULTS, Common
from authz.cli.rows import key_row, team_row, user_row
from authz.quota import Quota, Unit
from authz.store.protocols import Registry
from authz.store.records import Key, Team, User

app = App(name="import", help="Take over keys, users and teams from LiteLLM or LLMGateway.")

Read = Callable[[Sequence[Table], Registry, Context], tuple[list[Found], list[Wrong]]]

COLUMNS: Final = ("kind", "name", "user", "team", "models", "limits", "status", "action", "why")
_SPARE: Final = ("status", "team", "user", "limits", "models")
_SHOWN: Final = 20  # mistakes
_DOLLAR: Final = "USD"

_Files = Annotated[list[str], Parameter(allow_leading_hyphen=True)]
_DryRun = Annotated[bool, Parameter(help="Only show what would be made, skipped and different.")]
_Update = Annotated[bool, Parameter(help="Change records that the store has in another version.")]
_Looser = Annotated[
    bool, Parameter(help="Take over rows, too, that lose a restriction which cannot be expressed here.")
]


@app.command
def llmgateway(
    files: _Files,
    /,
    *,
    dry_run: _DryRun = False,
    update: _Update = False,
    accept_looser: _Looser = False,
    common: Common = DEFAULTS,
) -> None:
    """Take over the keys of an LLMGateway: they are hashed, and work on as they are.

    Parameters
    ----------
    files
        Its collection `apikeys`, and `user` if you like, as `mongoexport` writes them: JSON or CSV; `-` for
        standard input.
    """
    _import(files, lambda tables, _, at: read_llmgateway(tables, at), common, dry_run, update, accept_looser)


@app.command
def litellm(
    files: _Files,
    /,
    *,
    dry_run: _DryRun = False,
    update: _Update = False,
    accept_looser: _Looser = False,
    common: Common = DEFAULTS,
) -> None:
    """Take over keys (by their hash), users, teams and budgets of a LiteLLM proxy.

    Parameters
    ----------
    files
        Its tables as JSON or CSV, or what /key/list, /user/list, /team/list and /budget/list answer, in one
        file or several; `-` for standard input.
    """
    _import(files, _read_litellm, common, dry_run, update, accept_looser)


def _read_litellm(
    tables: Sequence[Table], registry: Registry, at: Context
) -> tuple[list[Found], list[Wrong]]:
    reader = LiteLLM(read_export(tables), registry, at)
    return reader.read(), reader.wrong


def _import(files: Sequence[str], read: Read, common: Common, dry: bool, update: bool, looser: bool) -> None:
    at = context.read(common)
    try:
        tables = [table for file in files for table in read_file(file)]
    except Wrong as error:
        raise CommandError(f"nothing was imported: {error}.") from None
    with context.registry(at) as registry:
        found, wrong = read(tables, registry, at)
        if wrong:
            more = [f"and {len(wrong) - _SHOWN} more"] if len(wrong) > _SHOWN else []
            raise CommandError("\n  ".join(["nothing was imported:", *map(str, wrong[:_SHOWN]), *more]))
        plan = make_plan(found, registry, now=at.now, update=update, looser=looser)
        notes = _notes(plan, registry, at)
        if not dry:
            apply(plan, registry)
    _show(plan, notes, at, dry=dry, as_json=common.json)


def _show(plan: Plan, notes: Sequence[str], at: Context, *, dry: bool, as_json: bool) -> None:
    rows = [_row(step, at.now) for step in plan.steps]
    counts = Counter(step.action for step in plan.steps)
    if as_json:
        output.show_json(
            {
                "dry_run": dry,
                "counts": {action.value: counts[action] for action in Action},
                "notes": list(notes),
                "rows": rows,
            }
        )
        return
    output.show_rows(rows, COLUMNS, as_json=False, none="There is nothing to import.", spare=_SPARE)
    for text in notes:
        output.note(f"note: {text}")
    told = ", ".join(f"{counts[action]} {action}" for action in Action if counts[action]) or "nothing"
    output.note(f"{told}; nothing was written (--dry-run)" if dry else told)


def _row(step: Step, now: int) -> output.Row:
    match step.record:
        case Key() as key:
            kind, row = "key", key_row(key, now)
            row = {**row, "name": key.name or key.display}
        case User() as user:
            kind, row = "user", user_row(user)
        case Team() as team:
            kind, row = "team", team_row(team)
    shown = {name: row.get(name) for name in COLUMNS if name in row}
    about = {"place": step.place, "action": step.action.value, "why": "; ".join(step.why)}
    return {"kind": kind, **shown, **about}


def _notes(plan: Plan, registry: Registry, at: Context) -> list[str]:
    """What holds for all rows together."""
    records = [step.record for step in plan.steps if step.action is not Action.SKIPPED]
    notes = []
    limits: list[Quota] = [quota for record in records for quota in record.quotas]
    if any(quota.unit is Unit.COST for quota in limits):
        if at.config.currency != _DOLLAR:
            notes.append(f"budgets were in {_DOLLAR}; the same figures count in {at.config.currency} here.")
        notes.append("a budget counts what models cost: give them prices, or nothing is ever spent.")
    known = {*at.config.models, *(model.name for model in registry.models())}
    named = {model for record in records for model in record.models or ()}
    if missing := sorted(named - known):
        told = ", ".join(missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
        notes.append(f"not a model of {at.path.name} or the store yet: {told}.")
    return notes
