"""The whole product in front of a model server that keeps books: `authz serve`, a real gateway, and the ledger."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from authz.authenticate.key_format import MintedKey
from authz.calendar import calendar_bounds
from authz.quota import parse_quota
from authz.store.levels import level_of, settled_of
from authz.store.open import open_view, wall_clock
from authz.store.protocols import Hold, Kind
from authz.store.records import Entry, Source
from tests.acceptance.lab import add_key, eventually, in_force
from tests.support.certificates import Certificates
from tests.support.gateway import Around, RealGateway
from tests.support.noon import NOON
from tests.support.ports import free_port
from tests.support.rendered_envoy import RenderedEnvoy
from tests.support.service import AuthzService
from tests.support.simulated import Page, SimulatedModel

CONFIG = """
timezone: {zone}
gateways:
  envoy: {{kind: envoy, token: token-of-envoy-in-the-tests, request_id: gateway, lease: {lease:g}s}}
  traefik: {{kind: traefik, token: token-of-traefik-in-the-tests, lease: {lease:g}s}}
  nginx: {{kind: nginx, token: token-of-nginx-in-the-tests}}
  caddy: {{kind: caddy, token: token-of-caddy-in-the-tests{caddy}}}
authenticators:
  keys: {{type: api_key, headers: [authorization, x-api-key]}}
models:
  sim: {{context: 32768, max_output: 4096, price: {{input: 1, cached_input: 0.5, output: 4}}}}
  fit: {{context: 32768, max_output: 4096, tokenizer: {tokenizer}}}
backends:
  model: {{url: "http://127.0.0.1:{model}", models: any}}
routes:
  - name: fitted
    match: {{methods: [POST], paths: [/v1/completions]}}
    authenticate: {{any_of: [keys]}}
    authorize: [{{models: any}}]
    admission: fitted
    limits: [window]
  - name: models
    match: {{methods: [GET], paths: [/v1/models]}}
    authenticate: {{any_of: [keys]}}
    authorize: [{{models: any}}]
  - name: inference
    match: {{api: [openai, anthropic]}}
    authenticate: {{any_of: [keys]}}
    authorize: [{{models: any}}]
    limits: [window]
  - name: rerank
    match: {{methods: [POST], paths: [/v1/rerank]}}
    authenticate: {{any_of: [keys]}}
    authorize: [{{models: any}}]
limits:
  window:
    {{unit: tokens, quota: 10k, window: 12s, algorithm: fixed, partition_by: [key], when: {{models: [fit]}}}}
"""

KNOWN = frozenset({Source.REPORTED, Source.CORRECTED})  # a model server counted
SHIPPED_LEASE = 60.0  # seconds; in the configurations as they are committed
CADDY_LOG = ", log: 127.0.0.1:{port}"


@dataclass(frozen=True)
class Sum:
    """Tokens of some entries."""

    input: int
    output: int

    @property
    def tokens(self) -> int:
        return self.input + self.output


@dataclass
class Settling:
    """Everything runs. `gateway` is the one in front."""

    model: SimulatedModel
    service: AuthzService
    gateway: RealGateway
    certificates: Certificates

    @property
    def port(self) -> int:
        return self.gateway.around.https

    @property
    def tls(self) -> Any:
        return self.certificates.trust()

    def key(self, *limits: str, user: str = "alice", **fields: Any) -> MintedKey:
        """A new key, in force."""
        minted = add_key(self.service.registry, *limits, user=user, **fields)
        in_force(self.service)
        return minted

    def entries(self, key: MintedKey | None = None) -> dict[str, Entry]:
        """The ledger by reservation, of one key or of all."""
        only = {"key": key.id} if key is not None else None
        return {
            each.reservation: each
            for each in open_view(self.service.store).ledger.entries(only=only, limit=100_000)
        }

    def settled(self, pages: Sequence[Page], *, seconds: float = 60) -> dict[str, Entry]:
        """The ledger once it has an entry for each of these requests."""
        wanted = {page.reservation for page in pages}
        found: dict[str, Entry] = {}

        def there() -> bool:
            time.sleep(0.05)
            found.update(self.entries())
            return wanted <= found.keys()

        eventually(there, seconds=seconds)
        return found

    def used(self, key: MintedKey, limit: str = "tokens=10000/day") -> int:
        """What is charged to a key's own limit, holds included, as the service committed it last."""
        return sum(self.used_and_held(key, limit))

    def used_and_held(self, key: MintedKey, limit: str = "tokens=10000/day") -> tuple[int, int]:
        """What is charged to a key's own limit for good, and what is held of it, as the service committed it last."""
        levels = self.service.registry.counter_levels(f"key:{limit}")
        states = [encoded for name, encoded in levels.items() if key.id in name]
        if not states:
            return 0, 0
        quota = parse_quota(limit)
        now = wall_clock()
        bounds = calendar_bounds(now, quota.window.period, NOON)
        hold = Hold("", Kind.CALENDAR, quota.unit, quota.amount, 0, bounds=bounds)
        return settled_of(states[0], hold, now), level_of(states[0], hold, now).held


def _with_lease(around: Around, lease: float) -> RealGateway:
    return RenderedEnvoy(around, lambda settings: replace(settings, lease_ms=int(lease * 1000)))


def total(entries: Sequence[Entry]) -> Sum:
    return Sum(
        sum(each.note.usage.input for each in entries), sum(each.note.usage.output for each in entries)
    )


@contextmanager
def settling(
    kind: type[RealGateway], scratch: Path, certificates: Certificates, *, lease: float = SHIPPED_LEASE
) -> Iterator[Settling]:
    """The product with one kind of gateway.

    `lease` in seconds: how long a request counts without a sign of life; another than the shipped one is Envoy's alone.
    """
    with ExitStack() as stack:
        model = stack.enter_context(SimulatedModel(scratch / "model"))
        log = free_port()
        caddy = CADDY_LOG.format(port=log) if kind.name == "caddy" else ""
        service_config = CONFIG.format(
            model=model.port, zone=NOON, caddy=caddy, lease=lease, tokenizer=model.tokenizer
        )
        service = stack.enter_context(AuthzService(scratch / "authz", service_config))
        around = Around(
            directory=scratch,
            certificates=certificates,
            authz_http=service.http,
            authz_grpc=service.grpc,
            model=model.port,
            token=f"token-of-{kind.name}-in-the-tests",
            log=log,
        )
        gateway = stack.enter_context(kind(around) if lease == SHIPPED_LEASE else _with_lease(around, lease))
        yield Settling(model, service, gateway, certificates)
