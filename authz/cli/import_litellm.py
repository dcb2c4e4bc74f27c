"""Keys, users, teams and budgets of LiteLLM as they would be here.

LiteLLM keeps the SHA-256 of a key, as we do: it is taken as it is, and clients keep their keys. There a model
must be in a key's list **and** in its team's (its user's, without a team); here the nearest list counts, so
both are intersected. Which team counts is said by the key alone, there and here.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from authz.authenticate.key_format import digest, display, new_id
from authz.cli import values
from authz.cli.context import Context
from authz.cli.errors import UsageError
from authz.cli.import_budgets import limits_of, per_model
from authz.cli.import_litellm_rows import Export
from authz.cli.import_plan import Found
from authz.cli.import_rows import Fields, Wrong
from authz.store.protocols import Registry
from authz.store.records import Key, Team, User

Models = frozenset[str] | None

_SHA256: Final = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
_SHOWN: Final = re.compile(r"sk-\.\.\.[\w-]{1,8}", re.ASCII)
_EVERY: Final = frozenset({"*", "all-proxy-models"})
_OF_THE_OWNER: Final = frozenset({"all-team-models", "all-org-models"})
_NONE: Final = "no-default-models"
_CALLING: Final = frozenset({"llm_api_routes", "openai_routes", "anthropic_routes"})
_MANAGING: Final = frozenset({"management_routes", "info_routes"})
_DASHBOARD: Final = "litellm-dashboard"
_BEYOND: Final = {
    "organization_id": "what its organization restricts",
    "project_id": "what its project restricts",
    "agent_id": "what its agent restricts",
    "default_team_member_models": "models for each member",
}


class _Owner(Struct, frozen=True):
    """A team or user that keys belong to."""

    name: str
    models: Models
    blocked: bool = False


class LiteLLM:
    """One export, against the records that the store has already."""

    def __init__(self, export: Export, registry: Registry, at: Context) -> None:
        self._export = export
        self._at = at
        self._stored_teams = {team.name: _Owner(team.name, team.models) for team in registry.teams()}
        self._stored_users = {user.name: _Owner(user.name, user.models) for user in registry.users()}
        self._stored_owners = {key.digest: key.user for key in list(registry.keys())}
        self._teams: dict[str, _Owner] = {}  # by team_id
        self._users: dict[str, _Owner] = {}
        self._budgets: dict[str, Fields] = {}
        self._keys: dict[bytes, Found] = {}
        self.wrong: list[Wrong] = list(export.wrong)

    def read(self) -> list[Found]:
        """Teams, then users, then keys; mistakes are in `wrong`."""
        aliases = Counter(str(row.raw("team_alias")) for row in self._unique(self._export.teams, "team_id"))
        found: list[Found] = []
        for row in self._export.budgets:
            with _Collected(self.wrong):
                self._budgets[_needed(row, "budget_id")] = row
        for row in self._unique(self._export.teams, "team_id"):
            with _Collected(self.wrong):
                found.append(self._team(row, aliases))
        for row in self._unique(self._export.users, "user_id"):
            with _Collected(self.wrong):
                found.append(self._user(row))
        for row in self._export.keys:
            with _Collected(self.wrong):
                self._key(row)
        return [*found, *self._named_by_keys(), *self._keys.values()]

    # -- teams and users ---------------------------------------------------------------------------

    def _team(self, row: Fields, aliases: Mapping[str, int]) -> Found:
        id = _needed(row, "team_id")
        alias = row.text("team_alias")
        name = _name(row, "team_alias" if alias else "team_id", alias if alias and aliases[alias] < 2 else id)
        if any(owner.name == name for owner in self._teams.values()):
            raise row.wrong("team_id", "another team has this name")
        models, notes = _models(row)
        blocked = bool(row.flag("blocked"))
        limited = limits_of(row, self._budgets, self._at)
        lost = [*limited.lost, *per_model(row), *_beyond(row)]
        if row.mapping("metadata").get("team_member_budget_id"):
            lost.append("a budget for each member")
        if blocked:
            models = frozenset()
            notes.append("it was blocked: it may use no model, and its keys are revoked")
        team = Team(name=name, models=models, quotas=limited.quotas, created_at=self._at.now)
        self._teams[id] = _Owner(name, models, blocked)
        notes += [*limited.notes, *_left(row, ("soft_budget", "model_id"))]
        return Found(
            place=row.place, record=team, told=("models", "quotas"), lost=tuple(lost), notes=tuple(notes)
        )

    def _user(self, row: Fields) -> Found:
        name = _name(row, "user_id", _needed(row, "user_id"))
        models, notes = _models(row)
        limited = limits_of(row, self._budgets, self._at)
        if (row.text("user_role") or "").startswith("proxy_admin"):
            notes.append("it administered LiteLLM: here it administers nothing")
        user = User(
            name=name,
            email=row.text("user_email") or "",
            models=models,
            quotas=limited.quotas,
            created_at=self._at.now,
        )
        self._users[name] = _Owner(name, models)
        lost = (*limited.lost, *per_model(row), *_beyond(row))
        told = ("email", "models", "quotas")
        return Found(place=row.place, record=user, told=told, lost=lost, notes=(*notes, *limited.notes))

    def _unique(self, rows: Sequence[Fields], column: str) -> list[Fields]:
        """The first row of each; answers of several endpoints repeat them."""
        first: dict[object, Fields] = {}
        for row in rows:
            first.setdefault(row.raw(column), row)
        return list(first.values())

    def _named_by_keys(self) -> list[Found]:
        """Users of whom there are only keys.

        One whose keys all lose something waits for that to be accepted, as they do: were the user made, the
        next import would find it and let the keys in.
        """
        found: dict[str, Found] = {}
        for each in self._keys.values():
            if isinstance(each.record, Key) and not each.skip and each.record.user not in self._users:
                user = User(name=each.record.user, created_at=self._at.now)
                if user.name not in found or not each.lost:
                    found[user.name] = Found(place=each.place, record=user, told=(), lost=each.lost)
        return list(found.values())

    # -- keys --------------------------------------------------------------------------------------

    def _key(self, row: Fields) -> None:
        hashed, shown = _token(row)
        if hashed in self._keys:
            return  # /team/list repeats the keys of /key/list
        skip = _why_not(row)
        lost = [*per_model(row), *_beyond(row), *_routes(row)]
        limited = limits_of(row, self._budgets, self._at)
        alias = row.text("key_alias") or ""
        user, notes = self._owner_of(row, alias, hashed, lost)
        team = self._team_of(row, lost)
        own, more = _models(row)
        notes += more
        models = self._effective(own, user, team, notes)
        revoked = bool(row.flag("blocked")) or (team is not None and team.blocked)
        if revoked:
            notes.append("it or its team was blocked: it is revoked here")
        key = Key(
            id=new_id(),
            digest=hashed,
            display=shown,
            user=user.name,
            name=alias,
            team=team.name if team is not None else None,
            models=models,
            quotas=limited.quotas,
            created_at=self._at.now,
            expires_at=row.moment("expires"),
            revoked_at=self._at.now if revoked else None,
        )
        notes += [*limited.notes, *_left(row, ("aliases", "permissions", "policies", "auto_rotate"))]
        self._keys[hashed] = Found(
            place=row.place,
            record=key,
            told=("user", "name", "team", "models", "quotas", "expires_at"),
            lost=(*limited.lost, *lost),
            notes=tuple(notes),
            skip=skip,
        )

    def _owner_of(self, row: Fields, alias: str, hashed: bytes, lost: list[str]) -> tuple[_Owner, list[str]]:
        user_id = row.text("user_id")
        if user_id is None:
            if hashed in self._stored_owners:  # made by an import before this one
                return _Owner(self._stored_owners[hashed], None), []
            taken = {*self._users, *self._stored_users}
            name = f"litellm-{alias}" if alias and f"litellm-{alias}" not in taken else ""
            name = _name(row, "key_alias", name or f"litellm-{hashed.hex()[:12]}")
            return _Owner(name, None), [f"it had no user: {name!r} is made for it"]
        name = _name(row, "user_id", user_id)
        known = self._users.get(name) or self._stored_users.get(name)
        if known is None and not self._export.users:
            lost.append("its user is not in the files (LiteLLM_UserTable, /user/list)")
        return known or _Owner(name, None), []

    def _team_of(self, row: Fields, lost: list[str]) -> _Owner | None:
        team_id = row.text("team_id")
        if team_id is None:
            return None
        known = self._teams.get(team_id) or self._stored_teams.get(team_id)
        if known is None:
            lost.append("its team is not in the files (LiteLLM_TeamTable, /team/list)")
            return _Owner(_name(row, "team_id", team_id), None)
        return known

    def _effective(self, own: Models, user: _Owner, team: _Owner | None, notes: list[str]) -> Models:
        """The list to give to the key, so that it may use what it could use before, and never more."""
        bound = team.models if team is not None else user.models
        both = bound if own is None else own if bound is None else own & bound
        inherited = user.models if user.models is not None else team.models if team is not None else None
        if own is not None and bound is not None and both != own:
            notes.append("its models are those that its team or user has, too")
        if both is None and inherited is not None:
            notes.append("fewer models than before: its user's list counts here, whatever the team may use")
        return None if both == inherited and own is None else both


class _Collected:
    """Around the reading of a row: what is wrong with it is kept, and the next one is read."""

    def __init__(self, wrong: list[Wrong]) -> None:
        self._wrong = wrong

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, Wrong):
            return False
        self._wrong.append(error)
        return True


def _needed(row: Fields, column: str) -> str:
    text = row.text(column)
    if text is None:
        raise row.wrong(column, "it is needed")
    return text


def _name(row: Fields, column: str, text: str) -> str:
    try:
        return values.team(text) if column.startswith("team") else values.name(text, "user")
    except UsageError as error:
        raise row.wrong(column, str(error)) from None


def _token(row: Fields) -> tuple[bytes, str]:
    """The hash, and what may be shown: LiteLLM's `key_name` is `sk-...` and the last four characters."""
    token = _needed(row, "token")
    name = row.text("key_name") or ""
    shown = name if _SHOWN.fullmatch(name) else "imported"
    if _SHA256.fullmatch(token):
        return bytes.fromhex(token), shown
    if token.startswith("sk-") and 8 <= len(token) <= 512 and token.isascii() and token.isprintable():
        return digest(token), display(token)
    raise row.wrong("token", "this is no SHA-256 in 64 hex digits")


