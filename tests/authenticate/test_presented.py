"""Slots: headers, query parameters, cookies."""

import pytest

from authz.authenticate.presented import AUTHORIZATION, Slot, Twice, bearer
from tests.authenticate.fakes import present

KEY = Slot("header", "x-api-key")
TOKEN = Slot("query", "token")
SESSION = Slot("cookie", "session")


@pytest.mark.parametrize(
    ("value", "credential"),
    [
        ("Bearer abc", "abc"),
        ("bearer abc", "abc"),
        ("BEARER abc", "abc"),
        ("Bearer  abc", " abc"),
        ("Bearer abc ", "abc "),
        ("Bearer a b", "a b"),
        ("Bearer", ""),
        ("Bearer ", ""),
        ("Bearer\tabc", None),
        ("Bearerabc", None),
        ("Basic YTpi", None),
        ("abc", None),
        (" Bearer abc", None),
    ],
)
def test_bearer(value: str, credential: str | None) -> None:
    assert bearer(value) == credential


def test_only_authorization_has_a_scheme() -> None:
    presented = present({"authorization": "Bearer a", "x-api-key": "Bearer b"})
    assert presented.credential(AUTHORIZATION) == "a"
    assert presented.credential(KEY) == "Bearer b"


@pytest.mark.parametrize(
    ("target", "value"),
    [
        ("/x?token=abc", "abc"),
        ("/x?a=1&token=a%2Bb&b=2", "a+b"),
        ("/x?t%6Fken=abc", "abc"),
        ("/x?token=", None),
        ("/x?token", None),
        ("/x?Token=abc", None),
        ("/x", None),
        ("/x?token=%FF", "\ufffd"),
    ],
)
def test_query(target: str, value: str | None) -> None:
    assert present(target=target).read(TOKEN) == value


@pytest.mark.parametrize(
    "target", ["/x?token=a&token=b", "/x?token=a&token=a", "/x?token=a&t%6Fken=b", "/x?token=a&token="]
)
def test_attack_36_a_parameter_twice(target: str) -> None:
    with pytest.raises(Twice, match="query token was sent twice"):
        present(target=target).read(TOKEN)


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("session=abc", "abc"),
        ("a=1; session=abc; b=2", "abc"),
        ('session="abc"', "abc"),
        ("session=a=b", "a=b"),
        ("session", None),
        ("; =x;; session", None),
        ("Session=abc", None),
        ("other=1, session=abc", None),
    ],
)
def test_cookies_and_attack_34_malformed_ones(header: str, value: str | None) -> None:
    assert present({"cookie": header}).read(SESSION) == value


def test_http2_may_split_the_cookie_header() -> None:
    presented = present({"cookie": "a=1, session=abc"}, repeated=frozenset({"cookie"}))
    assert presented.read(SESSION) == "abc"


@pytest.mark.parametrize(
    ("header", "repeated"), [("session=a; session=b", False), ("session=a, session=b", True)]
)
def test_a_cookie_twice(header: str, repeated: bool) -> None:
    presented = present({"cookie": header}, repeated=frozenset({"cookie"}) if repeated else frozenset())
    with pytest.raises(Twice):
        presented.read(SESSION)


def test_attack_37_a_header_twice() -> None:
    with pytest.raises(Twice):
        present({"x-api-key": "a, b"}, repeated=frozenset({"x-api-key"})).read(KEY)
