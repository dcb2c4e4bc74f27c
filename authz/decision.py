"""What we answer: a decision, free of any wire type."""

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from authz.reason import Reason
from authz.subject import Subject

Header = tuple[str, str]


StageName = Literal["request", "route", "authenticate", "authorize", "limits"]
"""The steps of the way, in their order."""


class Limit(Struct, frozen=True, kw_only=True, gc=False):
    """What a policy says to one partition: the part of its figures that stays from request to request."""

    policy: str
    unit: str
    partition: str  # readable, for a person; never a credential
    quota: int
    window: str  # "1m", "day"...
    window_seconds: int
    needed: int
    shadow: bool = False


class LimitState(Struct, frozen=True, gc=False):
    """One policy's figures after the decision, in the policy's unit."""

    limit: Limit
    remaining: int
    reset_after: float  # seconds until the whole quota is free again, if nothing else is spent
    exhausted: bool = False


class Allow(Struct, frozen=True, kw_only=True, gc=False):
    """Let it through.

    `upstream` replaces the client's headers of those names, and begins with `steady`: what it has in
    common with other requests of the caller, the same object each time. `remove` are taken
    off the request; `client` goes onto the response. `query` is the query
    string without credentials, or None when it is to stay as it came.
    """

    request_id: str
    route: str
    subject: Subject
    model: str | None
    backend: str | None
    reservation: str | None
    upstream: tuple[Header, ...]
    remove: tuple[str, ...]
    client: tuple[Header, ...]
    steady: tuple[Header, ...] = ()
    query: str | None = None
    limits: Sequence[LimitState] = ()
    edit: str | None = None  # how the gateway changes the body, see `authz.edit`
    may_overrun: bool = False  # less is held than the request may use (`admission: learned`)
    without_store: bool = False  # the store did not answer: `on_store_failure: allow | local`
    client_request_id: str = ""  # the client's own id, or ours in its place, where the route has one

    reason: Reason = Reason.ALLOWED

    def __repr__(self) -> str:
        """`upstream` holds the backend's credential, `query` may hold anything: neither is shown."""
        return f"<Allow {self.request_id} {self.subject.user} on {self.route}>"


class Deny(Struct, frozen=True, kw_only=True, gc=False):
    """Refuse it: the same status, headers and body through every gateway."""

    request_id: str
    reason: Reason
    route: str | None
    status: int
    headers: tuple[Header, ...]
    body: bytes  # JSON: {"error": {"message", "type", "code", "param"}}
    message: str
    subject: Subject | None = None
    model: str | None = None
    limits: Sequence[LimitState] = ()
    client_request_id: str = ""
    detail: str = ""  # for the operator alone


Decision = Allow | Deny


class ListedModel(Struct, frozen=True):
    """One line of `GET /v1/models`."""

    name: str
    created_at: int = 0  # ms since the epoch


class ModelList(Struct, frozen=True, kw_only=True):
    """The models that a caller may use, in the order in which they are shown."""

    request_id: str
    route: str
    subject: Subject
    models: tuple[ListedModel, ...]
    client: tuple[Header, ...] = ()
