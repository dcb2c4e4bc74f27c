"""The way of one request: route, authenticate, authorize, reserve.

With an embedded store nothing here suspends, so a transport may step the
coroutine once and have its answer. Otherwise it awaits bare futures only.
"""

from collections.abc import Callable, Sequence

from authz import canonical, preference, reading, upstream
from authz.answer import allow, exhausted, limit_of, refuse
from authz.authenticate.presented import Presented, Twice
from authz.authenticate.protocol import Refused
from authz.authorize import Asked, authorize
from authz.decision import Decision
from authz.edit_request import LIMITS_OF
from authz.known import Known
from authz.limit.admission import AS_USUAL
from authz.limit.estimate import Bound, bound_of
from authz.limit.learned import Learned
from authz.limit.planned import Planned
from authz.limit.reservation import facts_of, remembered_ms, reservation_id
from authz.limit.spending import Spending
from authz.limit.verdict import without_store
from authz.listing import is_listing
from authz.peek import Peek
from authz.preference import NO_WISHES
from authz.quota import TOKEN_UNITS, Unit
from authz.reason import Reason
from authz.refusal import Refusal
from authz.request import Request
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
        known = Known(request)
        try:
            return await self.follow(known, charge=True)
        except StoreUnavailable as failure:  # models and grants were never read
            self._store_failed("read")
            return refuse(known, Refusal(Reason.STORE_UNAVAILABLE, detail=str(failure)))

    async def follow(self, known: Known, *, charge: bool) -> Decision:
        """The whole way, top to bottom; `known` grows on it. With `charge=False` nothing is spent."""
        rules, request = self.rules, known.request

        target = canonical.read(request)
        if isinstance(target, Refusal):
            return refuse(known, target)
        known.target = target

        known.stage = "route"
        found = rules.find(target, request)
        if found is None:
            text = f"No route serves {target.method} {target.path[:200]}."
            return refuse(known, Refusal(Reason.NO_ROUTE, text))
        known.route, variables = found

        if known.route.request_id_header is not None:
            own_id = reading.own_id(request, known.route.request_id_header)
            if isinstance(own_id, Refusal):
                return refuse(known, own_id)
            known.client_request_id = own_id

        known.stage = "authenticate"
        presented = Presented(request)
        try:
            subject = await known.route.authenticate.authenticate(presented)
        except Twice as twice:
            text = f"The {twice.slot} was sent twice. Send it once."
            return refuse(known, Refusal(Reason.DUPLICATE_CREDENTIAL, text))
        except StoreUnavailable:
            self._store_failed("authenticate")
            return refuse(known, Refusal(Reason.STORE_UNAVAILABLE))
        if not isinstance(subject, Subject):
            return refuse(known, _credential_refusal(subject))
        known.subject = subject

        known.stage = "authorize"
        seen = reading.read_body(known.route, target, request)
        if isinstance(seen, Refusal):
            return refuse(known, seen)
        wishes = NO_WISHES
        if known.route.preferences is not None:
            read = preference.read(known.route.preferences, request)
            if isinstance(read, Refusal):
                return refuse(known, read)
            known.wishes = wishes = read
        model = reading.model_of(seen, target, variables, presented, wishes.model)
        if isinstance(model, Refusal):
            return refuse(known, model)
        known.model = model
        record = rules.catalog.get(model) if model is not None else None
        listing = is_listing(target)
        asked = Asked(request, target, subject, seen, model, record, rules.catalog, listing, self._clock())
        refusal = (
            authorize(known.route.authorize, asked)
            or reading.too_long(seen, asked)
            or (None if listing else reading.nowhere(known.route, wishes, model, rules))
        )
        if refusal is not None:
            return refuse(known, refusal)

        known.stage = "limits"
        reckoning = rules.reckonings.get(model, AS_USUAL) if model is not None else AS_USUAL
        counted = await reckoning.count(request.body) if reckoning.count is not None and seen.size else None
        known.bound = bound_of(request, target, seen, model, record, counted)
        known.admission = known.route.admission or reckoning.admission or "worst_case"
        known.held = self._held(known, known.bound, seen, subject)
        if known.route.caps is not None and not listing:
            refusal = known.route.caps(request, known.held, limit_of(target))
            if refusal is not None:
                return refuse(known, refusal)
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
        known.backend = wishes.target or upstream.choose(rules.backends, model)
        plan, passage = known.route.courses.of(spending, known.backend, self._directory, self._clock())
        if wishes.concurrent is not None and known.route.preferences is not None:
            planner = known.route.preferences.concurrency
            if planner is not None:
                plan = plan.with_part(planner.of_amount(spending, self._clock(), wishes.concurrent))
        if listing:
            plan = plan.without_slots()
        planned, holds = plan.parts, plan.holds
        if not spending.bound.sure and any(each.policy.quota.unit in TOKEN_UNITS for each in planned):
            return refuse(known, _UNBOUNDED)
        if record is None and known.bound.input and self._is_priced(planned):
            return refuse(known, Refusal(Reason.MODEL_REQUIRED if model is None else Reason.MODEL_UNKNOWN))
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
                detail = without_store(failure, planned)
                return refuse(known, Refusal(Reason.STORE_UNAVAILABLE, detail=detail))
            planned, reservation, outcome = (), None, Reserved((), local=True)  # nobody remembers it
        if outcome.local:
            self._store_failed("reserve")
            known.local = True
        if charge and (isinstance(outcome, Exhausted) or outcome.over):
            self._tried(planned, outcome, self._clock())
        if isinstance(outcome, Exhausted):
            return exhausted(rules, known, spending, planned, outcome)
        return allow(
            rules, known, known.route, spending, planned, outcome, outcome.name or reservation, passage
        )

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


_UNBOUNDED = Refusal(
    Reason.BAD_PARAMETER,
    "Tokens are limited here, and nothing bounds them: send `max_tokens`, and text only.",
    "max_tokens",
)


def _credential_refusal(refused: Refused | None) -> Refusal:
    if refused is None:
        return Refusal(Reason.CREDENTIAL_MISSING)
    return Refusal(refused.reason, refused.detail or None, detail=refused.note)
