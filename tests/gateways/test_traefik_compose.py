"""compose/traefik.yaml."""

from pathlib import Path

from tests.gateways.compose_contract import COMPOSE, ComposeContract
from tests.support.gateway import REPOSITORY

PLUGINS = "../traefik/plugins-local"


class TestTraefikCompose(ComposeContract):
    kind = "traefik"
    configuration = ("traefik/dynamic.yml", "/etc/traefik/dynamic.yml")

    def mounts(self, service: dict[str, object]) -> dict[str, str]:
        """The plugins are mounted as the directory that they are."""
        found = super().mounts(service)
        return {target: source for target, source in found.items() if source != PLUGINS}

    def test_traefik_finds_its_files(self) -> None:
        gateway = self.read()["services"]["gateway"]
        assert gateway["working_dir"] == "/etc/traefik"
        assert gateway["command"] == ["--configFile=/etc/traefik/traefik.yml"]
        mounted = super().mounts(gateway)
        for name in ("traefik.yml", "dynamic.yml", "plugins-local"):
            here = (COMPOSE / mounted[str(Path(gateway["working_dir"]) / name)]).resolve()
            assert here == REPOSITORY / "traefik" / name
            assert here.exists()
