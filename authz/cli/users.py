"""`authz users`."""

from typing import Annotated

from cyclopts import App, Parameter
from msgspec.structs import replace

from authz.cli import context, output, people, values
from authz.cli.options import DEFAULTS, Common, Limits, Models, NoModels, Roles
from authz.cli.rows import USER_COLUMNS, user_row
from authz.store.records import User

app = App(name="users", help="Users: their models, limits, roles and team.")

_explained = people.Explained("authz users list")


@app.command
def add(
    name: str,
    /,
    *,
    email: Annotated[str, Parameter(help="For people; authz sends nothing.")] = "",
    team: Annotated[str | None, Parameter(help="The team whose models and limits apply too.")] = None,
    model: Models = None,
    no_models: NoModels = False,
    limit: Limits = None,
    role: Roles = None,
    common: Common = DEFAULTS,
) -> None:
    """Add a user. (`keys create` makes a missing one too.)

    Parameters
    ----------
    name
        The user's name.
    """
    at = context.read(common)
    with context.registry(at) as registry, _explained:
        user = User(
            name=values.name(name, "user"),
            email=email,
            team=people.team_name(registry, team),
            models=people.model_list(at, registry, model, none=no_models),
            roles=people.role_list(role),
            quotas=people.limit_list(at, limit),
            created_at=at.now,
        )
        registry.put_user(user, new=True)
    output.show_record(user_row(user), as_json=common.json)


@app.command(name="list")
def list_(*, team: str | None = None, common: Common = DEFAULTS) -> None:
    """List the users.

    Parameters
    ----------
    team
        Only those of this team.
    """
    with context.registry(context.read(common)) as registry:
        users = [user for user in registry.users() if team is None or user.team == team]
    rows = [user_row(user) for user in users]
    output.show_rows(rows, USER_COLUMNS, as_json=common.json, none="No users. authz users add NAME adds one.")


@app.command
def show(name: str, /, *, common: Common = DEFAULTS) -> None:
    """Show a user.

    Parameters
    ----------
    name
        The user's name.
    """
    with context.registry(context.read(common)) as registry, _explained:
        user = people.one(registry.users(), name, "user")
    output.show_record(user_row(user), as_json=common.json)


@app.command
def update(
    name: str,
    /,
    *,
    email: str | None = None,
    team: str | None = None,
    no_team: bool = False,
    model: Models = None,
    no_models: NoModels = False,
    inherit_models: bool = False,
    limit: Limits = None,
    no_limits: bool = False,
    role: Roles = None,
    no_roles: bool = False,
    disable: bool = False,
    enable: bool = False,
    common: Common = DEFAULTS,
) -> None:
    """Change a user. What no option names stays; a list replaces the one before.

    Parameters
    ----------
    name
        The user's name.
    email
        For people; authz sends nothing.
    team
        The team whose models and limits apply too.
    no_team
        Belong to no team.
    inherit_models
        Have no list: the team's applies, else every model that is open.
    no_limits
        Drop the user's own limits.
    no_roles
        Drop all roles.
    disable
        Refuse every key and token of this user.
    enable
        Undo --disable.
    """
    people.at_most_one(no_team=no_team, team=team is not None)
    people.at_most_one(disable=disable, enable=enable)
    at = context.read(common)
    with context.registry(at) as registry, _explained:
        before = people.one(registry.users(), name, "user")
        user = replace(
            before,
            email=before.email if email is None else email,
            team=None if no_team else people.team_name(registry, team) or before.team,
            models=people.model_list(
                at, registry, model, none=no_models, inherit=inherit_models, before=before.models
            ),
            roles=people.role_list(role, none=no_roles, before=before.roles),
            quotas=people.limit_list(at, limit, none=no_limits, before=before.quotas),
            disabled=disable or (before.disabled and not enable),
        )
        registry.put_user(user)
    output.show_record(user_row(user), as_json=common.json)


@app.command
def remove(name: str, /, *, common: Common = DEFAULTS) -> None:
    """Remove a user. The user's keys are revoked with it.

    Parameters
    ----------
    name
        The user's name.
    """
    with context.registry(context.read(common)) as registry, _explained:
        keys = [key.id for key in registry.keys(user=name) if key.revoked_at is None]
        registry.remove_user(name)
    output.show_record({"removed": name, "revoked_keys": keys}, as_json=common.json)
