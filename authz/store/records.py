"""What a store keeps of people and things: keys, users, teams, models, grants. All frozen.

Moments (`*_at`) are integer milliseconds since the Unix epoch.
"""

from msgspec import Struct

from authz.quota import Quota


class Key(Struct, frozen=True, kw_only=True):
    """An API key. The key itself is nowhere: only its SHA-256 and what is safe to show."""

    id: str  # "key_" + 16 base62
    digest: bytes  # SHA-256 of the whole key
    display: str  # "sk-az-3fK9...": prefix and first characters, for a person
    user: str
    name: str = ""
    team: str | None = None
    models: frozenset[str] | None = None  # None inherits, an empty set refuses
    roles: frozenset[str] = frozenset()
    quotas: tuple[Quota, ...] = ()
    created_at: int
    expires_at: int | None = None
    revoked_at: int | None = None
    last_used_at: int | None = None


class User(Struct, frozen=True, kw_only=True):
    name: str
    email: str = ""
    team: str | None = None
    models: frozenset[str] | None = None
    roles: frozenset[str] = frozenset()
    quotas: tuple[Quota, ...] = ()
    disabled: bool = False
    created_at: int = 0


class Team(Struct, frozen=True, kw_only=True):
    name: str
    models: frozenset[str] | None = None
    quotas: tuple[Quota, ...] = ()
    created_at: int = 0


class Price(Struct, frozen=True, kw_only=True):
    """Per million tokens, in 1e-9 of the currency."""

    input: int = 0
    cached_input: int | None = None
    output: int = 0


class Access(Struct, frozen=True, kw_only=True):
    """Who may use a model when nothing names it: any of the roles, any of the teams. Empty: everybody."""

    roles: frozenset[str] = frozenset()
    teams: frozenset[str] = frozenset()


class Model(Struct, frozen=True, kw_only=True):
    name: str
    context: int | None = None  # tokens
    max_output: int | None = None  # tokens
    price: Price = Price()
    access: Access = Access()
    created_at: int = 0


class Adjustment(Struct, frozen=True, kw_only=True):
    """A named change of one policy for one partition: an override replaces the quota, a grant adds to it."""

    id: str
    policy: str
    partition: tuple[tuple[str, str], ...]  # (("team", "nlp"),)
    override: int | None = None  # the quota to use instead
    grant: int = 0  # added on top
    until: int | None = None  # exclusive; None: for ever
    created_at: int = 0
    created_by: str = ""


class Denial(Struct, frozen=True, kw_only=True):
    """One refused request, or a flood of identical ones (`count` of them between `at` and `last_at`)."""

    id: str  # the request id that the client saw
    at: int
    last_at: int
    count: int
    gateway: str
    route: str
    method: str
    path: str
    reason: str
    status: int
    message: str
    user: str = ""
    team: str = ""
    key: str = ""
    model: str = ""
    ip: str = ""
    limits: tuple[dict[str, str | int | float | bool], ...] = ()  # every limit's figures
    also: tuple[str, ...] = ()  # the latest other request ids of a flood
