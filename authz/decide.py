"""The way of one request: route, authenticate, authorize, reserve.

With an embedded store nothing here suspends, so a transport may step the
coroutine once and have its answer. Otherwise it awaits bare futures only.
"""

from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from authz import canonical, edit, preference, upstream
from authz.authenticate.presented import Presented, Twice
from authz.authenticate.protocol import Refused
from authz.authorize import Asked, authorize
from authz.canonical import Target
from authz.decision import Allow, Decision, Deny, Header, LimitState, StageName
from authz.denial import deny
from authz.edit_request import LIMITS_OF, ask_for_usage, joined, limit_answer
from authz.header_text import is_request_id
from authz.limit.admission import AS_USUAL, Admission
from authz.limit.estimate import Bound, bound_of
from authz.limit.headers import rate_headers
from authz.limit.learned import Learned
from authz.limit.planned import Planned, Standings
from authz.limit.reservation import facts_of, remembered_ms, reservation_id
from authz.limit.spending import Spending
from authz.limit.verdict import verdict, without_store
from authz.listing import is_listing
from authz.peek import NOTHING, OUTPUT_LIMITS, Peek, peek
from authz.preference import NO_WISHES, Wishes
from authz.quota import TOKEN_UNITS, Unit
from authz.reason import Reason
from authz.refusal import Refusal
from authz.request import BodyState, Request
from authz.route import Route
from authz.rules import Rules
from authz.store.protocols import (
    Clock,
    Counters,
    Directory,
    Exhausted,
    OnFailure,
    Reserved,
    StoreUnavailable,
)
from authz.subject import Subject


class Known(Struct):
    """What is known of a request so far: a denial reports it, and `authz check` tells it stage by stage."""

    request: Request
    stage: StageName = "request"  # the one that is under way, and at the end the last
    target: Target | None = None
    route: Route | None = None
    subject: Subject | None = None
    model: str | None = None
    bound: Bound | None = None  # the most that it may use
    admission: Admission = "worst_case"
    held: Bound | None = None  # less than the bound where the answer is limited, or expected to be short
    limits: Sequence[LimitState] = ()
    local: bool = False  # decided by this replica alone, because the store does not answer
    wishes: Wishes = NO_WISHES
    client_request_id: str = ""  # the client's own id; ours where it has none, and the route wants one


def _ignored(operation: str) -> None:
    """Nobody counts."""


def _unnoted(planned: Sequence[Planned], outcome: Reserved | Exhausted, now: int) -> None:
    """Nobody asks what limits on trial would have refused."""


