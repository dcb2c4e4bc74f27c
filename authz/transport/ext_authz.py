"""Envoy's ext_authz over gRPC: `envoy.service.auth.v3.Authorization/Check`.

https://www.envoyproxy.io/docs/envoy/latest/api-v3/service/auth/v3/external_auth.proto
"""

from authz.decision import Allow
from authz.reason import Reason
from authz.refusal import Refusal
from authz.request import MAX_BODY, GatewayKind
from authz.transport.check.reading import read_check
from authz.transport.check.writing import allowed, denied
from authz.transport.gateways import UNIDENTIFIED, GatewayRegistry
from authz.transport.peer_certificate import PeerCertificate
from authz.transport.request_id import RequestIds
from authz.transport.service import Desk

SERVICE = "envoy.service.auth.v3.Authorization"


class ExtAuthz:
    """Answers Check. Suspends only where the decision does."""

    def __init__(self, desk: Desk, gateways: GatewayRegistry, *, max_body: int = MAX_BODY) -> None:
        """`max_body` is in bytes. `gateways` may be replaced when the configuration changes."""
        self.gateways = gateways
        self._desk = desk
        self.max_body = max_body
        self._new_id = RequestIds()

    async def answer(
        self, message: bytes, token: str | None, peer: str, certificate: PeerCertificate | None = None
    ) -> bytes:
        """A serialized CheckRequest in, a serialized CheckResponse out."""
        request_id = self._new_id()
        gateway = self.gateways.identify(GatewayKind.ENVOY, token, peer, certificate)
        if gateway is None:
            return denied(self._desk.refuse(UNIDENTIFIED, request_id, Refusal(Reason.GATEWAY_UNPROVEN)))
        try:
            read = read_check(message, gateway, request_id, self.max_body)
            if isinstance(read, Refusal):
                return denied(self._desk.refuse(gateway.name, request_id, read))
            decision = await self._desk.decide(read.request)
            return allowed(read, decision) if isinstance(decision, Allow) else denied(decision)
        except Exception as error:
            return denied(self._desk.fault(gateway.name, request_id, error))
