"""`authz serve`, a real gateway rendered from its config as an operator does it, and two model servers."""

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jwt

from authz.authenticate.key_format import MintedKey
from authz.config.load import load
from authz.gateway.from_config import settings_for
from authz.gateway.settings import RenderSettings
from authz.store.open import open_view
from authz.store.records import Entry
from tests.acceptance.lab import add_key, eventually, in_force
from tests.support.backends import Backend
from tests.support.certificates import Certificates
from tests.support.gateway import Around
from tests.support.ports import free_port
from tests.support.raw_http import RawResponse, exchange, request_bytes
from tests.support.rendered import Rendered, RenderedCaddy, RenderedNginx
from tests.support.rendered_envoy import RenderedEnvoy
from tests.support.rendered_traefik import RenderedTraefik
from tests.support.service import AuthzService

GATEWAYS: Mapping[str, type[Rendered]] = {
    "envoy": RenderedEnvoy,
    "traefik": RenderedTraefik,
    "nginx": RenderedNginx,
    "caddy": RenderedCaddy,
}
TOKEN = "gateway-token-of-the-tests"
_SECRET = bytes(range(32))
SIGN_KEY = base64.b64encode(_SECRET).decode()

HEAD = """
gateways:
  edge: {{kind: {kind}, token: {token}{more}}}
authenticators:
  keys: {{type: api_key, headers: [authorization, x-api-key]}}
  sso: {{type: jwt, algorithms: [HS256], sign_key: {sign_key}, map_users: true, subject: {{roles: realm_access.roles}}}}
models:
  small: {{context: 8192, max_output: 512}}
  large: {{context: 8192, max_output: 512}}
backends:
  one: {{url: "http://127.0.0.1:{one}", models: [small], bearer: {{file: one.key}}}}
  two: {{url: "http://127.0.0.1:{two}", models: any, bearer: {{file: two.key}}, header: x-model-key}}
"""


def signed(**claims: Any) -> str:
    """A token of the identity provider `sso`."""
    return jwt.encode({"sub": "carol", "exp": 4_000_000_000, **claims}, _SECRET, algorithm="HS256")


@dataclass
class Scene:
    """Everything runs. `ask` goes through the gateway."""

    service: AuthzService
    gateway: Rendered
    one: Backend
    two: Backend
    certificates: Certificates
    key: MintedKey

    def ask(
        self,
        *,
        path: str = "/v1/chat/completions",
        model: str | None = "small",
        headers: Mapping[str, str] | None = None,
        key: MintedKey | None = None,
        token: str | None = None,
        method: str = "POST",
        **more: Any,
    ) -> RawResponse:
        carried: list[tuple[str | bytes, str | bytes]] = [
            ("Authorization", f"Bearer {token or (key or self.key).key}"),
            *(headers or {}).items(),
        ]
        body = b""
        if method == "POST":
            carried.append(("Content-Type", "application/json"))
            named = {"model": model} if model is not None else {}
            body = json.dumps({**named, "messages": [], "max_tokens": 16, **more}).encode()
        data = request_bytes(method, path, carried, body)
        return exchange(self.gateway.around.https, data, tls=self.certificates.trust(), method=method)

    def entries(self) -> list[Entry]:
        """The ledger."""
        return list(open_view(self.service.store).ledger.entries(limit=1000))

    def entry_of(self, reservation: str) -> Entry:
        """Its entry, once it is there."""
        eventually(lambda: any(each.reservation == reservation for each in self.entries()), seconds=20)
        return next(each for each in self.entries() if each.reservation == reservation)

    def refusal(self, answer: RawResponse) -> Any:
        """What `authz decisions show` tells of a refusal, once it is kept."""
        id = answer.header("x-request-id") or ""
        eventually(lambda: open_view(self.service.store).denial_log.show(id) is not None)
        return self.service.run("decisions", "show", id)

    def another_key(self, **fields: Any) -> MintedKey:
        minted = add_key(self.service.registry, **fields)
        in_force(self.service)
        return minted


@contextmanager
def scene(kind: str, directory: Path, certificates: Certificates, rest: str) -> Iterator[Scene]:
    """`rest` is the rest of the config: routes and limits."""
    with ExitStack() as stack:
        one, two = stack.enter_context(Backend()), stack.enter_context(Backend())
        log = free_port()
        more = f", log: 127.0.0.1:{log}" if kind == "caddy" else ""
        more += ", request_id: gateway" if kind == "envoy" else ""
        (directory / "authz").mkdir(parents=True)
        for name in ("one", "two"):
            path = directory / "authz" / f"{name}.key"
            path.write_text(f" key-of-{name}\n")
            path.chmod(0o600)
        config = (
            HEAD.format(kind=kind, token=TOKEN, more=more, one=one.port, two=two.port, sign_key=SIGN_KEY)
            + rest
        )
        service = stack.enter_context(AuthzService(directory / "authz", config))
        rendered = settings_for(load(service.config).config.model_copy(), None)
        around = Around(
            directory=directory,
            certificates=certificates,
            authz_http=service.http,
            authz_grpc=service.grpc,
            model=one.port,
            token=TOKEN,
            log=log,
        )

        def as_configured(settings: RenderSettings) -> RenderSettings:
            return replace(
                settings,
                upstreams=rendered.upstreams,
                claim_headers=rendered.claim_headers,
                request_id_headers=rendered.request_id_headers,
            )

        gateway = stack.enter_context(GATEWAYS[kind](around, as_configured))
        key = add_key(service.registry)
        in_force(service)
        yield Scene(service, gateway, one, two, certificates, key)
