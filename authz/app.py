"""Builds everything and ties it together: the only file that knows all the parts."""

import asyncio
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from authz import __version__
from authz.admin.access import access_of
from authz.admin.app import AdminApp
from authz.asked import Asked, RateLimitFiles
from authz.authorize.conditions import compile_condition
from authz.collector import Collector
from authz.config.load import Loaded, load
from authz.config.problem import ConfigErrors
from authz.config.watch import ConfigWatcher
from authz.decide import Decider
from authz.fixed import fixed_at_start
from authz.ledger.naming import name_of
from authz.ledger.settle import Settler
from authz.limit.policy import Policy
from authz.limit.reservation import RETRY_MS
from authz.limit.tokenizer import read_tokenizer
from authz.limit.trial import note
from authz.ratelimit.headers import header_names
from authz.ratelimit.in_force import LimitsInForce
from authz.ratelimit.limiter import RateLimiter
from authz.ratelimit.load import load_limits
from authz.ruleset import Authenticators, build_rules
from authz.service import Service
from authz.store.open import open_store, wall_clock
from authz.store.protocols import StoreUnavailable
from authz.telemetry.footprint import footprint
from authz.telemetry.metrics import CONTENT_TYPE, Metrics
from authz.transport.access_log import AccessLog
from authz.transport.caddy_log import CaddyLog
from authz.transport.configured import largest_body, logging_gateways, registry_of, tls_files
from authz.transport.cut_off import CutOff
from authz.transport.ext_authz import ExtAuthz
from authz.transport.grpc_services import GrpcServices
from authz.transport.health import Health
from authz.transport.http import HttpTransport
from authz.transport.listen import CannotListen
from authz.transport.ratelimit import RateLimits
from authz.transport.request_id import RequestIds
from authz.transport.serve import HttpServer, start_http
from authz.transport.serve_lane import start_lane
from authz.transport.serve_other import OtherServer
from authz.transport.service import Desk
from authz.transport.tls import ServerTls, TlsFiles
from authz.workers.metrics import gather
from authz.workers.place import Worker

if TYPE_CHECKING:
    from authz.transport.serve_grpcio import GrpcioServer
    from authz.transport.serve_lane import LaneServer

LINGER = 2.0
"""Seconds that a replica still answers after it has told the gateways to go to another one.

Longer than our gateways take to notice (health checks each 0.5 s, two in a row), to take back one that has
just been restarted, and to close a connection that they do not use (nginx: 1 s). Where there is no other
replica nobody waits.
"""

TAUGHT_AT_START = 2_000
"""Entries of the ledger, the latest, from which estimates are learned again."""

log = structlog.get_logger("authz")


def load_config(path: Path) -> Loaded:
    """The config with every condition compiled and every tokenizer read. Raises ConfigErrors."""
    return load(path, compile_condition=compile_condition, read_tokenizer=read_tokenizer)


