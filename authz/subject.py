"""Who calls: the outcome of authentication."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from authz.quota import OwnedQuotas

NO_CLAIMS: Mapping[str, Any] = {}


class Subject(Struct, frozen=True, kw_only=True, gc=False):
    """An authenticated caller.

    `user` is namespaced (`sso:alice`) unless it comes from our own key table
    or from an authenticator with `map_users: true`. `models` is the list that
    applies after inheritance: None means that no list was given anywhere.
    """

    user: str
    authenticator: str
    team: str | None = None
    key: str | None = None  # key id, never the key
    roles: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    models: frozenset[str] | None = None
    inherits_models: bool = False  # API keys only: no list anywhere means "every model its `access` permits"
    claims: Mapping[str, Any] = NO_CLAIMS
    headers: tuple[tuple[str, str], ...] = ()  # upstream headers made from claims
    quotas: tuple[OwnedQuotas, ...] = ()  # those of the key, its user and its team
    home: str = ""  # "team:NAME" by the user's own record, else "user:NAME"; empty: as the user has no record
    key_home: str = ""  # where the key is another user's: the home of that one

    @property
    def owner(self) -> str:
        """Whose the user's counters are, see `Hold.owner`. A team that a key or a token names is not it."""
        return self.home or f"user:{self.user}"

    @property
    def key_owner(self) -> str:
        """Whose the key's counters are."""
        return self.key_home or self.owner
