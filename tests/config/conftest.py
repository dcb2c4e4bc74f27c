import re
from collections.abc import Callable
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs" / "configuration.md"
SECRETS = {
    "env": "an-admin-token-of-the-environment",
    "edge": "the-token-of-the-gateway-edge",
    "vllm-a": "the-key-of-the-backend-vllm-a",
    "users.htpasswd": "carol:$2y$04$PWNARRM5JX9UYq05GXnhv.JfwSvj8FPcoufBSKgMcoNJL0y5X9gUO",
}
ENVIRON = {"AUTHZ_ADMIN_TOKEN": SECRETS["env"]}


def documented_examples() -> list[str]:
    """The YAML files of the documentation."""
    return re.findall(r"```yaml\n(.*?)```", DOCS.read_text(), re.DOTALL)


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The documentation's whole file, with its secrets beside it."""
    for name in ("edge", "vllm-a", "users.htpasswd"):
        secret = tmp_path / name
        secret.write_text(f"  {SECRETS[name]}\n")
        secret.chmod(0o600)
    path = tmp_path / "authz.yaml"
    path.write_text(documented_examples()[0].replace("/run/secrets/", ""))
    return path


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a config file."""

    def write(text: str) -> Path:
        path = tmp_path / "authz.yaml"
        path.write_text(text)
        return path

    return write