class Decider:
    """Decides by the rules in force. `rules` is replaced whole on a reload."""

    def __init__(
        self,
        rules: Rules,
        directory: Directory,
        counters: Counters,
        clock: Clock,
        *,
        store_failed: Callable[[str], None] = _ignored,
        tried: Callable[[Sequence[Planned], Reserved | Exhausted, int], None] = _unnoted,
    ) -> None:
        """`store_failed` is told the operation ("authenticate", "reserve") that the store did not answer.

        `tried` is told what was refused, or only let through because a limit is on trial.
        """
        self.rules = rules
        self._directory = directory
        self._counters = counters
        self._clock = clock
        self._store_failed = store_failed
        self._tried = tried
        self.learned = Learned()

    async def decide(self, request: Request) -> Decision:
        """Let the request through or refuse it.

        Never raises for bad input; a store that cannot answer is a denial too.
        """
        return await self.follow(Known(request), charge=True)

    async def follow(self, known: Known, *, charge: bool) -> Decision:
        """The whole way, top to bottom; `known` grows on it. With `charge=False` nothing is spent."""
        rules, request = self.rules, known.request

        target = canonical.read(request)
        if isinstance(target, Refusal):
            return self._refuse(known, target)
        known.target = target

        known.stage = "route"
        found = rules.find(target, request)
        if found is None:
            text = f"No route serves {target.method} {target.path[:200]}."
            return self._refuse(known, Refusal(Reason.NO_ROUTE, text))
        known.route, variables = found

        if known.route.request_id_header is not None:
            own_id = _own_id(request, known.route.request_id_header)
            if isinstance(own_id, Refusal):
                return self._refuse(known, own_id)
            known.client_request_id = own_id

        known.stage = "authenticate"
        presented = Presented(request)
        try:
            subject = await known.route.authenticate.authenticate(presented)
        except Twice as twice:
            text = f"The {twice.slot} was sent twice. Send it once."
            return self._refuse(known, Refusal(Reason.DUPLICATE_CREDENTIAL, text))
        except StoreUnavailable:
            self._store_failed("authenticate")
            return self._refuse(known, Refusal(Reason.STORE_UNAVAILABLE))
        if not isinstance(subject, Subject):
            return self._refuse(known, _credential_refusal(subject))
        known.subject = subject

        known.stage = "authorize"
        seen = _read_body(known.route, target, request)
        if isinstance(seen, Refusal):
            return self._refuse(known, seen)
        wishes = NO_WISHES
        if known.route.preferences is not None:
            read = preference.read(known.route.preferences, request)
            if isinstance(read, Refusal):
                return self._refuse(known, read)
            known.wishes = wishes = read
        model = _model(seen, target, variables, presented, wishes.model)
        if isinstance(model, Refusal):
            return self._refuse(known, model)
        known.model = model
        record = rules.catalog.get(model) if model is not None else None
        listing = is_listing(target)
        asked = Asked(request, target, subject, seen, model, record, rules.catalog, listing, self._clock())
        refusal = (
            authorize(known.route.authorize, asked)
            or _too_long(seen, asked)
            or (None if listing else _nowhere(known.route, wishes, model, rules))
        )
        if refusal is not None:
            return self._refuse(known, refusal)

        known.stage = "limits"
        reckoning = rules.reckonings.get(model, AS_USUAL) if model is not None else AS_USUAL
        counted = await reckoning.count(request.body) if reckoning.count is not None and seen.size else None
        known.bound = bound_of(request, target, seen, model, record, counted)
        known.admission = known.route.admission or reckoning.admission or "worst_case"
        known.held = self._held(known, known.bound, seen, subject)
        if known.route.caps is not None and not listing:
            refusal = known.route.caps(request, known.held, _limit_of(target))
            if refusal is not None:
                return self._refuse(known, refusal)
        spending = Spending(
            request=request,
            target=target,
            presented=presented,
            subject=subject,
            route=known.route.name,
            model=model,
            known=record,
            peek=seen,
            bound=known.held,
        )
        plan = known.route.planners.plan(spending, self._directory, self._clock())
        if wishes.concurrent is not None and known.route.preferences is not None:
            planner = known.route.preferences.concurrency
            if planner is not None:
                plan = plan.with_part(planner.of_amount(spending, self._clock(), wishes.concurrent))
        planned, holds = plan.parts, plan.holds
        if not spending.bound.sure and any(each.policy.quota.unit in TOKEN_UNITS for each in planned):
            return self._refuse(known, _UNBOUNDED)
        if record is None and known.bound.input and self._is_priced(planned):
            return self._refuse(
                known, Refusal(Reason.MODEL_REQUIRED if model is None else Reason.MODEL_UNKNOWN)
            )
        # The list of models is no request for a model: nothing of it is in the ledger.
        reservation = None
        if planned or not listing:
            reservation = reservation_id(request, target, known.route.remove) + self._counters.place(holds)
        try:
            if not charge:
                outcome = await self._counters.peek(holds)
            elif reservation is None:
                outcome = Reserved(())
            else:
                outcome = await self._counters.reserve(
                    reservation,
                    request.gateway.name,
                    holds,
                    remembered_ms(request, holds, listing=listing),
                    b"" if listing else facts_of(spending, known.client_request_id),
                )
        except StoreUnavailable as failure:
            if any(each.hold.on_failure is not OnFailure.ALLOW and not each.hold.shadow for each in planned):
                self._store_failed("reserve")
                return self._refuse(
                    known, Refusal(Reason.STORE_UNAVAILABLE, detail=without_store(failure, planned))
                )
            planned, reservation, outcome = (), None, Reserved((), local=True)  # nobody remembers it
        if outcome.local:
            self._store_failed("reserve")
            known.local = True
        if charge and (isinstance(outcome, Exhausted) or outcome.over):
            self._tried(planned, outcome, self._clock())
        if isinstance(outcome, Exhausted):
            return self._exhausted(known, spending, planned, outcome)
        if outcome.name:
            reservation = outcome.name
        known.limits = Standings(planned, outcome)
        headers: tuple[Header, ...] = ()
        if rules.rate_headers:
            headers = rate_headers(planned, outcome.levels)
        limited = known.held.answer if known.held is not known.bound and known.admission == "fitted" else None
        return self._allow(known, known.route, spending, reservation, limited, headers)

    def _is_priced(self, planned: Sequence[Planned]) -> bool:
        """Whether money is limited and models cost some: what names none of them would be free.

        Servers answer without a name, and to more names than are configured.
        """
        return any(each.policy.quota.unit is Unit.COST for each in planned) and any(
            model.price.input or model.price.output for model in self.rules.catalog
        )

    def _held(self, known: Known, bound: Bound, seen: Peek, subject: Subject) -> Bound:
        """Less than the worst case, as far as answers of the kind are known."""
        admission, target, model = known.admission, known.target, known.model
        if admission == "worst_case" or target is None or model is None or not bound.answer:
            return bound
        # Nobody would hold the answer to it. A body that names the model was read, and has room for a member.
        if admission == "fitted" and not (
            known.request.can_edit and target.path in LIMITS_OF and seen.model is not None
        ):
            return bound
        tokens = self.learned.high(subject, model)
        return bound.with_answer(tokens) if tokens is not None and tokens < bound.answer else bound

    def _allow(
        self,
        known: Known,
        taken: Route,
        spending: Spending,
        reservation: str | None,
        limited: int | None,
        headers: tuple[Header, ...],
    ) -> Allow:
        request, subject, target = known.request, spending.subject, spending.target
        backend = known.wishes.target or upstream.choose(self.rules.backends, known.model)
        present, absent = upstream.identity(
            subject,
            model=known.model,
            reservation=reservation,
            request_id=request.request_id,
            backend=backend.name if backend is not None else None,
        )
        query, cookie_set, cookie_gone = upstream.strip_credentials(
            request, target.query, taken.credential_params, taken.credential_cookies
        )
        own: list[Header] = [*subject.headers, *cookie_set]
        if backend is not None and backend.credential is not None and request.gateway.proven:
            own.append((backend.credential.header, backend.credential.value))
        if known.wishes is not NO_WISHES:
            own += preference.gateway_headers(known.wishes, request.gateway.kind)
        if taken.request_id_header is not None:
            own.append((taken.request_id_header, known.client_request_id))
        remove: tuple[str, ...] = (*taken.remove, *absent, *cookie_gone)
        if own:  # a gateway may remove after it sets: no name stands in both lists
            kept = {name for name, _ in own}
            remove = tuple(name for name in remove if name not in kept)
        own_id = ("x-request-id", request.request_id)
        client = (own_id, *headers) if limited is None else (own_id, (MAX_TOKENS, str(limited)), *headers)
        return Allow(
            request_id=request.request_id,
            route=taken.name,
            subject=subject,
            model=known.model,
            backend=backend.name if backend is not None else None,
            reservation=reservation,
            upstream=(*present, *own),
            remove=remove,
            client=client,
            query=query,
            limits=known.limits,
            edit=_edit(spending, taken, limited) if request.can_edit else None,
            may_overrun=limited is None and known.held is not known.bound,
            without_store=known.local,
            client_request_id=known.client_request_id,
        )

    def _exhausted(
        self, known: Known, spending: Spending, planned: Sequence[Planned], outcome: Exhausted
    ) -> Deny:
        known.limits = Standings(planned, outcome)
        field = _limit_of(spending.target)
        refusal, wait_ms = verdict(planned, outcome, known.request.request_id, spending.bound, field)
        headers: tuple[Header, ...] = ()
        if self.rules.rate_headers:
            headers = rate_headers(planned, outcome.levels, denied=outcome.denied, wait_ms=wait_ms)
        return self._refuse(known, refusal, wait_ms=wait_ms, headers=headers)

    def _refuse(
        self, known: Known, refusal: Refusal, *, wait_ms: int | None = None, headers: tuple[Header, ...] = ()
    ) -> Deny:
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


