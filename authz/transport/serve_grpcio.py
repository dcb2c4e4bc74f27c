"""Serves gRPC by grpcio: all of it where the operator wants that, or only what tools for people ask.

Importing grpcio takes a third of a second and tens of megabytes: only who serves by it imports this.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import grpc
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from authz.transport import access_log, ext_authz, ratelimit
from authz.transport.access_log import AccessLog
from authz.transport.address import grpc_peer
from authz.transport.grpc_services import GrpcServices
from authz.transport.lane import Refused
from authz.transport.listen import Address, CannotListen, bind, parse_listen
from authz.transport.peer_certificate import of_grpc
from authz.transport.proof import Proof, token_of
from authz.transport.serve import STOP_WITHIN
from authz.transport.tls import ServerTls

_MOST_CALLS = 10_000
_METADATA = 64 * 1024  # bytes

_STATUSES: dict[int, grpc.StatusCode] = {status.value[0]: status for status in grpc.StatusCode}


class GrpcioServer:
    """Health and reflection, and what else was added, on one address."""

    def __init__(
        self,
        server: aio.Server,
        checks: health.aio.HealthServicer,
        address: Address,
        log: AccessLog | None = None,
    ) -> None:
        self.address = address
        self._server = server
        self._log = log
        self._health = checks

    async def drain(self) -> None:
        """Tell the gateways to go elsewhere (NOT_SERVING). Still answers."""
        await self._health.enter_graceful_shutdown()

    async def stop(self) -> None:
        """Accept nothing more, let calls of gateways that are under way finish, then close."""
        await self.drain()
        if self._log is not None:
            self._log.drain()
        await self._server.stop(STOP_WITHIN if self._log is not None else None)


async def start_grpcio(
    services: GrpcServices, listen: str, *, shared: bool = False, tls: ServerTls | None = None
) -> GrpcioServer:
    """All of Envoy's gRPC services. Raises AddressInUse, CannotListen or ValueError (not an address)."""
    check, stream = _unary(services.check.answer), _stream(services.log.stream)
    handlers = [
        _handler(ext_authz.SERVICE, "Check", grpc.unary_unary_rpc_method_handler(check)),
        _handler(access_log.SERVICE, "StreamAccessLogs", grpc.stream_unary_rpc_method_handler(stream)),
    ]
    if services.limits is not None:
        limit = _unary(services.limits.answer)
        handlers.append(
            _handler(ratelimit.SERVICE, "ShouldRateLimit", grpc.unary_unary_rpc_method_handler(limit))
        )
    return await _start(
        services.names, listen, handlers, shared=shared, tls=tls, largest=services.largest, log=services.log
    )


async def start_other(
    names: Sequence[str], listen: str, *, shared: bool = False, tls: ServerTls | None = None
) -> GrpcioServer:
    """Serve health and reflection of services that are served elsewhere. Raises as `start_grpcio` does."""
    return await _start(names, listen, (), shared=shared, tls=tls, largest=_METADATA)


async def _start(
    names: Sequence[str],
    listen: str,
    handlers: Sequence[grpc.GenericRpcHandler],
    *,
    shared: bool,
    tls: ServerTls | None,
    largest: int,
    log: AccessLog | None = None,
) -> GrpcioServer:
    address = parse_listen(listen)
    bind(address, shared=shared).close()  # grpcio hides why it cannot bind; this tells
    server = aio.server(
        options=(
            ("grpc.so_reuseport", int(shared)),  # else a second authz would share the port unnoticed
            ("grpc.max_receive_message_length", largest),
            ("grpc.max_metadata_size", _METADATA),
        ),
        maximum_concurrent_rpcs=_MOST_CALLS,
    )
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    server.add_generic_rpc_handlers(tuple(handlers))
    reflection.enable_server_reflection((*names, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    try:
        if tls is None:
            port = server.add_insecure_port(str(address))
        else:
            port = server.add_secure_port(str(address), _credentials(tls))
    except RuntimeError as error:
        raise CannotListen(f"Cannot listen on {address}: {error}") from error
    await server.start()
    for name in ("", *names):
        await checks.set(name, health_pb2.HealthCheckResponse.SERVING)
    return GrpcioServer(server, checks, address if address.path else Address(address.host, port), log)


def _handler(service: str, method: str, handler: "grpc.RpcMethodHandler[Any, Any]") -> grpc.GenericRpcHandler:
    """Messages stay bytes on both sides, so that a malformed one is ours to refuse."""
    return grpc.method_handlers_generic_handler(service, {method: handler})


def _unary(answer: Callable[..., Awaitable[bytes]]) -> Callable[[bytes, Any], Awaitable[bytes]]:
    async def call(message: bytes, context: Any) -> bytes:
        try:
            return await answer(message, *_proof(context))
        except Refused as refused:
            await context.abort(_STATUSES[refused.status], refused.text)
            raise

    return call


def _stream(
    take: Callable[..., Awaitable[bytes]],
) -> Callable[[AsyncIterator[bytes], Any], Awaitable[bytes]]:
    async def call(messages: AsyncIterator[bytes], context: Any) -> bytes:
        try:
            return await take(messages, *_proof(context))
        except Refused as refused:
            await context.abort(_STATUSES[refused.status], refused.text)
            raise

    return call


def _proof(context: Any) -> Proof:
    """A certificate counts only where no token is shown."""
    token = token_of(context.invocation_metadata() or ())
    certificate = of_grpc(context.auth_context()) if token is None else None
    return Proof(token, grpc_peer(context.peer()), certificate)


def _credentials(tls: ServerTls) -> grpc.ServerCredentials:
    """grpcio asks for the certificate with each handshake."""

    def configuration() -> grpc.ServerCertificateConfiguration:
        key, chain, authority = tls.shown
        return grpc.ssl_server_certificate_configuration([(key, chain)], authority)

    demanded = tls.files.client_ca is not None
    return grpc.dynamic_ssl_server_credentials(configuration(), configuration, demanded)
