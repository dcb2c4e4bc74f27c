"""What a store keeps of people and things: keys, users, teams, models, grants. All frozen.

Moments (`*_at`) are integer milliseconds since the Unix epoch.
"""

from enum import StrEnum

from msgspec import Struct

from authz.quota import Quota
from authz.usage import NO_USAGE, Usage


class Key(Struct, frozen=True, kw_only=True, gc=False):
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


class User(Struct, frozen=True, kw_only=True, gc=False):
    name: str
    email: str = ""
    team: str | None = None
    models: frozenset[str] | None = None
    roles: frozenset[str] = frozenset()
    quotas: tuple[Quota, ...] = ()
    disabled: bool = False
    created_at: int = 0


class Team(Struct, frozen=True, kw_only=True, gc=False):
    name: str
    models: frozenset[str] | None = None
    quotas: tuple[Quota, ...] = ()
    created_at: int = 0


class Price(Struct, frozen=True, kw_only=True, gc=False):
    """Per million tokens, in 1e-9 of the currency."""

    input: int = 0
    cached_input: int | None = None
    output: int = 0


class Access(Struct, frozen=True, kw_only=True):
    """Who may use a model when nothing names it: any of the roles, any of the teams. Empty: everybody."""

    roles: frozenset[str] = frozenset()
    teams: frozenset[str] = frozenset()


class Model(Struct, frozen=True, kw_only=True, gc=False):
    name: str
    context: int | None = None  # tokens
    max_output: int | None = None  # tokens
    price: Price = Price()
    access: Access = Access()
    created_at: int = 0


class Adjustment(Struct, frozen=True, kw_only=True, gc=False):
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
    client_request_id: str = ""  # the client's own, of the first; where its route takes one
    detail: str = ""  # what the client was not told
    also: tuple[str, ...] = ()  # the latest other request ids of a flood


class Source(StrEnum):
    """Where the figures of a ledger entry come from."""

    REPORTED = "reported"  # the model server counted
    ESTIMATED = "estimated"  # it did not tell: calibrated from bytes
    EXPIRED = "expired"  # nobody told anything in time: charged as held
    CORRECTED = "corrected"  # told after it had expired
    RELEASED = "released"  # refused, failed or never reached a model server


class Facts(Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """What is known of a request when it is let through: kept with its reservation for the ledger.

    `hold` is the most it can use, `hold_cost` in 1e-9 of the currency. The price is the one
    of that moment, so that a cost never exceeds what was held for it.
    """

    request_id: str
    user: str
    team: str = ""
    key: str = ""
    model: str = ""
    route: str = ""
    path: str = ""  # which API: tells whether there is output at all
    hold: Usage = NO_USAGE
    hold_cost: int = 0
    price: Price = Price()
    stream: bool = False
    asked_output: int = 0  # tokens of one answer at most, as it went to the model server; 0: no answer
    answers: int = 1  # choices x prompts
    prompts: int = 1  # inputs of a rerank, classify or embeddings request
    request_bytes: int = 0  # of the body
    gateway_request_id: str = ""  # the gateway's own, where nobody else can choose it
    lease_ms: int = 0  # the gateway tells within this that the response still runs; 0: it does not tell
    client_request_id: str = ""  # the client's own: for people only, nothing is found or told apart by it


class Note(Struct, frozen=True, array_like=True, kw_only=True):
    """What a settlement adds to the facts."""

    usage: Usage = NO_USAGE
    cost: int = 0
    source: Source = Source.REPORTED
    status: int = 0
    aborted: bool = False
    streamed: bool = False
    response_bytes: int = 0
    duration_ms: int = 0


class Entry(Struct, frozen=True, kw_only=True):
    """One request in the ledger."""

    reservation: str
    gateway: str
    at: int  # when it was let through
    ended_at: int  # when it was settled or expired
    facts: Facts
    note: Note
