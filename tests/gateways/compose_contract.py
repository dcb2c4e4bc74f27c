"""What a compose file has to hold so that it runs the committed configuration. Nothing here needs Docker."""

import re
from pathlib import Path
from typing import Any, ClassVar

from ruamel.yaml import YAML

from authz.config.load import load
from tests.support.gateway import REPOSITORY

COMPOSE = REPOSITORY / "compose"
MADE_BY_THE_OPERATOR = ("./tls", "./secrets/")


class ComposeContract:
    """`kind` names the files; `configuration` is the gateway's, in this repository and in its image."""

    kind: ClassVar[str]
    configuration: ClassVar[tuple[str, str]]

    @property
    def path(self) -> Path:
        return COMPOSE / f"{self.kind}.yaml"

    def read(self) -> Any:
        return YAML(typ="safe").load(self.path)

    def mounts(self, service: Any) -> dict[str, str]:
        """Path in the container -> path here."""
        found = {}
        for volume in service.get("volumes", []):
            source, target = volume.split(":")[:2]
            if source.startswith("."):
                found[target] = source
        secrets = self.read()["secrets"]
        for secret in service.get("secrets", []):
            found[secret["target"]] = secrets[secret["source"]]["file"]
        return found

    def test_every_mounted_file_is_there_or_explained(self) -> None:
        comment = "".join(re.findall(r"^#.*\n", self.path.read_text(), re.MULTILINE))
        for service in self.read()["services"].values():
            for source in self.mounts(service).values():
                if source.startswith(MADE_BY_THE_OPERATOR):
                    assert source.removeprefix("./") in comment
                else:
                    assert (COMPOSE / source).is_file(), source

    def test_it_mounts_the_committed_configuration(self) -> None:
        here, there = self.configuration
        mounted = self.mounts(self.read()["services"]["gateway"])
        assert (COMPOSE / mounted[there]).resolve() == REPOSITORY / here

    def test_every_file_that_the_configuration_names_is_mounted(self) -> None:
        text = (REPOSITORY / self.configuration[0]).read_text()
        named = set(
            re.findall(r"(?<=[\s.])/etc/authz/[\w./-]+\w", re.sub(r"^\s*#.*", "", text, flags=re.MULTILINE))
        )
        assert len(named) == 3
        mounted = self.mounts(self.read()["services"]["gateway"])
        for name in named:
            assert any(name == target or name.startswith(f"{target}/") for target in mounted), name

    def test_all_of_it_is_behind_one_address(self) -> None:
        services = self.read()["services"]
        assert services["authz"]["ports"] == ["80:80", "443:443"]
        for name in ("gateway", "model"):
            assert services[name]["network_mode"] == "service:authz"
            assert "ports" not in services[name]

    def test_its_authz_config_is_valid_and_fits(self) -> None:
        loaded = load(COMPOSE / f"{self.kind}.authz.yaml", secrets_required=False)
        entry = loaded.config.gateways["edge"]
        assert entry.kind.value == self.kind
        assert entry.token is not None
        assert loaded.config.backends["model"].url == "http://127.0.0.1:8000"
        assert not loaded.warnings
