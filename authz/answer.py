"""From what is known of a request to the answer: what goes upstream, and what goes to the client."""

from collections.abc import Sequence

from authz import edit, preference, upstream
from authz.canonical import Target
from authz.decision import Allow, Deny, Header
from authz.denial import deny
from authz.edit_request import LIMITS_OF, ask_for_usage, joined, limit_answer
from authz.known import Known
from authz.limit.headers import rate_headers
from authz.limit.planned import Planned, Standings
from authz.limit.spending import Spending
from authz.limit.verdict import verdict
from authz.passage import REQUEST_ID, RESERVATION, Passage
from authz.peek import OUTPUT_LIMITS
from authz.preference import NO_WISHES
from authz.refusal import Refusal
from authz.route import Route
from authz.rules import Rules
from authz.store.protocols import Exhausted, Reserved

MAX_TOKENS = "x-authz-max-tokens"  # to the client: what its answer was limited to


def allow(
    rules: Rules,
    known: Known,
    taken: Route,
    spending: Spending,
    planned: Sequence[Planned],
    outcome: Reserved,
    reservation: str | None,
    passage: Passage,
) -> Allow:
    """Let it through. With `admission: fitted` its answer is limited to what is held for it."""
    known.limits = Standings(planned, outcome)
    fitted = known.admission == "fitted" and spending.bound is not known.bound
    limited = spending.bound.answer if fitted else None
    request = known.request
    steady, remove, query = passage.upstream, passage.remove, None
    upstream_headers = (*steady, (REQUEST_ID, request.request_id))
    if reservation is not None:
        upstream_headers += ((RESERVATION, reservation),)
    else:
        remove += (RESERVATION,)
    own: list[Header] = []
    if taken.credential_params or taken.credential_cookies:
        query, own, gone = upstream.strip_credentials(
            request, spending.target.query, taken.credential_params, taken.credential_cookies
        )
        remove += gone
    if known.wishes is not NO_WISHES:
        own += preference.gateway_headers(known.wishes, request.gateway.kind)
    if taken.request_id_header is not None:
        own.append((taken.request_id_header, known.client_request_id))
    if own:  # a gateway may remove after it sets: no name stands in both lists
        upstream_headers += tuple(own)
        kept = {name for name, _ in own}
        remove = tuple([name for name in remove if name not in kept])
    client: tuple[Header, ...] = (("x-request-id", request.request_id),)
    if limited is not None:
        client += ((MAX_TOKENS, str(limited)),)
    if rules.rate_headers:
        client += rate_headers(planned, outcome.levels)
    return Allow(
        request_id=request.request_id,
        route=taken.name,
        subject=spending.subject,
        model=known.model,
        backend=known.backend.name if known.backend is not None else None,
        reservation=reservation,
        upstream=upstream_headers,
        remove=remove,
        client=client,
        steady=steady,
        query=query,
        limits=known.limits,
        edit=_edit_of(spending, taken, limited) if request.can_edit else None,
        may_overrun=limited is None and spending.bound is not known.bound,
        without_store=known.local,
        client_request_id=known.client_request_id,
    )


def _edit_of(spending: Spending, taken: Route, limited: int | None) -> str | None:
    """How the gateway changes the body. Only of a body that was read, which is whole and plain."""
    seen, path = spending.peek, spending.target.path
    splices = list(ask_for_usage(path, seen, taken.include_usage))
    if limited is not None:
        splices += limit_answer(path, seen, limited)
    return edit.spell(seen.size, joined(splices)) if splices else None


def exhausted(
    rules: Rules, known: Known, spending: Spending, planned: Sequence[Planned], outcome: Exhausted
) -> Deny:
    """The refusal of what does not fit into a limit."""
    known.limits = Standings(planned, outcome)
    field = limit_of(spending.target)
    refusal, wait_ms = verdict(planned, outcome, known.request.request_id, spending.bound, field)
    headers: tuple[Header, ...] = ()
    if rules.rate_headers:
        headers = rate_headers(planned, outcome.levels, denied=outcome.denied, wait_ms=wait_ms)
    return refuse(known, refusal, wait_ms=wait_ms, headers=headers)


def refuse(
    known: Known, refusal: Refusal, *, wait_ms: int | None = None, headers: tuple[Header, ...] = ()
) -> Deny:
    """The refusal, with all that is known of the request."""
    return deny(
        known.request.request_id,
        refusal.reason,
        message=refusal.message,
        param=refusal.param,
        route=known.route.name if known.route is not None else None,
        subject=known.subject,
        model=known.model,
        limits=known.limits,
        wait_ms=wait_ms,
        challenge=known.route.challenge if known.route is not None else None,
        headers=headers,
        status=refusal.status,
        client_request_id=known.client_request_id,
        detail=refusal.detail,
    )


def limit_of(target: Target) -> str:
    """The field by which a client limits an answer."""
    return LIMITS_OF.get(target.path, OUTPUT_LIMITS)[0]
