"""The service that transports call: it decides, and keeps every denial."""

from collections.abc import Sequence

from authz import canonical, listing, route
from authz.canonical import Target
from authz.decide import Decider
from authz.decision import Decision, Deny, LimitState, ListedModel, ModelList
from authz.refusal import Refusal
from authz.request import Gateway, Request
from authz.store.protocols import Clock, Counters, Denials
from authz.store.records import Denial, Model

LONGEST_PATH = 200
LONGEST_METHOD = 16


class Service:
    """One running service: a decider, its counters, and the record of what it refused."""

    def __init__(self, decider: Decider, counters: Counters, denials: Denials, clock: Clock) -> None:
        self.decider = decider
        self._counters = counters
        self._denials = denials
        self._clock = clock

    async def decide(self, request: Request) -> Decision:
        """One decision; a denial is kept for `authz decisions`."""
        decision = await self.decider.decide(request)
        if isinstance(decision, Deny):
            self._denials.record(denial_of(request, decision, self._clock()))
        return decision

    async def list_models(self, request: Request) -> ModelList | Deny:
        """`GET /v1/models`: a decision like any other, then what the caller may use."""
        decision = await self.decide(request)
        if isinstance(decision, Deny):
            return decision
        rules, target = self.decider.rules, canonical.read(request)
        found = None if isinstance(target, Refusal) else route.find(rules.routes, target, request)
        models: Sequence[Model] = ()  # where a reload in between took the route away
        if isinstance(target, Target) and found is not None:
            models = listing.open_models(rules, found[0], request, target, decision.subject)
        return ModelList(
            request_id=request.request_id,
            route=decision.route,
            subject=decision.subject,
            models=tuple(ListedModel(model.name, model.created_at) for model in models),
            client=decision.client,
        )

    async def release(self, reservation: str, gateway: Gateway, reason: str) -> None:
        """A response has ended: what it held while it ran is free again."""
        await self._counters.settle(reservation, gateway.name, {})


def denial_of(request: Request, denied: Deny, now: int) -> Denial:
    """The record of a refusal. Holds no query, header or body of the request."""
    subject = denied.subject
    return Denial(
        id=denied.request_id,
        at=now,
        last_at=now,
        count=1,
        gateway=request.gateway.name,
        route=denied.route or "",
        method=request.method[:LONGEST_METHOD],
        path=request.target.partition("?")[0][:LONGEST_PATH],
        reason=denied.reason.value,
        status=denied.status,
        message=denied.message,
        user=subject.user if subject is not None else "",
        team=(subject.team or "") if subject is not None else "",
        key=(subject.key or "") if subject is not None else "",
        model=denied.model or "",
        ip=request.ip or "",
        limits=tuple(_figures(denied.limits)),
    )


def _figures(limits: Sequence[LimitState]) -> list[dict[str, str | int | float | bool]]:
    return [
        {
            "policy": state.limit.policy,
            "unit": state.limit.unit,
            "partition": state.limit.partition,
            "quota": state.limit.quota,
            "window": state.limit.window,
            "needed": state.limit.needed,
            "remaining": state.remaining,
            "reset_after": state.reset_after,
            "exhausted": state.exhausted,
            "shadow": state.limit.shadow,
        }
        for state in limits
    ]
