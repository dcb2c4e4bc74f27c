"""A process that serves, and one that sees to several of them."""

import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import structlog

from authz.app import App, load_config
from authz.asked import Asked
from authz.telemetry.logging import configure_logging
from authz.workers.place import Worker
from authz.workers.supervisor import Supervisor


async def serve(path: Path, worker: Worker | None = None, asked: Asked | None = None) -> None:
    """Run until SIGTERM or SIGINT. Raises ConfigErrors, StoreUnavailable, CannotListen."""
    app = App(path, load_config(path), worker, asked)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stopping.set)
    try:
        await app.start()
        await stopping.wait()
    finally:
        await app.stop()


def run(path: Path, worker: Worker | None = None, asked: Asked | None = None) -> None:
    """`serve` on the fastest loop there is. Logs are for a person on a terminal, else JSON."""
    _log()
    if worker is not None:
        structlog.contextvars.bind_contextvars(worker=worker.number)
    if sys.platform == "win32":
        asyncio.run(serve(path, worker, asked))
        return
    import uvloop

    uvloop.run(serve(path, worker, asked))


def supervise(command: Sequence[str], workers: int) -> None:
    """Keep so many processes of a command running until SIGTERM or SIGINT."""
    _log()
    asyncio.run(Supervisor(command, workers).run())


def _log() -> None:
    configure_logging(format="console" if sys.stderr.isatty() else "json")
