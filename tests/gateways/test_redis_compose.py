"""compose/redis*.yaml: what stands in them is taken by real servers, and by authz."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from authz.store.open import open_store
from authz.store.redis.target import Target
from tests.gateways.compose_contract import COMPOSE
from tests.redis.link_kit import PATIENT
from tests.support.redis import RedisServer

OVERLAYS = ["redis", "redis-sentinel", "redis-cluster"]
SERVERS = [("redis", "redis"), ("redis-sentinel", "redis-1"), ("redis-cluster", "node-1")]


def services(overlay: str) -> Any:
    return YAML(typ="safe").load(COMPOSE / f"{overlay}.yaml")["services"]


def script(service: Any) -> str:
    """What its shell is given, as Compose hands it over."""
    shell, option, text = service["command"]
    assert (shell, option) == ("sh", "-c")
    return str(text).replace("$$", "$")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_authz_is_told_of_servers_that_are_there(overlay: str) -> None:
    found = services(overlay)
    authz = found["authz"]
    target = Target.parse(authz["environment"]["AUTHZ_STORE"])
    assert {host for host, _ in target.hosts} <= found.keys()
    assert authz["command"][:2] == ["authz", "serve"]
    for service in found.values():
        for name in service.get("depends_on", {}):
            assert name in found


@pytest.mark.parametrize("gateway", ["envoy", "traefik", "nginx", "caddy"])
def test_every_gateways_authz_takes_the_store_from_its_environment(gateway: str) -> None:
    assert YAML(typ="safe").load(COMPOSE / f"{gateway}.authz.yaml")["store"] == {"env": "AUTHZ_STORE"}
    assert "AUTHZ_STORE=sqlite:///var/lib/authz/authz.db" in (COMPOSE / f"{gateway}.yaml").read_text()


@pytest.mark.parametrize(("overlay", "name"), SERVERS, ids=[overlay for overlay, _ in SERVERS])
def test_a_server_takes_its_options(overlay: str, name: str, tmp_path: Path) -> None:
    program, *options = services(overlay)[name]["command"]
    assert program == "redis-server"
    words = [each.removeprefix("--") for each in options]
    with RedisServer(tmp_path, *words) as server, server.client() as client:
        for option, value in zip(words[::2], words[1::2], strict=True):
            if option != "cluster-enabled":  # tells no CONFIG GET
                assert client.config_get(option)[option] == value


async def test_nothing_is_doubtful_about_the_one_server(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, *options = services("redis")["redis"]["command"]
    with RedisServer(tmp_path, *(each.removeprefix("--") for each in options)) as server:
        store = open_store(f"{server.url}{PATIENT}")
        await store.start()
        await store.close()
    assert not [each for each in caplog.records if each.levelname == "WARNING"]


def test_a_sentinel_takes_its_file(tmp_path: Path) -> None:
    found = services("redis-sentinel")
    target = Target.parse(found["authz"]["environment"]["AUTHZ_STORE"])
    lines = re.search(r"<<END\n(.*?)^END$", script(found["sentinel-1"]), re.DOTALL | re.MULTILINE)
    assert lines is not None
    with RedisServer(tmp_path) as master:
        there = f"{target.name} 127.0.0.1 {master.port}"
        text, changed = re.subn(rf"{target.name} redis-1 6379", there, lines[1])
        assert changed == 1
        text = re.sub(r"^(port|sentinel (resolve|announce)-hostnames) .*\n", "", text, flags=re.MULTILINE)
        (tmp_path / "sentinel.conf").write_text(text)
        with RedisServer(tmp_path, mode=[str(tmp_path / "sentinel.conf"), "--sentinel"]) as sentinel:
            _, port = sentinel.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", target.name)
            assert int(port) == master.port


@pytest.mark.parametrize(
    ("overlay", "name"), [("redis-sentinel", "sentinel-1"), ("redis-cluster", "together")]
)
def test_a_shell_can_read_it(overlay: str, name: str) -> None:
    subprocess.run(["sh", "-n"], input=script(services(overlay)[name]), text=True, check=True)
