"""`authz keys`."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from msgspec.structs import replace

from authz.authenticate.key_format import mint
from authz.cli import context, output, people, values
from authz.cli.errors import CommandError, UsageError
from authz.cli.key_import import read_keys
from authz.cli.options import DEFAULTS, Common, Limits, Models, NoModels, Roles
from authz.cli.rows import KEY_COLUMNS, KEY_SPARE, key_row
from authz.store.protocols import Duplicate
from authz.store.records import Key

app = App(name="keys", help="API keys: create, list, show, update, rotate, revoke, import.")

_explained = people.Explained("authz keys list")

_Expires = Annotated[
    str | None, Parameter(help="90d, or a date such as 2027-01-31 in the config's time zone, or never.")
]


@app.command
def create(
    *,
    user: str,
    model: Models = None,
    no_models: NoModels = False,
    limit: Limits = None,
    team: str | None = None,
    name: str = "",
    role: Roles = None,
    expires: _Expires = None,
    common: Common = DEFAULTS,
) -> None:
    """Make a key. It is shown once, now.

    Parameters
    ----------
    user
        Whose key it is; made if missing.
    team
        The team whose models and limits apply too. Left out: the user's.
    name
        What it is for, in your words.
    """
    at = context.read(common)
    minted = mint()
    with context.registry(at) as registry, _explained:
        key = Key(
            id=minted.id,
            digest=minted.digest,
            display=minted.display,
            user=values.name(user, "user"),
            name=values.without_key(name),
            team=people.team_name(registry, team),
            models=people.model_list(at, registry, model, none=no_models),
            roles=people.role_list(role),
            quotas=people.limit_list(at, limit),
            created_at=at.now,
            expires_at=values.moment_ahead(expires, at.now, at.zone) if expires is not None else None,
        )
        registry.add_key(key)
    _show_new(minted.key, key, at.now, as_json=common.json)


@app.command(name="list")
def list_(*, user: str | None = None, team: str | None = None, common: Common = DEFAULTS) -> None:
    """List the keys. The keys themselves are nowhere; their first characters are shown.

    Parameters
    ----------
    user
        Only those of this user.
    team
        Only those that name this team.
    """
    at = context.read(common)
    with context.registry(at) as registry:
        rows = [key_row(key, at.now) for key in registry.keys(user=user, team=team)]
    none = "No keys. authz keys create --user NAME makes one."
    output.show_rows(rows, KEY_COLUMNS, as_json=common.json, none=none, spare=KEY_SPARE)


@app.command
def show(id: str, /, *, common: Common = DEFAULTS) -> None:
    """Show a key's record.

    Parameters
    ----------
    id
        The key's id, or what `list` displays of it.
    """
    at = context.read(common)
    with context.registry(at) as registry, _explained:
        key = registry.find_key(id)
    output.show_record(key_row(key, at.now), as_json=common.json)


@app.command
def update(
    id: str,
    /,
    *,
    name: str | None = None,
    team: str | None = None,
    no_team: bool = False,
    model: Models = None,
    no_models: NoModels = False,
    inherit_models: bool = False,
    limit: Limits = None,
    no_limits: bool = False,
    role: Roles = None,
    no_roles: bool = False,
    expires: _Expires = None,
    common: Common = DEFAULTS,
) -> None:
    """Change a key. What no option names stays; a list replaces the one before.

    Parameters
    ----------
    id
        The key's id, or what `list` displays of it.
    name
        What it is for, in your words.
    team
        The team whose models and limits apply too.
    no_team
        Name no team: the user's applies.
    inherit_models
        Have no list: the user's applies, then the team's, then every model that is open.
    no_limits
        Drop the key's own limits.
    no_roles
        Drop the key's own roles.
    """
    people.at_most_one(no_team=no_team, team=team is not None)
    at = context.read(common)
    with context.registry(at) as registry, _explained:
        before = registry.find_key(id)
        key = replace(
            before,
            name=before.name if name is None else values.without_key(name),
            team=None if no_team else people.team_name(registry, team) or before.team,
            models=people.model_list(
                at, registry, model, none=no_models, inherit=inherit_models, before=before.models
            ),
            roles=people.role_list(role, none=no_roles, before=before.roles),
            quotas=people.limit_list(at, limit, none=no_limits, before=before.quotas),
            expires_at=values.moment_ahead(expires, at.now, at.zone)
            if expires is not None
            else before.expires_at,
        )
        registry.put_key(key)
    output.show_record(key_row(key, at.now), as_json=common.json)


@app.command
def rotate(
    id: str,
    /,
    *,
    grace: str = "24h",
    expires: _Expires = None,
    common: Common = DEFAULTS,
) -> None:
    """Make a new key in place of one; the old one still works for a while.

    Models, limits, roles and names go over to the new key.

    Parameters
    ----------
    id
        The old key's id, or what `list` displays of it.
    grace
        How long the old key still works: 24h unless given, 0 for not at all.
    """
    at = context.read(common)
    allowance = values.duration(grace)
    minted = mint()
    with context.registry(at) as registry, _explained:
        old = registry.find_key(id)
        if old.revoked_at is not None:
            raise CommandError(
                f"the key {old.id} is revoked: there is nothing to rotate.",
                hint=f"authz keys create --user {old.user} makes a new one.",
            )
        end = at.now + allowance
        key = replace(
            old,
            id=minted.id,
            digest=minted.digest,
            display=minted.display,
            created_at=at.now,
            expires_at=values.moment_ahead(expires, at.now, at.zone)
            if expires is not None
            else old.expires_at,
            last_used_at=None,
        )
        if key.expires_at is not None and key.expires_at <= at.now:
            raise UsageError(f"the key {old.id} has expired.", hint="Give the new one a date with --expires.")
        registry.add_key(key)
        if allowance:
            registry.put_key(replace(old, expires_at=min(end, old.expires_at or end)))
        else:
            registry.put_key(replace(old, revoked_at=at.now))
    ends = values.spell_moment(min(end, old.expires_at or end))
    _show_new(minted.key, key, at.now, as_json=common.json, old_key=old.id, old_key_ends_at=ends)


@app.command
def revoke(id: str, /, *, common: Common = DEFAULTS) -> None:
    """Refuse a key from now on, for ever.

    Parameters
    ----------
    id
        The key's id, or what `list` displays of it.
    """
    at = context.read(common)
    with context.registry(at) as registry, _explained:
        key = registry.find_key(id)
        if key.revoked_at is None:
            key = replace(key, revoked_at=at.now)
            registry.put_key(key)
    output.show_record(key_row(key, at.now), as_json=common.json)


@app.command(name="import")
def import_(
    file: Annotated[str, Parameter(allow_leading_hyphen=True)] = "-", /, *, common: Common = DEFAULTS
) -> None:
    """Take over keys from elsewhere: JSON lines or CSV. Only their SHA-256 is kept.

    Each line or row has `user` and either `key` or `sha256` (64 hex digits), and may have `name`, `team`,
    `models`, `roles`, `limits` and `expires`. In CSV a list is written with spaces: `llama3 mistral`.
    Nothing is imported when a line is wrong; keys that are there already are left as they are.

    Parameters
    ----------
    file
        The file; left out or `-`: standard input.
    """
    at = context.read(common)
    text = sys.stdin.read() if file == "-" else _text_of(Path(file))
    keys = read_keys(text, at)
    added, there = [], 0
    with context.registry(at) as registry:
        for key in keys:
            try:
                registry.add_key(key)
                added.append(key)
            except Duplicate:
                there += 1
    if common.json:
        output.show_json({"imported": [key_row(key, at.now) for key in added], "already_there": there})
    else:
        output.say(f"{len(added)} imported, {there} there already")


def _text_of(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}.") from None


def _show_new(secret: str, key: Key, now: int, *, as_json: bool, **more: str | None) -> None:
    row = {
        "id": key.id,
        "key": secret,
        **{name: value for name, value in key_row(key, now).items() if name != "id"},
    }
    row.update(more)
    if as_json:
        output.show_json(row)
        return
    output.show_record(row, as_json=False)
    if sys.stdout.isatty():
        output.note("This is the only time that the key is shown.")