def _models(row: Fields) -> tuple[Models, list[str]]:
    """The list, None for every model, and what became narrower."""
    names = row.names("models")
    if not names or _EVERY.intersection(names) or _OF_THE_OWNER.intersection(names):
        return None, []
    patterns = [name for name in names if "*" in name]
    notes = ["fewer models than before: patterns with * are left out"] if patterns else []
    wrong = [name for name in names if "," in name or not name.isprintable()]
    if wrong:
        raise row.wrong("models", "one of them is not the name of a model")
    return frozenset(names) - {*patterns, _NONE}, notes


def _why_not(row: Fields) -> str:
    if row.has("deleted_at"):
        return "it was deleted"
    if row.text("team_id") == _DASHBOARD:
        return "it is a session of LiteLLM's own web page"
    routes = set(row.names("allowed_routes"))
    return "it may only administer LiteLLM" if routes and routes <= _MANAGING else ""


def _routes(row: Fields) -> tuple[str, ...]:
    routes = set(row.names("allowed_routes"))
    return () if routes <= _CALLING | _MANAGING else ("only some paths are allowed",)


def _beyond(row: Fields) -> list[str]:
    """What else restricts it and is nothing here."""
    return [what for name, what in _BEYOND.items() if row.has(name)]


def _left(row: Fields, columns: Sequence[str]) -> list[str]:
    """What is left behind, and restricts nothing."""
    names = [name for name in columns if row.has(name)]
    return [f"left behind: {', '.join(names)}"] if names else []
