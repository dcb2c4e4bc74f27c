"""A gateway as an operator has it: what `authz render` writes for the `authz.yaml` of a running service."""

from collections.abc import Sequence
from dataclasses import replace

from authz.config.load import load
from authz.gateway.from_config import entry_name, settings_for
from authz.gateway.render import render
from authz.gateway.settings import Address, RenderSettings
from tests.support.caddy import scratch_home
from tests.support.certificates import Certificates
from tests.support.envoy import command as envoy_command
from tests.support.gateway import Around, RealGateway, Swap
from tests.support.nginx import command as nginx_command
from tests.support.ports import free_port
from tests.support.processes import executable, port_answers
from tests.support.service import AuthzService
from tests.support.traefik import has_routes

KINDS = ("envoy", "traefik", "nginx", "caddy")


def entry(around: Around, kind: str, more: str = "") -> str:
    """Its entry for `gateways:`, which says where it listens and where its files are. `more`: further keys."""
    files = around.certificates
    request_id = "" if kind == "traefik" else "request_id: gateway, "
    return (
        f"  {kind}: {{kind: {kind}, token: {{file: {around.directory}/{kind}-token}}, {request_id}"
        f"listen: {{http: 127.0.0.1:{around.http}, https: 127.0.0.1:{around.https}}}, "
        f"tls: {{cert: {files.server}, key: {files.server_key}, client_ca: {files.authority}}}{more}}}\n"
    )


class Installed(RealGateway):
    """One of them. The service's config holds its entry; nothing but where it keeps its own state is changed."""

    name = "installed"

    def __init__(self, kind: str, around: Around, service: AuthzService) -> None:
        super().__init__(around)
        self.kind = kind
        self.directory = around.directory / kind
        self._service = service

    @property
    def certificates(self) -> Certificates:
        return self.around.certificates

    def settings(self) -> RenderSettings:
        config = load(self._service.config).config
        settings = settings_for(config, entry_name(config, self.kind, self.kind))
        return replace(settings, admin=Address("127.0.0.1", free_port()))

    def swaps(self, file: str) -> list[Swap]:
        """Where it would write outside of the scratch directory."""
        if file == "Caddyfile":
            return [Swap("admin unix//run/caddy/admin.sock", f"admin unix/{self.directory}/admin.sock")]
        if file == "nginx.conf":
            return [Swap("pid /run/nginx.pid;", f"pid {self.directory}/nginx.pid;")]
        return []

    def write(self) -> Sequence[str]:
        for name, text in render(self.kind, self.settings()).items():
            for swap in self.swaps(name):
                text = swap.apply(text, name)
            path = self.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        if self.kind == "nginx":
            token = (self.around.directory / "nginx-token").read_text()
            included = self.around.directory / "nginx-token.conf"
            included.write_text(f'set $authz_gateway_token "{token}";\n')
        return {
            "envoy": envoy_command(f"{self.directory}/envoy.yaml"),
            "traefik": [executable("traefik"), f"--configFile={self.directory}/traefik.yml"],
            "nginx": nginx_command(str(self.directory), f"{self.directory}/nginx.conf"),
            "caddy": [
                *(executable("caddy"), "run", "--adapter", "caddyfile"),
                *("--config", f"{self.directory}/Caddyfile"),
            ],
        }[self.kind]

    def environment(self) -> dict[str, str]:
        return scratch_home(str(self.directory))

    def answers(self) -> bool:
        if not (port_answers(self.around.http) and port_answers(self.around.https)):
            return False
        return self.kind != "traefik" or has_routes(self.around.https, self.certificates.trust())
