"""A gateway with a configuration rendered for its surroundings, instead of the committed one."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from authz.gateway import caddy, nginx
from authz.gateway.render import environment
from authz.gateway.settings import Address, RenderSettings, Tls, TokenSource, Upstream
from tests.support.caddy import scratch_home
from tests.support.gateway import Around, RealGateway, Swap
from tests.support.nginx import command
from tests.support.processes import executable, port_answers

Change = Callable[[RenderSettings], RenderSettings]


class Rendered(RealGateway):
    """`change` makes of the settings that fit the surroundings those of the test."""

    def __init__(self, around: Around, change: Change = lambda settings: settings) -> None:
        super().__init__(around)
        self.change = change

    def settings(self) -> RenderSettings:
        around = self.around
        files = around.certificates
        return self.change(
            RenderSettings(
                http=Address("127.0.0.1", around.http),
                https=Address("127.0.0.1", around.https),
                tls=Tls(str(files.server), str(files.server_key)),
                upstreams=(Upstream("model", f"http://127.0.0.1:{around.model}"),),
                authz_http=(Address("127.0.0.1", around.authz_http),),
                log=Address("127.0.0.1", around.log),
                token=TokenSource("file", str(self.directory / "gateway-token")),
            )
        )

    def answers(self) -> bool:
        if self.settings().plain_http:
            return port_answers(self.around.http)
        return super().answers()

    def put(self, name: str, text: str, swaps: Sequence[Swap] = ()) -> str:
        for swap in swaps:
            text = swap.apply(text, name)
        path = self.directory / name
        path.write_text(text)
        return str(path)


class RenderedNginx(Rendered):
    """nginx."""

    name = "rendered-nginx"
    part = "all"

    def write(self) -> Sequence[str]:
        settings = self.settings()
        self.put("gateway-token.conf", f'set $authz_gateway_token "{self.around.token}";\n')
        self.put("authz.js", nginx.render(settings, environment(), "js"))
        self.put("authz-usage.js", nginx.render(settings, environment(), "js-usage"))
        pid = Swap("pid /run/nginx.pid;", f"pid {self.directory}/nginx.pid;")
        text = nginx.render(settings, environment(), self.part)
        return command(str(self.directory), self.put("nginx.conf", text, [pid]))


class RenderedNginxWithoutNjs(RenderedNginx):
    """nginx without njs."""

    name = "rendered-nginx-auth-request"
    part = "auth-request"


class RenderedCaddy(Rendered):
    """Caddy."""

    name = "rendered-caddy"

    def write(self) -> Sequence[str]:
        self.token_file()
        admin = Swap("admin unix//run/caddy/admin.sock", f"admin unix/{self.directory}/admin.sock")
        path = self.put("Caddyfile", caddy.render(self.settings(), environment()), [admin])
        return [executable("caddy"), "run", "--adapter", "caddyfile", "--config", path]

    def environment(self) -> dict[str, str]:
        return scratch_home(str(self.directory))


def with_two_models(second: int) -> Change:
    """A second model server, `other`, beside `model`."""
    return lambda settings: replace(
        settings,
        upstreams=(*settings.upstreams, Upstream("other", f"http://127.0.0.1:{second}", ("big", "bigger"))),
    )
