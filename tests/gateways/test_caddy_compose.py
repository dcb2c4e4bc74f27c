"""compose/caddy.yaml."""

from tests.gateways.compose_contract import ComposeContract


class TestCaddyCompose(ComposeContract):
    kind = "caddy"
    configuration = ("caddy/Caddyfile", "/etc/caddy/Caddyfile")

    def test_the_admin_socket_has_a_directory(self) -> None:
        assert self.read()["services"]["gateway"]["tmpfs"] == ["/run/caddy"]
