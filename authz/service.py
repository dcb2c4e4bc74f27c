"""The service that transports call: it decides, keeps every denial, and settles what responses used."""

from collections.abc import Awaitable, Callable, Sequence

from msgspec.structs import replace

from authz import canonical, listing
from authz.canonical import Target
from authz.decide import Decider
from authz.decision import Allow, Decision, Deny, LimitState, ListedModel, ModelList
from authz.ledger.matching import Matching
from authz.ledger.settle import Settler
from authz.refusal import Refusal
from authz.report import Report
from authz.request import Gateway, Request
from authz.store.protocols import Clock, Counters, Denials, Outcome
from authz.store.records import Denial, Model

LONGEST_PATH = 200
LONGEST_METHOD = 16


async def _at_once() -> None:
    """Nothing is written anywhere."""


class Service:
    """One running service: a decider, what settles, and the record of what it refused."""

    def __init__(
        self,
        decider: Decider,
        counters: Counters,
        denials: Denials,
        clock: Clock,
        *,
        settler: Settler | None = None,
        durable: Callable[[], Awaitable[None]] = _at_once,
    ) -> None:
        """`durable` returns once every settlement so far is on the disk, see `Ledger.durable`."""
        self.decider = decider
        self.settler = settler or Settler(counters, clock)
        self._durable = durable
        self._denials = denials
        self._clock = clock
        self._matching = Matching()

    async def decide(self, request: Request) -> Decision:
        """One decision; a denial is kept for `authz decisions`."""
        decision = await self.decider.decide(request)
        if isinstance(decision, Deny):
            self._denials.record(denial_of(request, decision, self._clock()))
        elif request.gateway.request_id_is_ours:
            await self._join(request, decision)
        return decision

    async def _join(self, request: Request, allow: Allow) -> None:
        """Remember the gateway's id; where its client left while we decided, give back what was held."""
        if allow.reservation is None:
            return
        if self._matching.made(request.gateway.name, request.request_id, allow.reservation):
            await self.settle(Report(reservation=allow.reservation, reached=False), request.gateway)

    async def list_models(self, request: Request) -> ModelList | Deny:
        """`GET /v1/models`: a decision like any other, then what the caller may use."""
        decision = await self.decide(request)
        if isinstance(decision, Deny):
            return decision
        rules, target = self.decider.rules, canonical.read(request)
        found = None if isinstance(target, Refusal) else rules.find(target, request)
        models: Sequence[Model] = ()  # where a reload in between took the route away
        if isinstance(target, Target) and found is not None:
            models = listing.open_models(rules, found[0], request, target, decision.subject, self._clock())
        return ModelList(
            request_id=request.request_id,
            route=decision.route,
            subject=decision.subject,
            models=tuple(ListedModel(model.name, model.created_at) for model in models),
            client=decision.client,
        )

    async def settle(self, report: Report, gateway: Gateway) -> Outcome:
        """A response has ended: charge what it used, give back the rest. Idempotent; bound to its gateway.

        Raises StoreUnavailable: tell it again later.
        """
        outcome, facts = await self.settler.settle(report, gateway)
        if facts is not None and facts.gateway_request_id:
            self._matching.settled(gateway.name, facts.gateway_request_id)
        return outcome

    async def settle_by_request_id(
        self, gateway: Gateway, gateway_request_id: str, report: Report
    ) -> Outcome:
        """The same where the gateway knows its own id of the request only, and nobody else can choose it.

        `report` names no reservation. One that is yet to be made is released as soon as it is.
        """
        if not (gateway.proven and gateway.request_id_is_ours):
            return Outcome.FOREIGN
        reservation = self._matching.ended(gateway.name, gateway_request_id)
        if reservation is None:
            return Outcome.UNKNOWN
        return await self.settle(replace(report, reservation=reservation), gateway)

    async def extend(self, reservation: str, gateway: Gateway) -> bool:
        """A response still runs: its reservation does not expire yet. Raises StoreUnavailable."""
        return await self.settler.extend(reservation, gateway)

    async def durable(self) -> None:
        """Returns once every settlement so far is on the disk. Raises StoreUnavailable."""
        await self._durable()


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
        client_request_id=denied.client_request_id,
        detail=denied.detail,
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
