"""Starts and stops HTTP servers inside a loop that already runs. Signals are the caller's business."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn

from authz.transport.asgi import App
from authz.transport.connection import HttpConnection
from authz.transport.exchange import Answering
from authz.transport.listen import Address, CannotListen, bind, parse_listen, refuse_new
from authz.transport.protocol import BoundedProtocol, ServerConfig
from authz.transport.tls import ServerTls

STOP_WITHIN = 1.0  # seconds for what is under way; stopping as a whole stays below two

ACCEPT_WITHIN = (
    0.1  # seconds for connections that the kernel took: its queue, and a round trip of the network
)

# Gateways keep connections and close them by their own rule. Were ours the shorter one, a request
# could meet a connection that we are just closing.
_KEEP_ALIVE = 3700


class _Server(uvicorn.Server):
    """uvicorn without its hands on the process's signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpServer:
    """What answers requests, on one address."""

    def __init__(
        self,
        server: _Server,
        config: ServerConfig,
        task: asyncio.Task[None],
        address: Address,
        bound: socket.socket,
    ) -> None:
        self.address = address
        self._bound = bound
        self._config = config
        self._server = server
        self._task = task

    def drain(self) -> None:
        """Have the gateways leave their connections, each with its next answer. Still answers."""
        self._config.draining = True

    async def stop(self) -> None:
        """Take no more connections, let what is under way finish, then close."""
        self.drain()
        if not self._task.done():
            refuse_new(self._bound)
            await asyncio.sleep(ACCEPT_WITHIN)
        self._server.should_exit = True
        await self._task


async def start_http(
    app: App | Answering, listen: str, *, shared: bool = False, tls: ServerTls | None = None
) -> HttpServer:
    """Serve what answers requests. Raises AddressInUse, CannotListen or ValueError (not an address)."""
    address = parse_listen(listen)
    bound = bind(address, shared=shared)
    if not address.path:
        address = Address(address.host, bound.getsockname()[1])
    config = ServerConfig(
        app,  # type: ignore[arg-type]  # handed on as it is to the protocol that knows what to do with it
        interface="asgi3",
        http=HttpConnection if isinstance(app, Answering) else BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        ssl_context_factory=(lambda config, usual: tls.http) if tls is not None else None,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=STOP_WITHIN,  # type: ignore[arg-type]  # annotated as int, passed to asyncio as it is
    )
    server = _Server(config)
    task = asyncio.get_running_loop().create_task(server.serve(sockets=[bound]), name=f"http {address}")
    while not server.started:
        if task.done():
            bound.close()
            task.result()
            raise CannotListen(f"The HTTP server on {address} stopped at once.")
        await asyncio.sleep(0)
    return HttpServer(server, config, task, address, bound)
