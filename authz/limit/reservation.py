"""A reservation: its name, how long it lives of which nobody tells, and what the ledger will want to know."""

import hashlib
from collections.abc import Sequence

import msgspec

from authz.canonical import Target
from authz.limit.partition import LONGEST_VALUE
from authz.limit.spending import Spending
from authz.request import SHORTEST_LEASE_MS, Request
from authz.store.protocols import Hold, Kind
from authz.store.records import Facts
from authz.usage import Usage

RETRY_MS = 5_000  # a gateway's own retry of a check comes within this
LEASE_MARGIN_MS = 30_000  # a lease outlasts the stream that it is for


def reservation_id(request: Request, target: Target, credentials: Sequence[str]) -> str:
    """The request's id, or for a gateway that overwrites it one that its own retry repeats (invariant 8).

    Credential and content are part of it, so an id that a client managed to fix never joins two requests.
    `credentials` are the headers that may hold one.
    """
    if not request.gateway.request_id_is_ours:
        return request.request_id
    content = hashlib.blake2b(digest_size=16)
    for part in (request.gateway.name, request.request_id, target.method, request.target):
        content.update(part.encode() + b"\0")
    for name in credentials:
        content.update(request.headers.get(name, "").encode("latin-1") + b"\0")
    content.update(request.headers.get("cookie", "").encode("latin-1") + b"\0")
    content.update(request.body)
    return f"rsv_{content.hexdigest()}"


def remembered_ms(request: Request, holds: Sequence[Hold], *, listing: bool) -> int:
    """How long a reservation lives of which nobody tells anything.

    As long as the gateway says that it needs to tell that a response still runs,
    else until it ends the stream at the latest. One that has not proven itself
    can settle nothing: then only a slot must last as long as its stream may. The
    list of models is our own answer: over at once, and its end is told by nobody.
    """
    gateway = request.gateway
    longest = gateway.stream_timeout_ms + LEASE_MARGIN_MS
    if listing:
        return RETRY_MS if gateway.request_id_is_ours else 0
    if gateway.proven:
        lease = request.lease_ms
        return longest if lease is None else min(max(lease, SHORTEST_LEASE_MS), longest)
    leased = any(hold.kind is Kind.CONCURRENCY for hold in holds)
    return longest if leased else RETRY_MS


_encode = msgspec.msgpack.Encoder().encode


def facts_of(spending: Spending, client_request_id: str) -> bytes:
    """What the ledger will want to know of the request, encoded."""
    request, subject, seen, bound = spending.request, spending.subject, spending.peek, spending.bound
    return _encode(
        Facts(
            request_id=request.request_id,
            user=subject.user,
            team=subject.team or "",
            key=subject.key or "",
            model=spending.model or "",
            route=spending.route,
            path=spending.target.path[:LONGEST_VALUE],
            hold=Usage(bound.input, bound.output),
            hold_cost=bound.cost,
            price=bound.price,
            stream=seen.stream,
            asked_output=bound.answer,
            answers=bound.answers,
            prompts=bound.inputs,
            request_bytes=len(request.body),
            gateway_request_id=request.request_id if request.gateway.request_id_is_ours else "",
            lease_ms=request.lease_ms or 0,
            client_request_id=client_request_id,
        )
    )
