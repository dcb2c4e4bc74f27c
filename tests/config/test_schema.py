"""The published JSON Schema: valid, described throughout, and of one mind with the loader about the examples."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from authz.config.schema import DIALECT, json_schema
from authz.config.yaml_source import parse
from tests.config.conftest import documented_examples

SCHEMA = json_schema()
VALIDATOR = Draft202012Validator(SCHEMA)
BROKEN = Path(__file__).parent / "broken"


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == DIALECT


def described(schema: Any, path: str = "") -> Iterator[tuple[str, bool]]:
    for name, part in schema.get("properties", {}).items():
        yield f"{path}.{name}", bool(part.get("description"))
    for name, part in schema.get("$defs", {}).items():
        yield from described(part, name)


def test_every_key_has_a_description() -> None:
    keys = dict(described(SCHEMA))
    assert len(keys) > 90
    assert [key for key, has_one in keys.items() if not has_one] == []


@pytest.mark.parametrize("text", documented_examples())
def test_examples_are_valid(text: str) -> None:
    assert list(VALIDATOR.iter_errors(parse(text.encode(), "f").data)) == []


@pytest.mark.parametrize(
    "text",
    [
        "limits: {a: 60r/m, b: {unit: cost, quota: 1.5, window: day, partition_by: none}}",
        "gateways: {a: {kind: nginx, token: a-literal-one, max_body: 1MiB}}",
        "store: {env: STORE}",
        "backends: {a: {url: 'http://x', models: any}}",
    ],
)
def test_other_forms_are_valid(text: str) -> None:
    assert list(VALIDATOR.iter_errors(parse(text.encode(), "f").data)) == []


@pytest.mark.parametrize(
    "name",
    ["unknown_keys", "not_one_of", "wrong_kinds", "bad_names", "empty_lists", "key_without_value", "matches"],
)
def test_broken_files_are_invalid(name: str) -> None:
    data = parse((BROKEN / f"{name}.yaml").read_bytes(), "f").data
    assert list(VALIDATOR.iter_errors(data))
