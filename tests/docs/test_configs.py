"""Every configuration in the documentation is one with which `authz` would start, its secrets being there."""

import base64
import json
import re
from pathlib import Path

import pytest

from authz.cli.main import run
from tests.docs.pages import DOCS, Block, blocks
from tests.support.certificates import make_certificates

# docs/configuration.md also shows what later versions will do; tests/config holds it to its own test.
PAGES = sorted(
    page for page in [*DOCS.glob("*.md"), *DOCS.glob("from/*.md")] if page.name != "configuration.md"
)
_HASH = "$2y$04$PWNARRM5JX9UYq05GXnhv.JfwSvj8FPcoufBSKgMcoNJL0y5X9gUO"


def _in_a_directory(text: str, directory: Path) -> str:
    """The same config with its absolute paths below `directory`, and with every secret's file."""
    text = re.sub(
        r"(?<![\w.:])/(etc|run|var)/",
        rf"{directory}/\1/",
        text.replace("sqlite:///", f"sqlite://{directory}/"),
    )
    for number, path in enumerate(re.findall(r"\{file: ([^}]+)\}", text)):
        secret = directory / path
        secret.parent.mkdir(parents=True, exist_ok=True)
        text_of = base64.b64encode(bytes([number]) * 32).decode()
        secret.write_text(f"carol:{_HASH}" if secret.suffix == ".htpasswd" else text_of)
        secret.chmod(0o600)
    if "decisions:" in text and "client_ca" in text:
        _certificates(directory / "etc/authz/tls")
    return text


def _certificates(directory: Path) -> None:
    """authz's own and the authority of gateways, under the names of the documentation."""
    made = make_certificates(directory)
    for name, file in (
        ("authz.crt", made.server),
        ("authz.key", made.server_key),
        ("gateways-ca.crt", made.authority),
    ):
        file.rename(directory / name)


@pytest.mark.parametrize("block", blocks("yaml", PAGES), ids=lambda block: block.place)
def test_the_config_is_valid(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in re.findall(r"\{env: (\w+)\}", block.text):
        monkeypatch.setenv(name, base64.b64encode(name.encode().ljust(32, b".")).decode())
    file = tmp_path / "authz.yaml"
    file.write_text(_in_a_directory(block.text, tmp_path))
    code = run(["config", "validate", str(file), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert (code, told["problems"], told["warnings"]) == (0, [], [])


def test_examples_of_keys_can_be_imported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = [block for block in blocks("json", PAGES) if '"user"' in block.text]
    (tmp_path / "keys.jsonl").write_text(block.text.replace("2027-01-31", "2097-01-31"))
    config = tmp_path / "authz.yaml"
    config.write_text("authenticators: {keys: {type: api_key}}\nmodels: {llama3-8b: {}}\n")
    assert run(["keys", "import", str(tmp_path / "keys.jsonl"), "--config", str(config)]) == 0
    assert capsys.readouterr().out == "2 imported, 0 there already\n"