class App:
    """One running authz."""

    def __init__(
        self,
        path: Path,
        loaded: Loaded,
        worker: Worker | None = None,
        asked: Asked | None = None,
    ) -> None:
        """`worker`: one of several processes at the same addresses. Raises ConfigErrors for rate limits."""
        asked = asked or Asked()
        self._worker = worker
        self._path = path
        self._loaded = loaded
        self._store = open_store(loaded.store.url, timezone=loaded.config.timezone)
        self._store.keep_ledger(loaded.config.ledger.retention)
        self._authenticators = Authenticators(loaded.config, self._store.directory, wall_clock)
        rules = build_rules(loaded, self._authenticators, self._store.directory)
        self._cut_off = CutOff()
        self.metrics = Metrics(
            version=__version__,
            config=self._digest,
            denials_dropped=lambda: self._store.dropped_denials,
            expired=lambda: self._store.expired,
            tried=lambda: self._store.trials.totals,
            without=lambda: self._store.without,
            allowances=lambda: self._store.allowances,
            cut_off=lambda: self._cut_off.counts,
            shared=lambda: self._store.shared,
            names=lambda counter: name_of(counter, self._policies()),
        )
        self._decider = Decider(
            rules,
            self._store.directory,
            self._store.counters,
            wall_clock,
            store_failed=self.metrics.store_failed,
            tried=partial(note, self._store.trials),
        )
        self.health = Health(
            version=__version__, config=self._digest, store=lambda: self._store.trouble or "ok"
        )
        settlements = self.metrics.settlements
        self._settler = Settler(
            self._store.counters,
            wall_clock,
            learn=self._decider.learned.observe,
            watcher=settlements,
        )
        service = Service(
            self._decider,
            self._store.counters,
            self._store.denials,
            wall_clock,
            settler=self._settler,
            durable=self._store.ledger.durable,
        )
        desk = Desk(service, self.metrics.decided)
        gateways, largest = registry_of(loaded.config), largest_body(loaded.config)
        self._http = HttpTransport(desk, gateways, self.health, max_body=largest, reject=settlements.rejected)
        self._check = ExtAuthz(desk, gateways, max_body=largest)
        self._log = AccessLog(service, gateways, reject=settlements.rejected)
        self._limits = self._limits_in(asked.ratelimit) if asked.ratelimit is not None else None
        self._rate_limits = (
            RateLimits(self._limits.limiter, gateways, store_failed=self.metrics.store_failed)
            if self._limits is not None
            else None
        )
        self._services = GrpcServices(self._check, self._log, self._rate_limits)
        self._caddy_log = CaddyLog(service, logging_gateways(loaded.config), settlements.rejected)
        self._admin = AdminApp(access_of(loaded.config), self.health, self._metrics, CONTENT_TYPE)
        self._watcher = ConfigWatcher(loaded, lambda: load_config(path), self._changed)
        self._retiring: set[asyncio.Task[None]] = set()
        self._tls = _tls(tls_files(loaded.config))
        self._collector = Collector()
        self._servers: list[HttpServer] = []
        self._grpc_server = asked.grpc_server
        self._grpc: LaneServer | GrpcioServer | None = None
        self._other: OtherServer | None = None

    def _limits_in(self, files: RateLimitFiles) -> LimitsInForce:
        found = load_limits(files.directory)
        limiter = RateLimiter(
            self._store.counters,
            found.rules,
            RequestIds(),
            compat=files.compat,
            headers=header_names(os.environ),
            undone_within_ms=RETRY_MS if self._store.shared is not None else 0,
        )
        return LimitsInForce(
            files.directory, found, limiter, lambda applied: self.metrics.reloaded(applied=applied)
        )

    async def _own_metrics(self) -> bytes:
        return self.metrics.render()

    async def _metrics(self) -> bytes:
        render = self.metrics.render
        return render() if self._worker is None else await gather(self._worker, render)

    def _digest(self) -> str:
        return self._decider.rules.digest

    def _policies(self) -> Iterator[Policy]:
        for route in self._decider.rules.routes:
            yield from (planner.policy for planner in route.courses.planners)
            if route.preferences is not None and route.preferences.concurrency is not None:
                yield route.preferences.concurrency.policy

    async def start(self) -> None:
        """Open the store, then the doors. Raises StoreUnavailable, CannotListen."""
        config = self._loaded.config
        await self._store.start()
        await self._teach()
        self._authenticators.start()
        shared = self._worker is not None
        http = str(config.decisions.http)
        self._servers.append(await start_http(self._http, http, shared=shared, tls=self._tls))
        self._servers.append(await start_http(self._admin, str(config.admin.listen), shared=shared))
        if self._worker is not None:
            told = AdminApp(self._admin.access, self.health, self._own_metrics, CONTENT_TYPE)
            self._servers.append(await start_http(told, f"unix:{self._worker.socket}"))
        self._grpc = await self._start_grpc(str(config.decisions.grpc), shared)
        await self._caddy_log.start(shared=shared)
        await self._watcher.start()
        if self._limits is not None:
            await self._limits.start()
        self._collector.start()
        self.health.started()
        other = config.decisions.grpc_other
        if other is not None:
            self._other = OtherServer(self._services.names, str(other), shared=shared, tls=self._tls)
            self._other.start()
        _warn(self._loaded)
        log.info(
            "serving",
            http=str(config.decisions.http),
            grpc=str(config.decisions.grpc),
            grpc_other=str(other) if other is not None else "none",
            admin=str(config.admin.listen),
            store=str(self._loaded.store),
            config=self._loaded.digest,
            **footprint(),
        )

    async def _start_grpc(self, listen: str, shared: bool) -> "LaneServer | GrpcioServer":
        if self._grpc_server == "lane":
            return await start_lane(
                self._services, listen, shared=shared, tls=self._tls, cut_off=self._cut_off
            )
        from authz.transport.serve_grpcio import start_grpcio  # takes long

        return await start_grpcio(self._services, listen, shared=shared, tls=self._tls)

    async def _teach(self) -> None:
        """Learn again what was used before. Without it estimates are coarser for a while, nothing else."""
        try:
            entries = await asyncio.to_thread(self._store.ledger.entries, limit=TAUGHT_AT_START)
        except StoreUnavailable as error:
            log.warning("estimates begin anew", problem=str(error))
            return
        self._settler.teach(reversed(entries))

    async def stop(self) -> None:
        """Send the gateways elsewhere, finish what is under way, write everything down."""
        self.health.drain()
        if self._grpc is not None:
            await self._grpc.drain()
            if self._other is not None:
                await self._other.drain()
            for server in self._servers:
                server.drain()
            if await self._store.others():
                await asyncio.sleep(LINGER)
        await self._watcher.stop()
        if self._limits is not None:
            await self._limits.stop()
        grpc = [server.stop() for server in (self._grpc, self._other) if server is not None]
        await asyncio.gather(*(server.stop() for server in self._servers), *grpc, self._caddy_log.stop())
        await self._authenticators.close()
        await self._store.close()
        self._collector.stop()
        log.info("stopped")

    def _changed(self, changed: Loaded | ConfigErrors) -> None:
        """Put a changed config in force, or say where it is wrong and keep the old one."""
        if self._limits is not None:
            self._limits.reload()
        if isinstance(changed, ConfigErrors):
            self._keep_old([str(problem) for problem in changed.problems])
            return
        try:
            authenticators = Authenticators(
                changed.config, self._store.directory, wall_clock, self._authenticators
            )
            rules = build_rules(changed, authenticators, self._store.directory)
        except ValueError as error:
            self._keep_old([f"{self._path}: {error}"])
            return
        files = tls_files(changed.config)
        if self._tls is not None and files is not None:
            try:
                self._tls.renew(files)
            except OSError as error:
                self._keep_old([f"{self._path}: decisions.tls: {error}"])
                return
        for section in fixed_at_start(self._loaded, changed):
            log.warning("config change needs a restart", section=section)
        authenticators.start()
        retired, self._authenticators = self._authenticators, authenticators
        gateways = registry_of(changed.config)
        self._http.gateways = self._check.gateways = self._log.gateways = gateways
        if self._rate_limits is not None:
            self._rate_limits.gateways = gateways
        self._caddy_log.gateways = logging_gateways(changed.config)
        self._admin.access = access_of(changed.config)
        self._decider.rules = rules
        self._store.keep_ledger(changed.config.ledger.retention)
        before, self._loaded = self._loaded, changed
        self._collector.loaded()
        _warn(changed, before)
        self.metrics.reloaded(applied=True)
        log.info("config reloaded", config=changed.digest)
        closing = asyncio.get_running_loop().create_task(retired.close(keep=authenticators))
        self._retiring.add(closing)
        closing.add_done_callback(self._retiring.discard)

    def _keep_old(self, problems: list[str]) -> None:
        self.metrics.reloaded(applied=False)
        log.error("config not reloaded; the old one stays in force", problems=problems)


def _tls(files: TlsFiles | None) -> ServerTls | None:
    try:
        return ServerTls(files) if files is not None else None
    except OSError as error:
        raise CannotListen(f"decisions.tls cannot be used: {error}") from error


def _warn(loaded: Loaded, before: Loaded | None = None) -> None:
    """Log what is doubtful in a config, but not what was so before."""
    known = {str(problem) for problem in before.warnings} if before is not None else set()
    for problem in map(str, loaded.warnings):
        if problem not in known:
            log.warning("config", problem=problem)
