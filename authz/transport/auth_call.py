"""One auth call: who asks is known, for what its dialect reads once the body is there."""

from authz.decision import Allow
from authz.reason import Reason
from authz.refusal import Refusal
from authz.transport.dialect import Call, Dialect, refusal
from authz.transport.gateways import GatewayRegistry
from authz.transport.reply import Reply
from authz.transport.service import Desk

SEAL = "x-authz-seal: "
"""Goes into the gateway's log beside the reservation, and nowhere else."""


class AuthCall:
    """The question of a gateway, see `authz.transport.exchange.Question`."""

    __slots__ = ("_call", "_desk", "_dialect", "_gateways", "most")

    def __init__(
        self, desk: Desk, gateways: GatewayRegistry, dialect: Dialect, call: Call, most: int
    ) -> None:
        self.most = most
        self._desk = desk
        self._gateways = gateways
        self._dialect = dialect
        self._call = call

    async def answer(self, body: bytes) -> Reply:
        """What the service decides, as the gateway's dialect spells it."""
        call, dialect = self._call, self._dialect
        request = dialect.read(call, body)
        if isinstance(request, Refusal):
            return self._refuse(request)
        decision = await self._desk.decide(request)
        if not isinstance(decision, Allow):
            return refusal(dialect.deny, decision)
        fields = dialect.allow(request, decision, call.fields.spoofed)
        if decision.reservation is not None:
            proof = self._gateways.seal(call.gateway, decision.reservation)
            if proof is not None:
                fields.append(SEAL + proof)
        return Reply(200, fields)

    def too_large(self) -> Reply:
        return self._refuse(Refusal(Reason.BODY_TOO_LARGE))

    def fault(self, error: Exception) -> Reply:
        call = self._call
        return refusal(self._dialect.deny, self._desk.fault(call.gateway.name, call.request_id, error))

    def _refuse(self, refused: Refusal) -> Reply:
        call = self._call
        return refusal(self._dialect.deny, self._desk.refuse(call.gateway.name, call.request_id, refused))
