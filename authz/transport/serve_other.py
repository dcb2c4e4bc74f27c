"""Reflection and health for people's tools (`grpcurl`, `grpc_health_probe`), beside what gateways ask.

It is served by grpcio, whose import would hold up the start: it begins once all else runs. Nobody's decision
depends on it, so where it cannot be served the log says so and that is all.
"""

import asyncio
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

import structlog

from authz.transport.listen import CannotListen
from authz.transport.tls import ServerTls

if TYPE_CHECKING:
    from authz.transport.serve_grpcio import GrpcioServer

_SERVER = "authz.transport.serve_grpcio"

log = structlog.get_logger("authz.transport")


class OtherServer:
    """`decisions.grpc_other`."""

    def __init__(
        self, names: Sequence[str], listen: str, *, shared: bool = False, tls: ServerTls | None = None
    ) -> None:
        """`names` are those of the services that are told of."""
        self._names = names
        self._listen = listen
        self._shared = shared
        self._tls = tls
        self._server: GrpcioServer | None = None
        self._beginning: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, some time soon."""
        self._beginning = asyncio.get_running_loop().create_task(self._begin(), name="grpc_other")

    async def drain(self) -> None:
        """Tell whoever watches (NOT_SERVING)."""
        if self._server is not None:
            await self._server.drain()

    async def stop(self) -> None:
        """Close. Whoever is under way is cut off: they ask again."""
        if self._beginning is not None:
            self._beginning.cancel()
            await asyncio.wait({self._beginning})
        if self._server is not None:
            await self._server.stop()

    async def _begin(self) -> None:
        grpcio = await asyncio.to_thread(import_module, _SERVER)
        try:
            self._server = await grpcio.start_other(
                self._names, self._listen, shared=self._shared, tls=self._tls
            )
        except (CannotListen, ValueError) as error:
            log.warning("reflection is not served", problem=str(error))
