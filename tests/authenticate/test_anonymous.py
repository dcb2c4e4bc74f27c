"""Callers without a credential: one subject, and never the outcome of a failure (invariant 2)."""

from typing import Any

import pytest

from authz.authenticate.anonymous import AnonymousAuthenticator
from authz.authenticate.combine import AllOf, AnyOf
from authz.authenticate.network import NetworkAuthenticator
from authz.authenticate.presented import AUTHORIZATION, Slot, Twice
from authz.authenticate.protocol import Refused
from authz.reason import Reason
from authz.subject import Subject
from tests.authenticate.fakes import at_once, present, with_secret
from tests.authenticate.test_combine import MINTED, OTHER, real_keys

GUEST = AnonymousAuthenticator("anyone", "guest")
NOBODY = Subject(user="anyone:guest", authenticator="anyone")


def ask(*authenticators: Any, **presented: Any) -> Any:
    headers = presented.pop("headers", {})
    return at_once(AnyOf(authenticators).authenticate(present(headers, **presented)))


def test_nothing_presented() -> None:
    assert ask(GUEST) == NOBODY
    assert ask(real_keys(), GUEST) == NOBODY
    assert ask(GUEST, real_keys()) == NOBODY


def test_a_good_credential_wins() -> None:
    assert ask(GUEST, real_keys(), headers={"authorization": f"Bearer {MINTED.key}"}).user == "alice"


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {OTHER.key}"},
        {"authorization": "Bearer dummy"},
        {"authorization": "Bearer "},
        {"authorization": "Bearer"},
        {"authorization": "Basic YTpi"},
        {"authorization": "Negotiate YIIJ"},
        {"authorization": MINTED.key},
        {"x-api-key": "dummy"},
    ],
    ids=[
        "unknown",
        "dummy",
        "empty",
        "scheme alone",
        "another scheme",
        "negotiate",
        "no scheme",
        "x-api-key",
    ],
)
@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
def test_35_no_failure_becomes_anonymous_access(headers: dict[str, str], first: bool) -> None:
    both = (GUEST, real_keys()) if first else (real_keys(), GUEST)
    assert isinstance(ask(*both, headers=headers), Refused)
    office = NetworkAuthenticator("office", ["10.0.0.0/8"])
    assert isinstance(ask(*both, office, headers=headers, ip="10.0.0.1"), Refused)


def test_35_nor_does_a_bad_cookie_or_parameter() -> None:
    sso = with_secret(token_from=(AUTHORIZATION, Slot("cookie", "session"), Slot("query", "token")))
    assert isinstance(ask(sso, GUEST, headers={"cookie": "session=x"}), Refused)
    assert isinstance(ask(sso, GUEST, target="/v1/models?token=x"), Refused)
    assert ask(sso, GUEST, headers={"cookie": "theme=dark"}, target="/v1/models?page=2") == NOBODY


def test_36_nor_does_one_sent_twice() -> None:
    headers, repeated = {"x-api-key": "a, b"}, frozenset({"x-api-key"})
    assert ask(real_keys(), GUEST, headers=headers, repeated=repeated).reason is Reason.DUPLICATE_CREDENTIAL


def test_36_whatever_reads_it() -> None:
    """A slot that its own authenticator passes over is looked at before anybody is let in."""

    class Blind:
        name, ambient, challenge, wants = "blind", False, "", ""
        slots, asserts = (AUTHORIZATION,), frozenset[str]()

        async def authenticate(self, presented: Any) -> None:
            return None

    with pytest.raises(Twice):
        ask(Blind(), GUEST, headers={"authorization": "a, b"}, repeated=frozenset({"authorization"}))
    refused = ask(Blind(), GUEST, headers={"authorization": "Basic YTpi"})
    assert refused.reason is Reason.CREDENTIAL_MISSING
    assert "YTpi" not in refused.detail


def test_where_nobody_asks_for_credentials_none_is_looked_at() -> None:
    assert ask(GUEST, headers={"authorization": "Bearer dummy"}) == NOBODY


def test_a_network_counts_before_nobody() -> None:
    office = NetworkAuthenticator("office", ["10.0.0.0/8"])
    assert ask(office, GUEST, ip="10.0.0.1").user == "network:office"
    assert ask(office, GUEST, ip="203.0.113.1") == NOBODY


def test_in_all_of_it_adds_nothing() -> None:
    combined = AllOf([GUEST, real_keys()])
    assert at_once(combined.authenticate(present())).reason is Reason.CREDENTIAL_MISSING  # type: ignore[union-attr]
