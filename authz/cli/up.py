"""`authz up`."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from cyclopts import App, Parameter

from authz.cli import output
from authz.cli.errors import CommandError, UsageError
from authz.gateway.first_config import NotOurs
from authz.gateway.managed import NoEnvoy
from authz.gateway.preflight import CannotStart, NoUpstream, alone_in
from authz.gateway.settings import UnusableSettings
from authz.gateway.up import Asked, Up

app = App(name="up")


@app.default
def up(
    *,
    upstream: str | None = None,
    demo: bool = False,
    port: int | None = None,
    directory: Annotated[Path, Parameter(name="--dir")] = Path("run"),
) -> int:
    """Start the service and an Envoy in front of a model server, and stay up.

    When both answer, four lines are printed: gateway, admin, key, config. Ctrl-C stops everything.

    Parameters
    ----------
    upstream
        The model server, such as http://127.0.0.1:8000. Left out: that of the run before.
    demo
        Start a model server that needs no model, to try things with.
    port
        Where the gateway listens: 8080 unless given, or that of the run before.
    directory
        Where config, store and logs are kept: ./run unless given.
    """
    if upstream is not None and demo:
        raise UsageError("give only one of --upstream and --demo.")
    if port is not None and not 0 < port < 65536:
        raise UsageError(f"{port} is not a port.", hint="A port is a number from 1 to 65535.")
    asked = Asked(
        directory=directory, upstream=None if upstream is None else _origin(upstream), demo=demo, port=port
    )
    return asyncio.run(_run(asked))


async def _run(asked: Asked) -> int:
    whole = Up(asked, output.note)
    told = _told_to_stop(whole)
    try:
        with alone_in(asked.directory):
            starting = asyncio.create_task(whole.start())
            try:
                either: set[asyncio.Future[Any]] = {starting, told}
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                if starting.done():
                    running = starting.result()
                    print(f"gateway: {running.gateway}")
                    print(f"admin: {running.admin}")
                    print(f"key: {running.key}")
                    print(f"config: {running.config}", flush=True)
                    if sys.stderr.isatty():
                        output.note("Ctrl-C stops everything.")
                    await told
            finally:
                starting.cancel()
                await whole.stop()
    except NoUpstream as error:
        raise UsageError(str(error), hint=error.hint) from None
    except CannotStart as error:
        raise CommandError(str(error), hint=error.hint) from None
    except (NoEnvoy, NotOurs, UnusableSettings) as error:
        raise CommandError(str(error)) from None
    except OSError as error:
        raise CommandError(f"{error.filename or asked.directory}: {error.strerror}.") from None
    return 0


def _told_to_stop(whole: Up) -> "asyncio.Future[None]":
    """Resolves at the first signal. The second one ends everything at once."""
    loop = asyncio.get_running_loop()
    told: asyncio.Future[None] = loop.create_future()

    def tell(number: int) -> None:
        if told.done():
            whole.kill()
            os._exit(128 + number)
        told.set_result(None)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, tell, number)
    return told


def _origin(url: str) -> str:
    """Scheme, host and port of a model server; the `/v1` that clients write behind it is dropped."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    try:
        sound = (
            parts.scheme in {"http", "https"} and parts.hostname and (parts.port is None or parts.port > 0)
        )
    except ValueError:
        sound = False
    if not sound or parts.username or parts.query or parts.path.rstrip("/") not in {"", "/v1"}:
        raise UsageError(
            "--upstream is the scheme, host and port of a model server.", hint="Write http://127.0.0.1:8000."
        )
    return f"{parts.scheme}://{parts.netloc}"
