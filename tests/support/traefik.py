"""Traefik with `traefik/` exactly as committed, our plugins included."""

import shutil
import ssl
from collections.abc import Sequence

from tests.support.gateway import REPOSITORY, RealGateway, Swap
from tests.support.processes import executable
from tests.support.raw_http import exchange, request_bytes


class Traefik(RealGateway):
    """The complete configuration."""

    name = "traefik"

    def static_swaps(self) -> list[Swap]:
        """Addresses, nothing else."""
        around = self.around
        return [
            Swap('address: ":80"\n', f'address: "127.0.0.1:{around.http}"\n'),
            Swap('address: ":443"\n', f'address: "127.0.0.1:{around.https}"\n'),
        ]

    def dynamic_swaps(self) -> list[Swap]:
        """Addresses and paths, nothing else."""
        around = self.around
        return [
            Swap("certFile: /etc/authz/tls/tls.crt", f"certFile: {around.certificates.server}", times=2),
            Swap("keyFile: /etc/authz/tls/tls.key", f"keyFile: {around.certificates.server_key}", times=2),
            Swap("tokenFile: /etc/authz/gateway-token", f"tokenFile: {self.token_file()}"),
            Swap("http://127.0.0.1:9000", f"http://127.0.0.1:{around.authz_http}", times=3),
            Swap("http://127.0.0.1:8000", f"http://127.0.0.1:{around.model}"),
        ]

    def write(self) -> Sequence[str]:
        static = self.committed("traefik/traefik.yml", self.static_swaps())
        self.committed("traefik/dynamic.yml", self.dynamic_swaps())
        shutil.copytree(REPOSITORY / "traefik/plugins-local", self.directory / "plugins-local")
        return [executable("traefik"), f"--configFile={static}"]

    def answers(self) -> bool:
        return super().answers() and has_routes(self.around.https, self.around.certificates.trust())


def has_routes(port: int, tls: ssl.SSLContext | None) -> bool:
    """Traefik's ports are open before its routers are there; until then everything is 404.

    Asked in a way that our plugin refuses by itself, so that authz and the model server see nothing of it.
    """
    try:
        return exchange(port, request_bytes("GET", "http://llm.test/"), tls=tls).status == 400
    except OSError:
        return False
