"""`authz serve` with every kind of authenticator, four rendered gateways in front, the demo model behind."""

from base64 import b64encode
from contextlib import ExitStack
from dataclasses import dataclass, replace
from hashlib import sha1
from pathlib import Path
from typing import Self

import bcrypt

from authz.authenticate.key_format import MintedKey
from authz.config import load
from authz.gateway.from_config import settings_for
from authz.gateway.settings import RenderSettings
from authz.store.records import User
from tests.acceptance.lab import add_key, in_force
from tests.support.certificates import Certificates
from tests.support.gateway import Around
from tests.support.model import DemoModel, Received
from tests.support.raw_http import RawResponse, exchange, request_bytes
from tests.support.rendered import Rendered, RenderedCaddy, RenderedNginx
from tests.support.rendered_envoy import RenderedEnvoy
from tests.support.rendered_traefik import RenderedTraefik
from tests.support.service import AuthzService

GATEWAYS: dict[str, type[Rendered]] = {
    "envoy": RenderedEnvoy,
    "traefik": RenderedTraefik,
    "nginx": RenderedNginx,
    "caddy": RenderedCaddy,
}
WORKER = "worker-secret-of-the-tests"
OFFICE, ELSEWHERE = "127.0.0.2", "127.0.0.3"  # all of 127.0.0.0/8 is this machine's
BALANCER = "127.0.9.1"  # in `trusted_hops`

_CONFIG = """
gateways:
  envoy: {{kind: envoy, token: {{file: edge}}, trusted_hops: [127.0.9.0/24], tls: {tls}, listen: {{https: "127.0.0.1:1"}}}}
  traefik: {{kind: traefik, token: token-of-traefik-in-the-tests, trusted_hops: [127.0.9.0/24], tls: {tls}, listen: {{https: "127.0.0.1:2"}}}}
  nginx: {{kind: nginx, token: token-of-nginx-in-the-tests, trusted_hops: [127.0.9.0/24], tls: {tls}, listen: {{https: "127.0.0.1:3"}}}}
  caddy: {{kind: caddy, token: token-of-caddy-in-the-tests, trusted_hops: [127.0.9.0/24], tls: {tls}, listen: {{https: "127.0.0.1:4"}}}}
authenticators:
  staff: {{type: basic, htpasswd: {{file: users.htpasswd}}}}
  mtls: {{type: certificate}}
  office: {{type: network, allow: [127.0.0.2/32]}}
  keys: {{type: api_key, headers: [x-apikey], query: [api_key], act_for: {{header: x-openwebui-user-email, role: act_for}}}}
  bearers: {{type: api_key}}
  machines: {{type: shared_secret, secrets: {{worker: {worker}}}, headers: [x-worker-secret], query: [token]}}
  anyone: {{type: anonymous}}
backends:
  model: {{url: "http://127.0.0.1:{model}", models: any}}
routes:
  - name: models
    match: {{methods: [GET], paths: [/v1/models]}}
    authenticate: {{any_of: [bearers]}}
    authorize: [{{models: any}}]
  - name: staff
    match: {{paths: [/echo/staff]}}
    authenticate: {{any_of: [staff]}}
    authorize: [{{models: any}}]
  - name: mtls
    match: {{paths: [/echo/mtls]}}
    authenticate: {{any_of: [mtls]}}
    authorize: [{{models: any}}]
  - name: office
    match: {{paths: [/echo/office]}}
    authenticate: {{any_of: [office]}}
    authorize: [{{models: any}}]
  - name: both
    match: {{paths: [/echo/both]}}
    authenticate: {{all_of: [office, staff]}}
    authorize: [{{models: any}}]
  - name: keys
    match: {{paths: [/echo/keys]}}
    authenticate: {{any_of: [keys, mtls, staff]}}
    authorize: [{{models: any}}]
  - name: open
    match: {{paths: [/echo/open]}}
    authenticate: {{any_of: [bearers, anyone]}}
    authorize: [{{models: any}}]
    limits: [guests]
  - name: worker
    match: {{methods: [GET], paths: [/ws]}}
    authenticate: {{any_of: [machines]}}
    authorize: [{{models: any}}]
limits:
  guests: {{unit: requests, quota: 3, window: 1h, partition_by: [user, ip]}}
"""


class Lab:
    """A context manager: everything runs inside."""

    def __init__(self, scratch: Path, certificates: Certificates) -> None:
        self.certificates = certificates
        self._scratch = scratch
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.model = stack.enter_context(DemoModel(self._scratch / "model"))
            home = self._scratch / "authz"
            home.mkdir()
            (home / "users.htpasswd").write_text(_users())
            (home / "edge").write_text("token-of-envoy-in-the-tests")
            for secret in ("users.htpasswd", "edge"):
                (home / secret).chmod(0o600)
            files = self.certificates
            tls = f"{{cert: {files.server}, key: {files.server_key}, client_ca: {files.authority}}}"
            config = _CONFIG.format(model=self.model.port, tls=tls, worker=WORKER)
            self.service = stack.enter_context(AuthzService(home, config))
            self.gateways = {
                name: stack.enter_context(kind(self._around(name), self._as_configured))
                for name, kind in GATEWAYS.items()
            }
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _around(self, name: str) -> Around:
        return Around(
            directory=self._scratch,
            certificates=self.certificates,
            authz_http=self.service.http,
            authz_grpc=self.service.grpc,
            model=self.model.port,
            token=f"token-of-{name}-in-the-tests",
        )

    def _as_configured(self, settings: RenderSettings) -> RenderSettings:
        """What `authz render` takes from the configuration, with the ports of this test."""
        config = load(self.service.config).config
        configured = settings_for(config, "envoy")
        return replace(settings, tls=configured.tls, trusted_hops=configured.trusted_hops)

    def key(self, **fields: object) -> MintedKey:
        minted = add_key(self.service.registry, **fields)  # type: ignore[arg-type]
        in_force(self.service)
        return minted

    def user(self, user: User) -> None:
        self.service.registry.put_user(user)


def _users() -> str:
    bcrypted = bcrypt.hashpw(b"tulip", bcrypt.gensalt(4)).decode()
    sha = b64encode(sha1(b"rose", usedforsecurity=False).digest()).decode()
    return f"carol:{bcrypted}\ndave:{{SHA}}{sha}\n"


@dataclass(frozen=True)
class Way:
    """One gateway of the lab."""

    name: str
    lab: Lab

    @property
    def port(self) -> int:
        return self.lab.gateways[self.name].around.https

    def ask(
        self,
        target: str,
        *headers: tuple[str, str],
        source: str | None = None,
        with_client: bool = False,
    ) -> RawResponse:
        """GET over TLS, from a loopback address of one's choice."""
        self.lab.model.reset()
        data = request_bytes("GET", target, list(headers), host="localhost")
        tls = self.lab.certificates.trust(with_client=with_client)
        return exchange(self.port, data, tls=tls, source=source)

    @property
    def received(self) -> Received:
        """What the model server got."""
        (received,) = self.lab.model.received()
        return received

    @property
    def untouched(self) -> bool:
        """Whether the model server got nothing."""
        return not self.lab.model.received()


def basic(user: str, password: str) -> tuple[str, str]:
    return "Authorization", "Basic " + b64encode(f"{user}:{password}".encode()).decode()
