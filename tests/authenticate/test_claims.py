"""Strict JSON, claims by path, claims as headers."""

from typing import Any
from urllib.parse import unquote

import pytest

from authz.authenticate.claims import claim, first_identifier, is_name, names, spell, words
from authz.authenticate.strict_json import Malformed, read_object
from authz.header_text import header_value


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"[]", id="list"),
        pytest.param(b'"x"', id="string"),
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="cut"),
        pytest.param(b"{} {}", id="two"),
        pytest.param(b"\xef\xbb\xbf{}", id="byte order mark"),
        pytest.param('{"a":1}'.encode("utf-16"), id="UTF-16"),
        pytest.param(b'{"a":"\xff"}', id="not UTF-8"),
        pytest.param(b'{"a":1,"a":1}', id="attack 66: twice"),
        pytest.param(b'{"a":1,"\\u0061":2}', id="attack 66: twice, escaped"),
        pytest.param(b'{"x":[{"a":1,"a":2}]}', id="attack 66: twice, inside"),
        pytest.param(b'{"a":NaN}', id="attack 65: NaN"),
        pytest.param(b'{"a":-Infinity}', id="attack 65: Infinity"),
        pytest.param(b'{"a":1e400}', id="attack 65: 1e400"),
        pytest.param(b'{"a":' + b"9" * 5000 + b"}", id="5,000 digits"),
        pytest.param(b'{"a":"\\ud800"}', id="half a surrogate pair"),
        pytest.param(b'{"\\udc00":1}', id="half a surrogate pair in a name"),
        pytest.param(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", id="attack 61: 100,000 lists"),
        pytest.param(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, id="attack 61: 100,000 objects"),
        pytest.param(b'{"a":' + b"[" * 32 + b"]" * 32 + b"}", id="33 deep"),
    ],
)
def test_json_that_is_refused(raw: bytes) -> None:
    with pytest.raises(Malformed):
        read_object(raw)


def test_json_that_is_read() -> None:
    assert read_object(b' {"a": [1, 2.5, null, true], "b": {"c": "\\ud83d\\ude00"}} ') == {
        "a": [1, 2.5, None, True],
        "b": {"c": "\U0001f600"},
    }
    assert read_object(b'{"a":' + b"[" * 31 + b"]" * 31 + b"}")


CLAIMS: dict[str, Any] = {
    "sub": "alice",
    "realm_access": {"roles": ["ml", "ops"]},
    "settings": {"payout": {"paypal": {"enabled": True}}},
    "https://example.com/roles": ["namespaced"],
    "a.b": {"c": 1},
    "a": {"b": {"c": 2, "d": 3}},
    "list": [{"x": 1}],
    "nothing": None,
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("sub", "alice"),
        ("realm_access.roles", ["ml", "ops"]),
        ("settings.payout.paypal.enabled", True),
        ("https://example.com/roles", ["namespaced"]),
        ("a.b.d", 3),
        ("a.b.c", 2),
        ("sub.x", None),
        ("list.x", None),
        ("list.0", None),
        ("missing", None),
        ("settings.", None),
        (".", None),
        ("", None),
        ("nothing", None),
    ],
)
def test_claims_by_path(path: str, value: object) -> None:
    assert claim(CLAIMS, path) == value


@pytest.mark.parametrize(
    ("claims", "user"),
    [
        ({"aud": ["x"], "uid": 7}, "7"),
        ({"aud": "x", "uid": 7}, "x"),
        ({"aud": ["x"], "uid": True, "login": "a"}, "a"),
        ({"aud": "", "uid": 1.5, "login": "a"}, "a"),
        ({"uid": 0}, "0"),
        ({"uid": {"a": 1}}, None),
        ({}, None),
    ],
)
def test_the_first_string_or_number_is_the_user(claims: dict[str, Any], user: str | None) -> None:
    assert first_identifier(claims, ("aud", "uid", "login")) == user


@pytest.mark.parametrize(
    "text",
    ["", " a", "a ", "a\n", "a\r\nx: y", "a\x00", "a\x7f", "a\u202eb", "a\u2028b", "a\xa0b", "x" * 257],
)
def test_no_names(text: str) -> None:
    assert not is_name(text)


@pytest.mark.parametrize(
    "text", ["alice", "alice@example.com", "Zoë Ångström", "李", "auth0|123", "a:b", "x" * 256]
)
def test_good_names(text: str) -> None:
    assert is_name(text)


def test_sets_of_names() -> None:
    assert names(["a", 1, None, "", "b"]) == {"a", "b"}
    assert names("a b") == {"a b"}
    assert names(7) == names(None) == names({"a": 1}) == frozenset()
    assert words("a  b") == words(["a", "b"]) == {"a", "b"}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (False, "false"),
        (7, "7"),
        (1.5, "1.5"),
        ("x", "x"),
        (["a", 1], '["a",1]'),
        ({"a": "é"}, '{"a":"\\u00e9"}'),
    ],
)
def test_claims_as_text(value: object, text: str) -> None:
    assert spell(value) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain text-1/2;a=b,c", "plain text-1/2;a=b,c"),
        ("a\r\nx-admin: 1", "a%0D%0Ax-admin: 1"),
        ("a\x00b\x7f", "a%00b%7F"),
        ("Zoë", "Zo%C3%AB"),
        ("50%", "50%25"),
        (" a ", "%20a%20"),
        ("  ", "%20%20"),
        ("\u2028", "%E2%80%A8"),
        ('{"a":"b"}', '{"a":"b"}'),
    ],
)
def test_attack_32_claims_in_headers(text: str, value: str) -> None:
    assert header_value(text) == value
    assert unquote(value) == text
    assert value.isascii()
    assert value.isprintable()
