"""`authz up`: the service and an Envoy in front of one model server, as children of this process."""

import asyncio
import os
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from authz.config import Loaded, load
from authz.config.network import Address
from authz.gateway import demo_key
from authz.gateway.child import Command, start
from authz.gateway.first_config import BACKEND, GATEWAY, Wanted, keep
from authz.gateway.managed import admin_socket, envoy_command, reaches_the_service, write_envoy_config
from authz.gateway.ports import free_port, is_free, listens
from authz.gateway.preflight import (
    CannotStart,
    NoUpstream,
    addresses_of,
    check_ports,
    listen_address,
    reached,
)
from authz.gateway.probe import NoAnswer, Served, get, served_models
from authz.gateway.supervise import Say, Supervisor, stop_all
from authz.store.open import open_view

STOP_GRACE = 1.2
"""Seconds that all children together get to end by themselves; two in all is what we promise."""

DEMO_MODELS = ("demo",)
DEMO = Served(DEMO_MODELS, (), {"demo": 8192})  # as the demo model server would tell
START_DEADLINE = 30.0
_UPSTREAM_EVERY = 2.0
_LARGEST_LOG = 16 << 20
_SERVICE_PORTS = {
    "decisions.http": 9000,
    "decisions.grpc": 9001,
    "decisions.grpc_other": 9003,
    "admin.listen": 9002,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The command line."""

    directory: Path
    upstream: str | None = None  # scheme, host and port of a model server
    demo: bool = False  # run a model server of our own
    port: int | None = None  # of the gateway


@dataclass(frozen=True, slots=True)
class Running:
    """What answers now."""

    gateway: str
    admin: str
    key: str
    config: Path


class Up:
    """One `authz up`. `say` reaches the person who started it."""

    def __init__(self, asked: Asked, say: Say) -> None:
        self._asked = asked
        self._say = say
        self._logs = asked.directory / "log"
        self._config = (asked.directory / "authz.yaml").absolute()
        self._children: list[Supervisor] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._cleanup = ExitStack()
        self._started = False

    async def start(self) -> Running:
        """Start everything and wait until it answers. Raises CannotStart, ConfigErrors, StoreUnavailable."""
        asked = self._asked
        asked.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        before = load(self._config, secrets_required=False) if self._config.exists() else None
        upstream = self._demo(before) if asked.demo else _upstream(asked, before)
        served = DEMO if asked.demo else await self._served(upstream)
        listen = listen_address(asked.port, before)
        loaded = self._write_config(_wanted(served, listen=listen, upstream=upstream))
        addresses = addresses_of(loaded)
        check_ports(addresses, self._config)
        key = self._renew_key(loaded)
        envoy_yaml = asked.directory / "envoy.yaml"
        envoy_admin = admin_socket(asked.directory, self._cleanup)
        write_envoy_config(loaded.config, GATEWAY, envoy_yaml, envoy_admin)
        gateway = reached(addresses[f"gateways.{GATEWAY}.listen.http"])
        service = reached(addresses["decisions.http"])
        serve = self._command("serve", "authz.cli", "serve", "--config", str(self._config))
        self._supervise(serve, service.port)
        self._supervise(envoy_command(envoy_yaml, self._log("envoy")), gateway.port)
        await self._ready(gateway, service, envoy_admin, key)
        while asked.demo and not await _accepts(upstream):
            self._check_deaths()
            await asyncio.sleep(0.03)
        self._started = True
        self._tasks.append(asyncio.create_task(self._watch_upstream(upstream, up=served is not None)))
        return Running(f"http://{gateway}", f"http://{reached(addresses['admin.listen'])}", key, self._config)

    async def stop(self) -> None:
        """Stop every child within `STOP_GRACE`, Envoy first: its last reports still find the service."""
        await stop_all(self._children[::-1], STOP_GRACE)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._cleanup.close()

    def kill(self) -> None:
        """End every child at once."""
        for child in self._children:
            child.kill()

    # -- the parts ---------------------------------------------------------------------------------

    def _demo(self, before: Loaded | None) -> str:
        """Start a model server of our own, on the port of the run before if that is free."""
        configured = before.config.backends.get(BACKEND) if before is not None else None
        port = free_port(prefer=urlsplit(configured.url).port if configured is not None else None)
        models = [argument for name in DEMO_MODELS for argument in ("--model", name)]
        self._supervise(self._command("model", "authz.demo.model_server", "--port", str(port), *models), port)
        return f"http://127.0.0.1:{port}"

    async def _served(self, upstream: str) -> Served | None:
        """The upstream's models; None, said aloud, where it does not tell."""
        try:
            served = await served_models(upstream)
        except NoAnswer as error:
            self._say(
                f"warning: the model server at {upstream} is not usable yet: {error}.\n"
                "  Everything else starts; its models are taken over as soon as it answers."
            )
            return None
        for name in served.unusable:
            self._say(
                f"warning: the model {name!r} is left out: no config can hold its name; rename it there."
            )
        return served

    def _write_config(self, wanted: Wanted) -> Loaded:
        ports = dict(_SERVICE_PORTS)
        if not self._config.exists():
            taken = [str(port) for port in ports.values() if not is_free("127.0.0.1", port)]
            if taken:
                ports = {place: free_port() for place in ports}
                places = ", ".join(f"{place} {port}" for place, port in ports.items())
                self._say(f"note: port {', '.join(taken)} is taken here, so {self._config} uses {places}.")
        return load(keep(self._asked.directory, wanted, ports))

    def _renew_key(self, loaded: Loaded) -> str:
        if loaded.store.scheme == "memory":
            raise CannotStart(
                f"the store in {self._config} is memory://, in which `authz up` cannot put its key.",
                "Set `store: sqlite:authz.db` there.",
            )
        view = open_view(loaded.store.url)
        try:
            return demo_key.renew(view.registry, time.time_ns() // 1_000_000)
        finally:
            with suppress(StopIteration):  # an embedded store never suspends: one step closes it
                view.close().send(None)

    def _command(self, name: str, module: str, *arguments: str) -> Command:
        # -P: what lies in the directory it was started in, a `jwt.py` for one, is no module of ours.
        python = (sys.executable, "-P", "-m", module, *arguments)
        return Command(name=name, arguments=python, log=self._log(name), environment=os.environ)

    def _log(self, name: str) -> Path:
        log = self._logs / f"{name}.log"
        with suppress(FileNotFoundError):
            if log.stat().st_size > _LARGEST_LOG:
                log.replace(log.with_suffix(".log.1"))
        return log

    def _supervise(self, command: Command, port: int) -> None:
        supervisor = Supervisor(
            command,
            start=start,
            say=self._report,
            clock=time.monotonic,
            listens=lambda pid: listens(pid, port),
        )
        self._children.append(supervisor)
        self._tasks.append(asyncio.create_task(supervisor.run()))

    def _report(self, text: str) -> None:
        if self._started:  # before, a death ends it all, and that is said once
            self._say(text)

    def _check_deaths(self) -> None:
        for child in self._children:
            if child.first_death.done():
                raise CannotStart(
                    f"{child.command.name} {child.first_death.result()}", f"Its log is {child.command.log}."
                )

    async def _ready(self, gateway: Address, service: Address, envoy: Path, key: str) -> None:
        """Wait until a request with the key comes through, and Envoy asks the service about others."""
        deadline = time.monotonic() + START_DEADLINE
        while True:
            answer = await get(gateway.host, gateway.port, "/v1/models", key=key)
            if answer.status == 200 and await reaches_the_service(envoy):
                return
            self._check_deaths()
            if time.monotonic() >= deadline:
                ready = await get(service.host, service.port, "/readyz")
                raise CannotStart(
                    f"after {START_DEADLINE:g} s the gateway answers {answer.status or 'nothing'} "
                    f"and the service {ready.status or 'nothing'}.",
                    f"The logs are in {self._logs}.",
                )
            await asyncio.sleep(0.03)

    async def _watch_upstream(self, upstream: str, *, up: bool) -> None:
        """Say when the model server goes and comes; take its models over when it comes."""
        while True:
            await asyncio.sleep(_UPSTREAM_EVERY)
            if await _accepts(upstream) == up:
                continue
            if up:
                up = False
                self._say(f"the model server at {upstream} does not accept connections any more")
                continue
            with suppress(NoAnswer):
                served = await served_models(upstream)
                keep(self._asked.directory, _wanted(served), {})
                names = ", ".join(served.models) or "none"
                self._say(f"the model server at {upstream} answers now; its models: {names}")
                up = True


def _wanted(served: Served | None, *, listen: str | None = None, upstream: str | None = None) -> Wanted:
    if served is None:
        return Wanted(listen=listen, upstream=upstream)
    return Wanted(listen=listen, upstream=upstream, models=served.models, contexts=served.contexts)


def _upstream(asked: Asked, before: Loaded | None) -> str:
    configured = before.config.backends.get(BACKEND) if before is not None else None
    if asked.upstream is not None:
        return asked.upstream
    if configured is not None:
        return configured.url
    raise NoUpstream(
        "in front of which model server?", "Name it with --upstream http://HOST:PORT, or try --demo."
    )


async def _accepts(url: str) -> bool:
    """Whether something accepts connections there."""
    parts = urlsplit(url)
    try:
        async with asyncio.timeout(2):
            _, writer = await asyncio.open_connection(
                parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
            )
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
