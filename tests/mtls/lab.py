"""`authz serve` that speaks TLS, and four rendered gateways that prove themselves by a certificate."""

import ssl
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Self

from cryptography import x509

from authz.authenticate.key_format import MintedKey
from authz.config import load
from authz.gateway.from_config import settings_for
from authz.gateway.settings import AuthzTls, RenderSettings
from tests.acceptance.lab import add_key, in_force
from tests.support.certificates import Authority, Certificates, Pair, server_names
from tests.support.gateway import Around
from tests.support.model import DemoModel
from tests.support.ports import free_port
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
NAMES = {
    "envoy": "spiffe://lab.example/gateway/envoy",
    "traefik": "traefik.lab",
    "nginx": "nginx.lab",
    "caddy": "",  # known by its fingerprint
}
UPSTREAM = "upstream-secret-of-the-tests"

_CONFIG = """
gateways:
  envoy: {{kind: envoy, request_id: gateway, mtls: {{subjects: ["spiffe://lab.example/gateway/envoy"], cert: {envoy.cert}, key: {envoy.key}}}}}
  traefik: {{kind: traefik, mtls: {{subjects: [Traefik.Lab], cert: {traefik.cert}, key: {traefik.key}}}}}
  nginx: {{kind: nginx, mtls: {{subjects: [other.lab, nginx.lab], cert: {nginx.cert}, key: {nginx.key}}}}}
  caddy: {{kind: caddy, log: "127.0.0.1:{log}", mtls: {{fingerprints: ["{caddy.fingerprint}"], cert: {caddy.cert}, key: {caddy.key}}}}}
  old: {{kind: nginx, token: token-of-a-gateway-without-certificate}}
authenticators:
  keys: {{type: api_key}}
  here: {{type: network, allow: [127.0.0.0/8]}}
models:
  demo: {{context: 8192, max_output: 4096}}
backends:
  model: {{url: "http://127.0.0.1:{model}", models: any, bearer: {upstream}}}
routes:
  - name: models
    match: {{methods: [GET], paths: [/v1/models]}}
    authenticate: {{any_of: [keys]}}
    authorize: [{{models: allowed}}]
  - name: inference
    match: {{api: [openai]}}
    authenticate: {{any_of: [keys]}}
    authorize: [{{models: allowed}}]
  - name: echo
    match: {{methods: [GET], paths: [/echo/headers]}}
    authenticate: {{any_of: [keys]}}
    authorize: [{{models: any}}]
  - name: here
    match: {{methods: [GET], paths: [/echo/here]}}
    authenticate: {{any_of: [here]}}
    authorize: [{{models: any}}]
"""


class Certified:
    """Who has which certificate. `authority` signs those of gateways, `foreign` has its name and another key."""

    def __init__(self, directory: Path) -> None:
        self.authority = Authority(directory, "gateways", stem="gateways")
        self.foreign = Authority(directory / "foreign", "gateways")
        self.servers = Authority(directory, "servers", stem="servers")
        self.server = self.servers.issue("authz", server_names(), server=True)
        self.envoy = self.authority.issue("envoy", [x509.UniformResourceIdentifier(NAMES["envoy"])])
        self.traefik = self.authority.issue("traefik", [x509.DNSName("traefik.lab")])
        self.nginx = self.authority.issue("nginx", common="nginx.lab")
        self.caddy = self.authority.issue("caddy")

    @property
    def tls(self) -> str:
        """For `decisions.tls`."""
        return (
            f"{{cert: {self.server.cert}, key: {self.server.key}, client_ca: {self.authority.file}, "
            f"server_ca: {self.servers.file}, server_name: localhost}}"
        )

    def trust(self, shown: Pair | None = None) -> ssl.SSLContext:
        """To speak to authz."""
        context = ssl.create_default_context(cafile=str(self.servers.file))
        if shown is not None:
            context.load_cert_chain(shown.cert, shown.key)
        return context


class Lab:
    """A context manager: everything runs inside."""

    def __init__(self, scratch: Path, certificates: Certificates) -> None:
        self.certificates = certificates
        self.certified = Certified(scratch / "certified")
        self.directory = scratch
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.model = stack.enter_context(DemoModel(self.directory / "model"))
            self._log = free_port()
            known = self.certified
            config = _CONFIG.format(
                model=self.model.port,
                log=self._log,
                upstream=UPSTREAM,
                **{name: getattr(known, name) for name in NAMES},
            )
            tls = (known.tls, known.trust())
            self.service = stack.enter_context(AuthzService(self.directory / "authz", config, tls=tls))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def gateway(
        self,
        name: str,
        change: Callable[[AuthzTls], AuthzTls] = lambda tls: tls,
        *,
        kind: type[Rendered] | None = None,
    ) -> Rendered:
        """One as `authz render` makes it of the configuration; `change` makes it show something else."""

        def configured(settings: RenderSettings) -> RenderSettings:
            made = settings_for(load(self.service.config).config, name)
            assert made.authz_tls is not None
            return replace(settings, token=made.token, authz_tls=change(made.authz_tls), reports=made_reports)

        made_reports = replace(RenderSettings().reports, port=free_port())
        around = Around(
            directory=self.directory / f"gateway-{free_port()}",
            certificates=self.certificates,
            authz_http=self.service.http,
            authz_grpc=self.service.grpc,
            model=self.model.port,
            log=self._log,
        )
        return (kind or GATEWAYS[name])(around, configured)

    def key(self) -> MintedKey:
        minted = add_key(self.service.registry)
        in_force(self.service)
        return minted


def shows(pair: Pair | None) -> Callable[[AuthzTls], AuthzTls]:
    """Another certificate, or none."""
    if pair is None:
        return lambda tls: replace(tls, certificate=None, key=None)
    return lambda tls: replace(tls, certificate=str(pair.cert), key=str(pair.key))
