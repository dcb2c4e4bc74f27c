"""`authz teams`."""

from cyclopts import App
from msgspec.structs import replace

from authz.cli import context, output, people, values
from authz.cli.options import DEFAULTS, Common, Limits, Models, NoModels
from authz.cli.rows import TEAM_COLUMNS, team_row
from authz.store.records import Team

app = App(name="teams", help="Teams: their models and limits.")

_explained = people.Explained("authz teams list")


@app.command
def add(
    name: str,
    /,
    *,
    model: Models = None,
    no_models: NoModels = False,
    limit: Limits = None,
    common: Common = DEFAULTS,
) -> None:
    """Add a team.

    Parameters
    ----------
    name
        The team's name.
    """
    at = context.read(common)
    with context.registry(at) as registry, _explained:
        team = Team(
            name=values.team(name),
            models=people.model_list(at, registry, model, none=no_models),
            quotas=people.limit_list(at, limit),
            created_at=at.now,
        )
        registry.put_team(team, new=True)
    output.show_record(team_row(team), as_json=common.json)


@app.command(name="list")
def list_(*, common: Common = DEFAULTS) -> None:
    """List the teams."""
    with context.registry(context.read(common)) as registry:
        rows = [team_row(team) for team in registry.teams()]
    output.show_rows(rows, TEAM_COLUMNS, as_json=common.json, none="No teams. authz teams add NAME adds one.")


@app.command
def show(name: str, /, *, common: Common = DEFAULTS) -> None:
    """Show a team.

    Parameters
    ----------
    name
        The team's name.
    """
    with context.registry(context.read(common)) as registry, _explained:
        team = people.one(registry.teams(), name, "team")
    output.show_record(team_row(team), as_json=common.json)


@app.command
def update(
    name: str,
    /,
    *,
    model: Models = None,
    no_models: NoModels = False,
    inherit_models: bool = False,
    limit: Limits = None,
    no_limits: bool = False,
    common: Common = DEFAULTS,
) -> None:
    """Change a team. What no option names stays; a list replaces the one before.

    Parameters
    ----------
    name
        The team's name.
    inherit_models
        Have no list: every model that is open may be used.
    no_limits
        Drop the team's own limits.
    """
    at = context.read(common)
    with context.registry(at) as registry, _explained:
        before = people.one(registry.teams(), name, "team")
        team = replace(
            before,
            models=people.model_list(
                at, registry, model, none=no_models, inherit=inherit_models, before=before.models
            ),
            quotas=people.limit_list(at, limit, none=no_limits, before=before.quotas),
        )
        registry.put_team(team)
    output.show_record(team_row(team), as_json=common.json)


@app.command
def remove(name: str, /, *, common: Common = DEFAULTS) -> None:
    """Remove a team that no user or key belongs to.

    Parameters
    ----------
    name
        The team's name.
    """
    with context.registry(context.read(common)) as registry, _explained:
        registry.remove_team(name)
    output.show_record({"removed": name}, as_json=common.json)
