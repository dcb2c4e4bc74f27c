"""Envoy's access log over gRPC: `envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs`.

https://www.envoyproxy.io/docs/envoy/latest/api-v3/service/accesslog/v3/als.proto

An entry at the end of a response settles its reservation, one while it runs (Envoy's
`access_log_flush_interval`) extends it. Only a proven gateway is listened to (invariant 10).
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import structlog
from envoy.service.accesslog.v3 import als_pb2
from google.protobuf.message import DecodeError

from authz.request import Gateway, GatewayKind
from authz.transport.access_log_entry import End, Running, read_entry
from authz.transport.gateways import GatewayRegistry
from authz.transport.lane import Refused
from authz.transport.lane.status import PERMISSION_DENIED
from authz.transport.peer_certificate import PeerCertificate
from authz.transport.service import Service
from authz.transport.usage import Reject

SERVICE = "envoy.service.accesslog.v3.AccessLogService"
_ANSWER: bytes = als_pb2.StreamAccessLogsResponse().SerializeToString()

log = structlog.get_logger("authz.transport")


def _ignored(gateway: str, reason: str) -> None:
    """Nobody counts."""


class AccessLog:
    """Takes the streams of access log entries. They last as long as the gateway: `drain` ends them."""

    def __init__(self, service: Service, gateways: GatewayRegistry, *, reject: Reject = _ignored) -> None:
        """`gateways` may be replaced when the configuration changes."""
        self.gateways = gateways
        self._service = service
        self._reject = reject
        self._streams: set[asyncio.Task[Any]] = set()
        self._draining = False

    def drain(self) -> None:
        """End every stream, so that gateways move on to another replica."""
        self._draining = True
        for task in self._streams:
            task.cancel()

    async def stream(
        self,
        messages: AsyncIterator[bytes],
        token: str | None,
        peer: str,
        certificate: PeerCertificate | None = None,
    ) -> bytes:
        """Messages in, a serialized StreamAccessLogsResponse out. Runs in a task. Raises Refused."""
        self._proven(token, peer, certificate)
        task = asyncio.current_task()
        assert task is not None
        self._streams.add(task)
        try:
            async for message in messages:
                # A stream outlives reloads and certificates: what opened it may be worth nothing now.
                await self.take(message, self._proven(token, peer, certificate))
        except asyncio.CancelledError:
            if not self._draining:
                raise
        finally:
            self._streams.discard(task)
        return _ANSWER

    def _proven(self, token: str | None, peer: str, certificate: PeerCertificate | None) -> Gateway:
        """The gateway that this proves as of now. Raises Refused."""
        gateway = self.gateways.identify(GatewayKind.ENVOY, token, peer, certificate)
        if gateway is None or not gateway.proven:
            raise Refused(
                PERMISSION_DENIED, "The gateway did not prove itself by its token or its certificate."
            )
        return gateway

    async def take(self, message: bytes, gateway: Gateway) -> None:
        """Settle and extend by one message of a stream. One bad entry never ends it.

        The first message also carries a description of the node, tens of kilobytes of it: ignored.
        """
        try:
            entries = als_pb2.StreamAccessLogsMessage.FromString(message).http_logs.log_entry
        except DecodeError:
            self._reject(gateway.name, "malformed")
            return
        for entry in entries:
            try:
                await self._apply(read_entry(entry), gateway)
            except Exception as error:
                # What it held then expires: charged as held.
                log.error("access log entry failed", gateway=gateway.name, exc_info=error)

    async def _apply(self, told: End | Running | None, gateway: Gateway) -> None:
        if told is None:
            return
        if isinstance(told, Running):
            await self._service.extend(told.reservation, gateway)
            return
        if told.fault is not None:
            self._reject(gateway.name, told.fault.value)
        if told.report.reservation:
            await self._service.settle(told.report, gateway)
        elif told.request_id:
            await self._service.settle_by_request_id(gateway, told.request_id, told.report)
