"""Envoy's ext_authz over gRPC: `envoy.service.auth.v3.Authorization/Check`.

https://www.envoyproxy.io/docs/envoy/latest/api-v3/service/auth/v3/external_auth.proto
"""

from collections.abc import Sequence
from typing import Any

import grpc

from authz.decision import Allow
from authz.reason import Reason
from authz.refusal import Refusal
from authz.request import MAX_BODY, GatewayKind
from authz.transport.address import grpc_peer
from authz.transport.check.reading import read_check
from authz.transport.check.writing import allowed, denied
from authz.transport.gateways import UNIDENTIFIED, GatewayRegistry
from authz.transport.headers import GATEWAY_TOKEN
from authz.transport.peer_certificate import PeerCertificate, of_grpc
from authz.transport.request_id import RequestIds
from authz.transport.service import Desk

SERVICE = "envoy.service.auth.v3.Authorization"


class ExtAuthz:
    """Answers Check. Makes no task: grpcio already runs each call in one."""

    def __init__(self, desk: Desk, gateways: GatewayRegistry, *, max_body: int = MAX_BODY) -> None:
        """`max_body` is in bytes. `gateways` may be replaced when the configuration changes."""
        self.gateways = gateways
        self._desk = desk
        self.max_body = max_body
        self._new_id = RequestIds()

    def handler(self) -> grpc.GenericRpcHandler:
        """For grpc.aio: messages stay bytes on both sides, so a malformed one is ours to refuse."""
        check: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(self._check)
        return grpc.method_handlers_generic_handler(SERVICE, {"Check": check})

    async def _check(self, message: bytes, context: Any) -> bytes:
        token, certificate = proof_of(context)
        return await self.answer(message, token, grpc_peer(context.peer()), certificate)

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


def proof_of(context: Any) -> tuple[str | None, PeerCertificate | None]:
    """The gateway's token out of a gRPC call, or where it shows none the certificate of its connection."""
    token = token_of(context.invocation_metadata())
    return token, of_grpc(context.auth_context()) if token is None else None


def token_of(metadata: Sequence[tuple[str, str | bytes]] | None) -> str | None:
    """The gateway's token out of a call's metadata; an unusable one for a token sent twice."""
    found: str | None = None
    for name, value in metadata or ():
        if name == GATEWAY_TOKEN:
            if found is not None:
                return ""
            found = value if isinstance(value, str) else value.decode("latin-1")
    return found
