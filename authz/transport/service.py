"""What a transport asks of the core, and the one way in which it asks."""

import time
from collections.abc import Callable
from operator import itemgetter
from typing import Protocol

import structlog

from authz.decision import Allow, Decision, Deny, ModelList
from authz.denial import deny
from authz.header_text import is_field_value
from authz.reason import Reason
from authz.refusal import Refusal
from authz.report import Report
from authz.request import Gateway, Request
from authz.store.protocols import Outcome

log = structlog.get_logger("authz.transport")

Observe = Callable[[str, str, Reason, float], None]
"""Told of every answer: gateway, route ("" for none), reason, seconds."""


class Service(Protocol):
    """The decisions, free of any wire type."""

    async def decide(self, request: Request) -> Decision:
        """Let the request through or refuse it. Bad input is a refusal, never an exception."""
        ...

    async def list_models(self, request: Request) -> ModelList | Deny:
        """Answer `GET /v1/models`."""
        ...

    async def settle(self, report: Report, gateway: Gateway) -> Outcome:
        """A response ended. Idempotent; bound to its gateway. Raises StoreUnavailable."""
        ...

    async def settle_by_request_id(
        self, gateway: Gateway, gateway_request_id: str, report: Report
    ) -> Outcome:
        """The same by the gateway's own id of the request. Raises StoreUnavailable."""
        ...

    async def extend(self, reservation: str, gateway: Gateway) -> bool:
        """A response still runs. Raises StoreUnavailable."""
        ...

    async def durable(self) -> None:
        """Returns once every settlement so far is on the disk. Raises StoreUnavailable."""
        ...


class Desk:
    """Where every transport hands in its requests: asks the service, measures, and survives its faults.

    A fault of ours is a denial like any other (503), so that a client sees the
    same JSON and a gateway never has to guess.
    """

    def __init__(self, service: Service, observe: Observe) -> None:
        self.service = service
        self._observe = observe

    async def decide(self, request: Request) -> Decision:
        """The service's decision. Adds no suspension of its own."""
        started = time.perf_counter()
        try:
            decision = await self.service.decide(request)
            if type(decision) is Allow and not _is_safe(decision):
                decision = await self._withdraw(request, decision)
        except Exception as error:
            decision = _fault(request.gateway.name, request.request_id, error)
        self._observe(
            request.gateway.name, decision.route or "", decision.reason, time.perf_counter() - started
        )
        return decision

    async def list_models(self, request: Request) -> ModelList | Deny:
        """The service's list of models."""
        started = time.perf_counter()
        answer: ModelList | Deny
        try:
            answer = await self.service.list_models(request)
        except Exception as error:
            answer = _fault(request.gateway.name, request.request_id, error)
        reason = answer.reason if isinstance(answer, Deny) else Reason.ALLOWED
        self._observe(request.gateway.name, answer.route or "", reason, time.perf_counter() - started)
        return answer

    def refuse(self, gateway: str, request_id: str, refusal: Refusal) -> Deny:
        """Refuse what a transport could not even hand in."""
        self._observe(gateway, "", refusal.reason, 0.0)
        return deny(request_id, refusal.reason, message=refusal.message, param=refusal.param)

    def fault(self, gateway: str, request_id: str, error: Exception) -> Deny:
        """Refuse because a transport failed at its own work."""
        self._observe(gateway, "", Reason.INTERNAL_ERROR, 0.0)
        return _fault(gateway, request_id, error)

    async def _withdraw(self, request: Request, allow: Allow) -> Deny:
        """No header may be ended by its value (attack 32): rather no answer than a forged one."""
        log.error("decision holds an unsafe header value", request_id=request.request_id, route=allow.route)
        if allow.reservation is not None:
            await self.service.settle(Report(reservation=allow.reservation, reached=False), request.gateway)
        return deny(request.request_id, Reason.INTERNAL_ERROR, route=allow.route, subject=allow.subject)


def _fault(gateway: str, request_id: str, error: Exception) -> Deny:
    # The traceback is written without local variables, so neither a header nor a body gets into the log.
    log.error("decision failed", request_id=request_id, gateway=gateway, exc_info=error)
    return deny(request_id, Reason.INTERNAL_ERROR)


_value = itemgetter(1)


def _is_safe(allow: Allow) -> bool:
    """Of what is steady its maker has seen to it."""
    ours = (*allow.upstream[len(allow.steady) :], *allow.client)
    return is_field_value("".join(map(_value, ours)))
