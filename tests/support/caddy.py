"""Caddy with `caddy/Caddyfile` exactly as committed."""

from collections.abc import Sequence

from tests.support.gateway import RealGateway, Swap
from tests.support.processes import executable


class Caddy(RealGateway):
    """The complete configuration."""

    name = "caddy"

    def swaps(self) -> list[Swap]:
        """Addresses and paths, nothing else."""
        around = self.around
        return [
            Swap("\nhttp://:80 {\n", f"\nhttp://:{around.http} {{\n\tbind 127.0.0.1\n"),
            Swap("\nhttps://:443 {\n", f"\nhttps://:{around.https} {{\n\tbind 127.0.0.1\n"),
            Swap(
                "reverse_proxy 127.0.0.1:9000 {", f"reverse_proxy 127.0.0.1:{around.authz_http} {{", times=2
            ),
            Swap(
                "reverse_proxy http://127.0.0.1:8000 {", f"reverse_proxy http://127.0.0.1:{around.model} {{"
            ),
            Swap(
                "tls /etc/authz/tls/tls.crt /etc/authz/tls/tls.key",
                f"tls {around.certificates.server} {around.certificates.server_key}",
            ),
            Swap("{file./etc/authz/gateway-token}", f"{{file.{self.token_file()}}}"),
            Swap("output net 127.0.0.1:9004 {", f"output net 127.0.0.1:{around.log} {{"),
            Swap("admin unix//run/caddy/admin.sock", f"admin unix/{self.directory}/admin.sock"),
        ]

    def write(self) -> Sequence[str]:
        configuration = self.committed("caddy/Caddyfile", self.swaps())
        return [executable("caddy"), "run", "--adapter", "caddyfile", "--config", str(configuration)]

    def environment(self) -> dict[str, str]:
        return scratch_home(str(self.directory))


def scratch_home(directory: str) -> dict[str, str]:
    """Where Caddy keeps its state, instead of in the user's home."""
    return {"XDG_DATA_HOME": f"{directory}/data", "XDG_CONFIG_HOME": f"{directory}/config"}
