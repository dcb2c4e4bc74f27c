"""Envoy with `envoy/envoy.yaml` exactly as committed."""

from collections.abc import Sequence

from tests.support.gateway import Around, RealGateway, Swap
from tests.support.ports import free_port
from tests.support.processes import executable


class Envoy(RealGateway):
    """The complete configuration."""

    name = "envoy"

    def __init__(self, around: Around) -> None:
        super().__init__(around)
        self.admin = free_port()

    def swaps(self) -> list[Swap]:
        """Addresses and paths, nothing else."""
        around = self.around
        local = 'socket_address: {address: "127.0.0.1", port_value: '
        everywhere = 'socket_address: {address: "0.0.0.0", port_value: '
        return [
            Swap(f"{local}9901}}", f"{local}{self.admin}}}"),
            Swap(f"{everywhere}80}}", f"{local}{around.http}}}"),
            Swap(f"{everywhere}443}}", f"{local}{around.https}}}"),
            Swap(f"{local}8000}}", f"{local}{around.model}}}"),
            Swap(f"{local}9000}}", f"{local}{around.authz_http}}}"),
            Swap(f"{local}9001}}", f"{local}{around.authz_grpc}}}"),
            Swap("{filename: /etc/authz/tls/tls.crt}", f"{{filename: {around.certificates.server}}}"),
            Swap("{filename: /etc/authz/tls/tls.key}", f"{{filename: {around.certificates.server_key}}}"),
            Swap("{filename: /etc/authz/gateway-token}", f"{{filename: {self.token_file()}}}"),
        ]

    def write(self) -> Sequence[str]:
        return command(str(self.committed("envoy/envoy.yaml", self.swaps())))


def command(configuration: str) -> list[str]:
    """Run it beside other Envoys, small, and with its access log written at once."""
    return [
        executable("envoy"),
        "--config-path",
        configuration,
        "--use-dynamic-base-id",
        "--concurrency",
        "1",
        "--log-level",
        "warning",
        "--file-flush-interval-msec",
        "20",
    ]
