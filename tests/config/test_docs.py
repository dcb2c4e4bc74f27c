"""The documentation names every key, and no key that does not exist; its examples load."""

import re
from pathlib import Path

import pytest

from authz.config import loads
from authz.config.limits import DIMENSIONS, PREFIXES
from authz.config.shape import key_paths
from authz.config.store import SCHEMES
from tests.config.conftest import DOCS, documented_examples


def test_every_key_is_documented_and_only_those() -> None:
    documented = re.findall(r"^\| `([a-z][^`]*)` \|", DOCS.read_text(), re.MULTILINE)
    assert sorted(documented) == sorted(set(key_paths()))


@pytest.mark.parametrize("text", documented_examples())
def test_examples_load(text: str, tmp_path: Path) -> None:
    loads(text, directory=tmp_path, environ={}, secrets_required=False)


def test_partition_keys_and_stores_are_documented() -> None:
    text = DOCS.read_text()
    wanted = [*DIMENSIONS, *(f"{prefix}:x" for prefix in PREFIXES)]
    assert [name for name in wanted if f"`{name}`" not in text] == []
    assert [scheme for scheme in SCHEMES if scheme not in text and not scheme.startswith("rediss+")] == []
