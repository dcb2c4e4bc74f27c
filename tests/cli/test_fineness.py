"""A limit that Redis could only round is refused by the command that would give it."""

from pathlib import Path

import pytest

from tests.cli.conftest import CONFIG, Authz
from tests.support.redis import RedisServer

FINE = "99999989"


@pytest.fixture
def on_redis(config: Path, server: RedisServer) -> None:
    config.write_text(CONFIG.replace("sqlite:authz.db", f"{server.url}?budget=10000ms"))


@pytest.mark.parametrize(
    "command",
    [
        ("keys", "create", "--user", "alice"),
        ("users", "add", "alice"),
        ("teams", "add", "nlp"),
    ],
    ids=lambda words: words[0],
)
@pytest.mark.usefixtures("on_redis")
def test_a_limit_of_an_owner(authz: Authz, command: tuple[str, ...]) -> None:
    refused = authz(*command, "--limit", f"requests={FINE}/24h")
    assert refused.code == 2
    assert "a rounder quota" in refused.err
    assert authz(command[0], "list", "--json").json == []
    assert authz(*command, "--limit", "requests=100M/24h", "--limit", f"tokens={FINE}/24h").code == 0


@pytest.mark.usefixtures("on_redis")
def test_an_override(authz: Authz, config: Path) -> None:
    config.write_text(config.read_text().replace("window: 1m, partition_by: [key]", "window: 24h"))
    refused = authz("limits", "override", "key-rpm", FINE)
    assert refused.code == 2
    assert "a rounder quota" in refused.err
    assert authz("limits", "override", "key-rpm", "100M").code == 0


def test_a_file_counts_everything(authz: Authz) -> None:
    assert authz("keys", "create", "--user", "alice", "--limit", f"requests={FINE}/24h").code == 0
