"""The service that transports call: decide, and see to it that every decision is counted and every denial kept."""

import json
from time import perf_counter
from typing import Protocol

from authz import canonical, listing, route
from authz.authenticate.presented import Presented
from authz.decide import Decider
from authz.decision import Decision, Deny
from authz.refusal import Refusal
from authz.request import Gateway, Request
from authz.store.protocols import Clock, Counters, Denials
from authz.store.records import Denial, Model

LONGEST_PATH = 200


class Meter(Protocol):
    """Where decisions are counted."""

    def decided(self, gateway: str, route: str, reason: str, seconds: float) -> None: ...


class Service:
    """One running service: a decider, its counters, and the record of what it refused."""

    def __init__(self, decider: Decider, counters: Counters, denials: Denials, clock: Clock, meter: Meter) -> None:
        self.decider = decider
        self._counters = counters
        self._denials = denials
        self._clock = clock
        self._meter = meter

    async def decide(self, request: Request) -> Decision:
        """One decision, counted; a denial is kept for `authz decisions`."""
        begun = perf_counter()
        decision = await self.decider.decide(request)
        self._meter.decided(
            request.gateway.name, decision.route or "", decision.reason.value, perf_counter() - begun
        )
        if isinstance(decision, Deny):
            self._denials.record(self._denial(request, decision))
        return decision

    async def release(self, reservation: str, gateway: Gateway, reason: str) -> None:
        """A response has ended: what it held while it ran is free again."""
        await self._counters.settle(reservation, gateway.name, {})

    def _denial(self, request: Request, denied: Deny) -> Denial:
        now, subject = self._clock(), denied.subject
        return Denial(
            id=denied.request_id,
            at=now,
            last_at=now,
            count=1,
            gateway=request.gateway.name,
            route=denied.route or "",
            method=request.method[:16],
            path=request.target.partition("?")[0][:LONGEST_PATH],
            reason=denied.reason.value,
            status=denied.status,
            message=denied.message,
            user=subject.user if subject is not None else "",
            team=(subject.team or "") if subject is not None else "",
            key=(subject.key or "") if subject is not None else "",
            model=denied.model or "",
            ip=request.ip or "",
            limits=tuple(
                {
                    "policy": state.policy,
                    "unit": state.unit,
                    "partition": state.partition,
                    "quota": state.quota,
                    "window": state.window,
                    "needed": state.needed,
                    "remaining": state.remaining,
                    "reset_after": state.reset_after,
                    "exhausted": state.exhausted,
                    "shadow": state.shadow,
                }
                for state in denied.limits
            ),
        )