MAX_TOKENS = "x-authz-max-tokens"  # to the client: what its answer was limited to


def _limit_of(target: Target) -> str:
    """The field by which a client limits an answer."""
    return LIMITS_OF.get(target.path, OUTPUT_LIMITS)[0]


def _edit(spending: Spending, taken: Route, limited: int | None) -> str | None:
    """How the gateway changes the body. Only of a body that was read, which is whole and plain."""
    seen, path = spending.peek, spending.target.path
    splices = list(ask_for_usage(path, seen, taken.include_usage))
    if limited is not None:
        splices += limit_answer(path, seen, limited)
    return edit.spell(seen.size, joined(splices)) if splices else None


_UNBOUNDED = Refusal(
    Reason.BAD_PARAMETER,
    "Tokens are limited here, and nothing bounds them: send `max_tokens`, and text only.",
    "max_tokens",
)


def _credential_refusal(refused: Refused | None) -> Refusal:
    if refused is None:
        return Refusal(Reason.CREDENTIAL_MISSING)
    return Refusal(refused.reason, refused.detail or None, detail=refused.note)


def _own_id(request: Request, header: str) -> str | Refusal:
    """The client's own id. For people: a request is never told apart by it (attack 106)."""
    theirs = request.headers.get(header)
    if not theirs:
        return request.request_id
    if header not in request.repeated and is_request_id(theirs):
        return theirs
    text = f"The header {header} must be one id: letters, digits and . _ : -, at most 128 of them."
    return Refusal(Reason.BAD_HEADER, text, header)


