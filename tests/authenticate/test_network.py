"""Addresses as a condition (attacks 40-42)."""

import pytest

from authz.authenticate.network import NetworkAuthenticator
from authz.authenticate.protocol import Refused
from authz.reason import Reason
from authz.subject import Subject
from tests.authenticate.fakes import at_once, present

OFFICE = NetworkAuthenticator(
    "office", ["10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "::ffff:198.51.100.0/120"]
)


@pytest.mark.parametrize(
    "ip",
    [
        "10.0.0.1",
        "10.255.255.255",
        "192.0.2.7",
        "2001:db8::1",
        "2001:DB8:0::1",
        "198.51.100.9",
        pytest.param("::ffff:10.0.0.1", id="41 mapped"),
        pytest.param("::ffff:a00:1", id="41 mapped, in hex"),
        pytest.param("0:0:0:0:0:ffff:0a00:0001", id="41 mapped, in full"),
    ],
)
def test_inside(ip: str) -> None:
    found = at_once(OFFICE.authenticate(present(ip=ip)))
    assert found == Subject(user="network:office", authenticator="office")
    assert at_once(OFFICE.authenticate(present(ip=ip))) is found


@pytest.mark.parametrize(
    "ip",
    [
        None,
        "",
        "11.0.0.1",
        "192.0.2.8",
        "2001:db9::1",
        "::1",
        "::10.0.0.1",
        "64:ff9b::10.0.0.1",
        "10.0.0.1:80",
        "10.0.0.1, 10.0.0.2",
        " 10.0.0.1",
        "10.0.0.1/8",
        "[2001:db8::1]",
        "unknown",
        "::ffff:11.0.0.1",
        pytest.param("2001:db8::1%eth0", id="42 zone"),
        pytest.param("fe80::1%eth0", id="42 link-local zone"),
        pytest.param("010.0.0.1", id="42 octal"),
        pytest.param("0xa.0.0.1", id="42 hexadecimal"),
        pytest.param("167772161", id="42 one number"),
        pytest.param("10.1", id="42 short"),
        pytest.param("１０.0.0.1", id="42 full-width digits"),
        pytest.param("١٠.0.0.1", id="42 Arabic digits"),
    ],
)
def test_outside_or_unreadable(ip: str | None) -> None:
    for _ in range(2):
        outcome = at_once(OFFICE.authenticate(present(ip=ip)))
        assert isinstance(outcome, Refused)
        assert outcome.reason is Reason.NETWORK_REFUSED


def test_the_operator_is_told_which_address_and_which_networks() -> None:
    outcome = at_once(
        NetworkAuthenticator("office", [f"10.{n}.0.0/16" for n in range(9)]).authenticate(
            present(ip="203.0.113.1")
        )
    )
    assert isinstance(outcome, Refused)
    assert outcome.detail == ""  # nothing of it for the client
    assert outcome.note == (
        "203.0.113.1 is in no network of `office`: 10.0.0.0/16, 10.1.0.0/16, 10.2.0.0/16, 10.3.0.0/16 and others."
    )


def test_40_forwarding_headers_are_not_looked_at() -> None:
    headers = {"x-forwarded-for": "10.0.0.1", "forwarded": "for=10.0.0.1", "x-real-ip": "10.0.0.1"}
    assert isinstance(at_once(OFFICE.authenticate(present(headers, ip="203.0.113.1"))), Refused)
    assert isinstance(at_once(OFFICE.authenticate(present(headers))), Refused)


def test_an_empty_list_allows_nobody() -> None:
    assert isinstance(at_once(NetworkAuthenticator("none", []).authenticate(present(ip="10.0.0.1"))), Refused)


@pytest.mark.parametrize(
    "text", ["10.0.0.1/8", "10.0.0.0/33", "office", "", "fe80::%eth0/64x", "010.0.0.0/8"]
)
def test_networks_that_cannot_be_read(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        NetworkAuthenticator("office", [text])


def test_a_v6_network_around_the_mapped_ones_is_not_all_of_v4() -> None:
    wide = NetworkAuthenticator("wide", ["::/0"])
    assert isinstance(at_once(wide.authenticate(present(ip="::ffff:10.0.0.1"))), Refused)
