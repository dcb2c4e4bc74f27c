"""The whole product as an operator has it: `authz serve`, four real gateways in front, the demo model behind."""

import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from prometheus_client.parser import text_string_to_metric_families

from authz.authenticate.key_format import MintedKey, mint
from authz.quota import parse_quota
from authz.store.protocols import Registry
from authz.store.records import Key
from tests.support.caddy import Caddy
from tests.support.certificates import Certificates
from tests.support.envoy import Envoy
from tests.support.gateway import Around, RealGateway
from tests.support.model import DemoModel
from tests.support.nginx import Nginx
from tests.support.noon import NOON
from tests.support.raw_http import RawResponse, exchange, request_bytes
from tests.support.service import AuthzService
from tests.support.traefik import Traefik

GATEWAYS: tuple[type[RealGateway], ...] = (Envoy, Traefik, Nginx, Caddy)
NAMES = tuple(kind.name for kind in GATEWAYS)
UPSTREAM = "upstream-secret-of-the-tests"

_CONFIG = """
gateways:
  envoy: {{kind: envoy, token: token-of-envoy-in-the-tests, request_id: gateway}}
  traefik: {{kind: traefik, token: token-of-traefik-in-the-tests}}
  nginx: {{kind: nginx, token: token-of-nginx-in-the-tests}}
  caddy: {{kind: caddy, token: token-of-caddy-in-the-tests}}
authenticators:
  keys: {{type: api_key, headers: [authorization, x-api-key]}}
models:
  demo: {{context: 8192, max_output: 4096}}
  big: {{access: {{roles: [senior]}}}}
backends:
  model: {{url: "http://127.0.0.1:{model}", models: any, bearer: {upstream}}}
routes:
  - name: models
    match: {{methods: [GET], paths: [/v1/models]}}
    authenticate: {{any_of: [keys]}}
    authorize: [{{models: allowed}}]
  - name: inference
    match: {{api: [openai, anthropic]}}
    authenticate: {{any_of: [keys]}}
    authorize: [{{models: allowed}}]
  - name: socket
    match: {{methods: [GET], paths: [/ws]}}
    authenticate: {{any_of: [keys]}}
    authorize: [{{models: any}}]
  - name: limited
    match: {{methods: [GET], paths: [/echo/limited]}}
    authenticate: {{any_of: [keys]}}
    authorize: [{{models: any}}]
    limits: [key-rpm]
limits:
  key-rpm: {{unit: requests, quota: 60, window: 1m, partition_by: [key]}}
"""


class Lab:
    """A context manager: everything runs inside."""

    def __init__(self, scratch: Path, certificates: Certificates) -> None:
        self.tls = certificates.trust()
        self._certificates = certificates
        self._scratch = scratch
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.model = stack.enter_context(DemoModel(self._scratch / "model"))
            config = _CONFIG.format(model=self.model.port, upstream=UPSTREAM)
            self.service = stack.enter_context(AuthzService(self._scratch / "authz", config))
            self.gateways = {
                kind.name: stack.enter_context(kind(self.around(kind.name))) for kind in GATEWAYS
            }
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def around(self, name: str) -> Around:
        """Where the gateway of that kind stands; free ports each time."""
        return Around(
            directory=self._scratch,
            certificates=self._certificates,
            authz_http=self.service.http,
            authz_grpc=self.service.grpc,
            model=self.model.port,
            token=f"token-of-{name}-in-the-tests",
        )

    def key(self, *limits: str, user: str = "alice", **fields: Any) -> MintedKey:
        """A new key, in force."""
        minted = add_key(self.service.registry, *limits, user=user, **fields)
        in_force(self.service)
        return minted


@dataclass(frozen=True)
class Way:
    """One gateway of the lab."""

    name: str
    lab: Lab

    @property
    def gateway(self) -> RealGateway:
        return self.lab.gateways[self.name]

    @property
    def port(self) -> int:
        return self.gateway.around.https

    def reasons(self) -> Counter[str]:
        """How often authz gave which answer to this gateway."""
        return decisions(self.lab.service, self.name)


def add_key(
    registry: Registry, *limits: str, user: str = "alice", timezone: str = NOON, **fields: Any
) -> MintedKey:
    """Mint a key and write its record, as `authz keys create` does. None of its days ends during a test."""
    minted = mint()
    quotas = tuple(parse_quota(limit, timezone=timezone) for limit in limits)
    registry.add_key(
        Key(
            id=minted.id,
            digest=minted.digest,
            display=minted.display,
            user=user,
            quotas=quotas,
            created_at=0,
            **fields,
        )
    )
    return minted


def eventually(holds: Callable[[], bool], *, seconds: float = 30) -> float:
    """Return once it holds, with how long that took in seconds; fail after `seconds`: more than a busy machine needs."""
    begun = time.monotonic()
    while not holds():
        assert time.monotonic() - begun < seconds, f"still not so after {seconds} s"
        time.sleep(0.005)
    return time.monotonic() - begun


def in_force(service: AuthzService) -> None:
    """Return once the service knows every record that was written until now: it knows one more written after."""
    last = add_key(service.registry, user="the-last-one")
    eventually(lambda: ask(service, last.key).status == 200)


def ask(service: AuthzService, key: str, *, target: str = "/v1/models") -> RawResponse:
    """A question (GET) from this machine without a gateway's token: a plain decision."""
    data = request_bytes("GET", target, [("Authorization", f"Bearer {key}")])
    return exchange(service.http, data, tls=service.trust)


def samples(service: AuthzService, name: str) -> Mapping[tuple[tuple[str, str], ...], float]:
    """The values of one metric by their labels in alphabetical order."""
    with urllib.request.urlopen(f"http://127.0.0.1:{service.admin}/metrics", timeout=30) as response:
        families = text_string_to_metric_families(response.read().decode())
    return {
        tuple(sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
        if sample.name == name
    }


def decisions(service: AuthzService, gateway: str) -> Counter[str]:
    """How often a gateway got which answer: reason -> count."""
    counted: Counter[str] = Counter()
    for labels, count in samples(service, "authz_decisions_total").items():
        by_name = dict(labels)
        if by_name["gateway"] == gateway:
            counted[by_name["reason"]] += int(count)
    return counted