def _read_body(taken: Route, target: Target, request: Request) -> Peek | Refusal:
    """The body, where the route looks at it. A body is never guessed at."""
    if not taken.reads_body and not taken.needs_model:
        return NOTHING
    if target.method in ("GET", "HEAD", "OPTIONS") and request.body_state is BodyState.NONE:
        return NOTHING
    if request.body_state is BodyState.NONE and taken.reads_body:
        return Refusal(Reason.BODY_REQUIRED)
    return peek(request)


def _model(
    seen: Peek, target: Target, variables: Mapping[str, str], presented: Presented, header: str | None
) -> str | Refusal | None:
    """The one model that body, path, query and header agree on (attacks 20, 21)."""
    named = {name for name in (seen.model, variables.get("model"), header) if name is not None}
    if "model=" in target.query or "%" in target.query:
        named.update(presented.query.get("model", ()))
    if len(named) > 1:
        return Refusal(Reason.MODEL_CONFLICT, param="model")
    return named.pop() if named else None


def _too_long(seen: Peek, asked: Asked) -> Refusal | None:
    """More output than the model may produce is an error, not something to be cut (invariant 5)."""
    most = asked.known.max_output if asked.known is not None else None
    if most is None or seen.max_output is None or seen.max_output <= most:
        return None
    text = f"The model {asked.model} produces at most {most} tokens; {seen.max_output} were asked for."
    return Refusal(Reason.TOO_MANY_OUTPUT_TOKENS, text, "max_tokens")


def _nowhere(taken: Route, wishes: Wishes, model: str | None, rules: Rules) -> Refusal | None:
    """A target that does not serve the model; or none, where no model server serves the request by itself."""
    target, offer = wishes.target, taken.preferences
    if target is not None:
        if target.models is None or model is None or model in target.models:
            return None
        return Refusal(Reason.TARGET_NOT_ALLOWED, "The target does not serve the model.", "target_host")
    if not rules.backends or upstream.choose(rules.backends, model) is not None:
        return None
    if offer is not None and offer.targets:
        return Refusal(Reason.TARGET_NOT_ALLOWED, "Nothing here serves the request by itself. Name a target.")
    if model is None:
        text = "Several model servers stand behind this: name a model."
        return Refusal(Reason.MODEL_REQUIRED, text, "model")
    return Refusal(Reason.MODEL_UNKNOWN, param="model")
