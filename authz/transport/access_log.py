"""Envoy's access log over gRPC: `envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs`.

https://www.envoyproxy.io/docs/envoy/latest/api-v3/service/accesslog/v3/als.proto

The end of a stream frees what its reservation holds for as long as it runs.
Only a proven gateway is listened to (invariant 10).
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import structlog
from envoy.data.accesslog.v3 import accesslog_pb2
from envoy.service.accesslog.v3 import als_pb2

from authz.request import Gateway, GatewayKind
from authz.transport.address import grpc_peer
from authz.transport.ext_authz import token_of
from authz.transport.gateways import GatewayRegistry
from authz.transport.service import Service

SERVICE = "envoy.service.accesslog.v3.AccessLogService"
METADATA = "envoy.filters.http.ext_authz"
RESERVATION = "x-authz-reservation"

_DOWNSTREAM_END = 6  # AccessLogType; older Envoys leave it at 0
_ENDS = frozenset({0, _DOWNSTREAM_END})

log = structlog.get_logger("authz.transport")


class AccessLog:
    """Takes the streams of access log entries. They last as long as the gateway: `drain` ends them."""

    def __init__(self, service: Service, gateways: GatewayRegistry) -> None:
        """`gateways` may be replaced when the configuration changes."""
        self.gateways = gateways
        self._service = service
        self._streams: set[asyncio.Task[Any]] = set()
        self._draining = False

    def handler(self) -> grpc.GenericRpcHandler:
        """For grpc.aio."""
        stream: grpc.RpcMethodHandler[Any, Any] = grpc.stream_unary_rpc_method_handler(
            self._stream,
            request_deserializer=als_pb2.StreamAccessLogsMessage.FromString,
            response_serializer=als_pb2.StreamAccessLogsResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(SERVICE, {"StreamAccessLogs": stream})

    def drain(self) -> None:
        """End every stream, so that gateways move on to another replica."""
        self._draining = True
        for task in self._streams:
            task.cancel()

    async def _stream(
        self, messages: AsyncIterator[als_pb2.StreamAccessLogsMessage], context: Any
    ) -> als_pb2.StreamAccessLogsResponse:
        token = token_of(context.invocation_metadata())
        gateway = self.gateways.identify(GatewayKind.ENVOY, token, grpc_peer(context.peer()))
        if gateway is None or not gateway.proven:
            await context.abort(
                grpc.StatusCode.PERMISSION_DENIED, "The gateway did not prove itself with its token."
            )
        assert gateway is not None
        task = asyncio.current_task()
        assert task is not None
        self._streams.add(task)
        try:
            async for message in messages:
                # The first message also carries a description of the node, tens of kilobytes of it: ignored.
                for entry in message.http_logs.log_entry:
                    await self.take(entry, gateway)
        except asyncio.CancelledError:
            if not self._draining:
                raise
        finally:
            self._streams.discard(task)
        return als_pb2.StreamAccessLogsResponse()

    async def take(self, entry: accesslog_pb2.HTTPAccessLogEntry, gateway: Gateway) -> None:
        """Free the reservation of a request that ended. One bad entry never ends the stream."""
        common = entry.common_properties
        if common.intermediate_log_entry or common.access_log_type not in _ENDS:
            return
        reservation = reservation_of(entry)
        if reservation is None:
            return
        aborted = common.response_flags.downstream_connection_termination
        try:
            await self._service.release(reservation, gateway, "aborted" if aborted else "ended")
        except Exception as error:
            log.error("release failed", gateway=gateway.name, reservation=reservation, exc_info=error)


def reservation_of(entry: accesslog_pb2.HTTPAccessLogEntry) -> str | None:
    """Its reservation: from what we told Envoy, else from the header that we set and Envoy logs.

    A request header alone proves nothing where our own metadata says otherwise.
    """
    told = entry.common_properties.metadata.filter_metadata
    if METADATA in told:
        fields = told[METADATA].fields
        return fields["reservation"].string_value or None if "reservation" in fields else None
    headers = entry.request.request_headers
    return headers[RESERVATION] or None if RESERVATION in headers else None
