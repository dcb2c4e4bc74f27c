"""Baseten's performance proxy in authz's words: a site with Envoy and two model servers."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from authz.authenticate.key_format import MintedKey
from authz.store.open import open_view
from authz.store.records import Entry
from tests.acceptance.lab import eventually
from tests.seeds.site import Site
from tests.seeds.takeoff import SIGN_KEY, signed
from tests.support.any_server import Answer, AnyServer, Received
from tests.support.ports import free_port
from tests.support.raw_http import RawResponse

ADA = "text-embedding-ada-002"
MODEL, TARGET, PREFERENCES = "X-Baseten-Model", "X-Target-Host", "X-Baseten-Request-Preferences"
CUSTOMER = "x-baseten-customer-request-id"
MOST_SECONDS = 2  # that a client may wish
SLOW_SECONDS = 30  # of a model server that is slow; nothing here waits for it

# `https://custom.api.com` and the like are the document's; which server each of them is says the operator.
CONFIG = """
authenticators:
  keys:   {type: api_key, headers: [authorization]}
  scoped: {type: jwt, sign_key: SIGN_KEY, algorithms: [HS256], issuers: [https://login.test], audiences: [llm]}
  anyone: {type: anonymous}
models:
  MODEL: {context: 8192}
  private: {context: 8192, access: {roles: [senior]}}
  stray: {context: 8192}
backends:
  baseten: {url: BASETEN, models: [MODEL, private], bearer: {file: api-key.txt}}
  custom:  {url: CUSTOM, models: [MODEL, stray], bearer: literal-upstream-key}
  down:    {url: "http://127.0.0.1:DOWN", models: [MODEL]}
routes:
  - {name: models, match: {methods: [GET], paths: [/v1/models]}, authenticate: {any_of: [keys]}, authorize: [{models: any}]}
  - name: embeddings
    match: {methods: [POST], paths: [/v1/embeddings]}
    authenticate: {any_of: [keys]}
    authorize: [{models: allowed}]
    caps: {characters: 400, inputs: 4, tokens: 1000}
    request_id: {header: x-baseten-customer-request-id}
    preferences: &preferences
      header: x-baseten-request-preferences
      model_header: x-baseten-model
      target_header: x-target-host
      timeout: MOST_SECONDSs
      max_retries: 2
      hedge_delay: 100ms
      max_concurrent_requests: 128
      targets:
        https://api.baseten.co: baseten
        https://custom.api.com: custom
        https://api.from-preferences.com: custom
        https://api.example.com: custom
        http://down.test: down
      ignored: [batch_size, hedge_budget_pct, retry_budget_pct, initial_backoff_ms]
  - name: nowhere
    match: {methods: [POST], paths: [/without-default]}
    authenticate: {any_of: [keys]}
    authorize: [{models: any}]
    preferences: *preferences
  - {name: health, match: {methods: [GET], paths: [/health]}, authenticate: {any_of: [anyone]}, authorize: [{models: any}], limits: [health], preferences: *preferences}
  - {name: rerank, match: {methods: [POST], paths: [/rerank]}, authenticate: {any_of: [scoped]}, authorize: [{models: any}, {scopes: [rerank]}], preferences: *preferences}
  - {name: classify, match: {methods: [POST], paths: [/predict, /classify]}, authenticate: {any_of: [scoped]}, authorize: [{models: any}, {scopes: [classify]}], preferences: *preferences}
  - {name: guests, match: {methods: [POST], paths: [/open/*]}, authenticate: {any_of: [keys, anyone]}, authorize: [{models: any}], limits: [guests], preferences: *preferences}
  - {name: wildcard, match: {methods: [POST], paths: ["/*"]}, authenticate: {any_of: [scoped]}, authorize: [{models: any}, {scopes: [everything]}], preferences: *preferences}
limits:
  guests: {unit: requests, quota: 3, window: 1m, partition_by: [user]}
  health: {unit: requests, quota: 600, window: 1m}
"""


@dataclass(frozen=True)
class Proxy:
    """Envoy, authz and two model servers."""

    site: Site
    baseten: AnyServer
    custom: AnyServer
    key: MintedKey

    def post(
        self,
        target: str = "/v1/embeddings",
        *,
        key: str | None = "",
        model: str | None = ADA,
        wishes: Any = None,
        headers: dict[str, str] | None = None,
        body: dict[str, Any] | None = None,
    ) -> RawResponse:
        """With the common key unless another, or None, is named. `wishes`: the preferences, or their exact text."""
        sent = dict(headers or {})
        if key is not None:
            sent["Authorization"] = f"Bearer {key or self.key.key}"
        if model is not None:
            sent[MODEL] = model
        if wishes is not None:
            sent[PREFERENCES] = wishes if isinstance(wishes, str) else json.dumps(wishes)
        body = (
            {"input": ["Hello world", "How are you?"], "encoding_format": "float"} if body is None else body
        )
        return self.site.ask("envoy", "POST", target, sent, body)

    @property
    def received(self) -> list[Received]:
        return [*self.baseten.received, *self.custom.received]

    def entry_of(self, received: Received) -> Entry:
        """The ledger's entry of a request, once it is there."""
        reservation = received.header("x-authz-reservation")
        found: list[Entry] = []

        def there() -> bool:
            entries = open_view(self.site.service.store).ledger.entries(limit=1000)
            found[:] = [each for each in entries if each.reservation == reservation]
            return bool(found)

        eventually(there, seconds=15)
        return found[0]


@contextmanager
def running_proxy(scratch: Path) -> Iterator[Proxy]:
    """All of it, for as long as the context."""
    with AnyServer() as baseten, AnyServer() as custom:
        values = {
            "MOST_SECONDS": str(MOST_SECONDS),
            "SIGN_KEY": SIGN_KEY,
            "MODEL": ADA,
            "BASETEN": baseten.url,
            "CUSTOM": custom.url,
            "DOWN": str(free_port()),
        }
        config = CONFIG
        for name, value in values.items():
            config = config.replace(name, value)
        site = Site(scratch, config, kinds=["envoy"])
        write_key(site, "  first-upstream-key\n")
        with site:
            yield Proxy(site, baseten, custom, site.key())


def write_key(site: Site, text: str, *, mode: int = 0o600) -> None:
    new = site.service.directory / "api-key.new"
    new.write_text(text)
    new.chmod(mode)
    new.replace(site.service.directory / "api-key.txt")


def with_scopes(*scopes: str) -> str:
    own = {"iss": "https://login.test", "aud": "llm", "sub": "app", "exp": int(time.time()) + 600}
    return signed({**own, "scope": " ".join(scopes)})


def failing(times: int) -> Callable[[Received], Answer]:
    """A server that answers 503 so many times, and then as it should."""
    left = [times]

    def answer(_: Received) -> Answer:
        left[0] -= 1
        return Answer(status=503, pieces=(b'{"error": "busy"}',)) if left[0] >= 0 else Answer()

    return answer
