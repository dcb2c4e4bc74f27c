"""Scalars without surprises, and positions of everything."""

from typing import Any

import pytest

from authz.config.problem import Position
from authz.config.yaml_source import parse


def data(text: str) -> Any:
    return parse(text.encode(), "f").data


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"),
        ("no", "no"),
        ("Yes", "Yes"),
        ("true", True),
        ("False", False),
        ("60r/m", "60r/m"),
        ("50M", "50M"),
        ("010", "010"),
        ("0o17", "0o17"),
        ("0x1f", "0x1f"),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("190:20:30", "190:20:30"),
        ("2026-01-01", "2026-01-01"),
        ("1e400", "1e400"),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("9" * 5000, "9" * 5000),
        ("0", 0),
        ("-7", -7),
        ("0.10", 0.1),
        ("1e3", 1000.0),
        ("~", None),
        ("null", None),
        ("", None),
        ("'60'", "60"),
        ('"true"', "true"),
        ('"caf\\u00e9"', "café"),
    ],
)
def test_scalars(text: str, value: object) -> None:
    found = data(f"a: {text}\n")["a"]
    assert found == value
    assert type(found) is type(value)


def test_keys_are_always_text() -> None:
    assert data("on: 1\n401: 2\n1.5: 3\n'<<': 4\n") == {"on": 1, "401": 2, "1.5": 3, "<<": 4}


def test_positions_of_keys_and_values() -> None:
    source = parse(b"a:\n  - {b: 1, c: [x,  'y']}\n  -   d\n", "f")
    assert source.keys[("a",)] == Position(1, 1)
    assert source.values[("a",)] == Position(2, 3)
    assert source.keys[("a", 0, "c")] == Position(2, 12)
    assert source.values[("a", 0, "c", 1)] == Position(2, 20)
    assert source.values[("a", 1)] == Position(3, 7)


def test_anchors_and_merges() -> None:
    text = "base: &b {x: 1, y: [2]}\nother: {<<: *b, x: 3}\nboth: {<<: [{x: 8}, *b]}\nsame: *b\n"
    assert data(text) == {
        "base": {"x": 1, "y": [2]},
        "other": {"x": 3, "y": [2]},
        "both": {"x": 8, "y": [2]},
        "same": {"x": 1, "y": [2]},
    }


def test_an_alias_stands_where_it_is_used() -> None:
    source = parse(b"a: &x {b: 1}\nc: *x\n", "f")
    assert source.values[("c",)] == Position(2, 4)
    assert source.values[("c", "b")] == Position(1, 11)


def test_first_of_duplicate_keys_stays() -> None:
    source = parse(b"a: 1\na: 2\n", "f")
    assert source.data == {"a": 1}
    assert [(p.line, p.column) for p in source.problems] == [(2, 1)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('w: "a = b"', Position(1, 7)),
        ("w: 'a = b'", Position(1, 7)),
        ("w: a = b", Position(1, 6)),
        ("w: |\n  a = b\n", Position(1, 4)),
        ('w: "\\x61 = b"', Position(1, 4)),
    ],
)
def test_places_inside_a_text(text: str, expected: Position) -> None:
    source = parse(text.encode(), "f")
    value = source.data["w"]
    assert source.inside(("w",), value, value.index("=")) == expected
