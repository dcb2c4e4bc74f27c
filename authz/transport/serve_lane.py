"""Serves gRPC on our own lane: what gateways ask on every request, and their unary health checks."""

import asyncio
import socket

from authz.transport import access_log, ext_authz, ratelimit
from authz.transport.access_log import AccessLog
from authz.transport.address import socket_peer
from authz.transport.cut_off import CutOff
from authz.transport.grpc_services import HEALTH, GrpcHealth, GrpcServices
from authz.transport.lane import ClientStream, Lane, Limits, Routes, Unary
from authz.transport.listen import BACKLOG, Address, bind, parse_listen, refuse_new
from authz.transport.proof import of_caller
from authz.transport.serve import ACCEPT_WITHIN, STOP_WITHIN
from authz.transport.tls import ServerTls

_METADATA = 64 * 1024  # bytes
_LINGER = 0.25  # seconds for a gateway to hear that we leave, and again to close a connection without calls
_HANDSHAKE = 10.0  # seconds for a client's part of TLS
_HELD = 256 * 1024 * 1024  # bytes of messages that have begun, or four of the largest
_GOODBYE = 10.0  # seconds for the end of TLS


class LaneServer:
    """Check, the access log, rate limits and Health/Check on one address."""

    def __init__(
        self,
        lane: Lane,
        server: asyncio.Server,
        bound: socket.socket,
        log: AccessLog,
        health: GrpcHealth,
        address: Address,
    ) -> None:
        self.address = address
        self._lane = lane
        self._server = server
        self._bound = bound
        self._log = log
        self._health = health

    async def drain(self) -> None:
        """Tell the gateways to go elsewhere (NOT_SERVING). Still answers."""
        self._health.draining = True

    async def stop(self) -> None:
        """Take no more connections, have gateways leave those that are open, finish, then close."""
        await self.drain()
        refuse_new(self._bound)
        self._lane.drain()  # before streams end, so that they begin again elsewhere
        self._log.drain()
        await asyncio.sleep(ACCEPT_WITHIN)
        self._server.close()
        await self._lane.stop(STOP_WITHIN - ACCEPT_WITHIN)


async def start_lane(
    services: GrpcServices,
    listen: str,
    *,
    shared: bool = False,
    tls: ServerTls | None = None,
    cut_off: CutOff | None = None,
) -> LaneServer:
    """Serve Envoy's gRPC services. Raises AddressInUse, CannotListen or ValueError (not an address).

    `cut_off` is told of connections that the lane ended for what their peers did.
    """
    address = parse_listen(listen)
    bound = bind(address, shared=shared)
    health = GrpcHealth(services.names)
    told = cut_off or CutOff()
    lane = Lane(
        _routes(services, health),
        limits=Limits(
            message_bytes=services.largest,
            held_bytes=max(_HELD, 4 * services.largest),
            header_bytes=_METADATA,
            linger_seconds=_LINGER,
        ),
        recognize=of_caller,
        report=told.failed,
        ended=lambda peer, error, why: told.ended(socket_peer(peer), error, why),
    )
    loop = asyncio.get_running_loop()
    serve = loop.create_unix_server if address.path else loop.create_server
    server = await serve(
        lane.connection,
        sock=bound,
        backlog=BACKLOG,
        ssl=tls.grpc if tls is not None else None,
        ssl_handshake_timeout=_HANDSHAKE if tls is not None else None,
        ssl_shutdown_timeout=_GOODBYE if tls is not None else None,
    )
    if not address.path:
        address = Address(address.host, bound.getsockname()[1])
    return LaneServer(lane, server, bound, services.log, health, address)


def _routes(services: GrpcServices, health: GrpcHealth) -> Routes:
    """By path. Callers come as their `Proof`."""
    check, log, limits = services.check, services.log, services.limits
    routes: dict[str, Unary | ClientStream] = {
        f"/{ext_authz.SERVICE}/Check": Unary(lambda message, proof: check.answer(message, *proof)),
        f"/{access_log.SERVICE}/StreamAccessLogs": ClientStream(
            lambda messages, proof: log.stream(messages, *proof)
        ),
        f"/{HEALTH}/Check": Unary(lambda message, proof: health.check(message)),
    }
    if limits is not None:
        routes[f"/{ratelimit.SERVICE}/ShouldRateLimit"] = Unary(
            lambda message, proof: limits.answer(message, *proof)
        )
    return routes
