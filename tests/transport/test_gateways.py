from hashlib import sha256
from typing import Any

import pytest

from authz.request import GatewayKind
from authz.transport import address as addresses
from authz.transport.address import UNIX, UNKNOWN, client_address, grpc_peer, is_loopback, parse_address
from authz.transport.gateways import GatewayEntry, GatewayRegistry
from authz.transport.peer_certificate import PeerCertificate
from tests.transport.support import networks

EDGE = GatewayEntry(
    name="edge", kind=GatewayKind.ENVOY, token_digest=sha256(b"secret").digest(), request_id_is_ours=True
)
LOOPBACK = ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1", UNIX]
ELSEWHERE = [
    "10.0.0.1",
    "::ffff:10.0.0.1",
    "2001:db8::1",
    UNKNOWN,
    "localhost",
    "127.0.0.1%eth0",
    "0177.0.0.1",
]


def entry(**changes: Any) -> GatewayEntry:
    values: dict[str, Any] = {
        "name": "edge",
        "kind": GatewayKind.ENVOY,
        "token_digest": sha256(b"secret").digest(),
    }
    return GatewayEntry(**values | changes)


@pytest.mark.parametrize("peer", LOOPBACK)
def test_without_a_token_this_machine_gets_an_unproven_gateway(peer: str) -> None:
    gateway = GatewayRegistry([EDGE]).identify(GatewayKind.ENVOY, None, peer)
    assert gateway is not None
    assert (gateway.name, gateway.proven, gateway.request_id_is_ours) == ("envoy", False, False)


@pytest.mark.parametrize("peer", ELSEWHERE, ids=lambda peer: f"attack-24-{peer}")
def test_without_a_token_nobody_else_is_answered(peer: str) -> None:
    assert GatewayRegistry([EDGE]).identify(GatewayKind.ENVOY, None, peer) is None


@pytest.mark.parametrize("peer", [*LOOPBACK, "10.0.0.1", "2001:db8::1"])
def test_its_token_proves_a_gateway_from_anywhere(peer: str) -> None:
    gateway = GatewayRegistry([EDGE]).identify(GatewayKind.ENVOY, "secret", peer)
    assert gateway is not None
    assert (gateway.name, gateway.proven, gateway.request_id_is_ours) == ("edge", True, True)


@pytest.mark.parametrize("token", ["", "Secret", "secret ", "sécret", "x" * 100_000, "sec\udcffret"])
def test_a_wrong_token_is_refused_even_on_loopback(token: str) -> None:
    assert GatewayRegistry([EDGE]).identify(GatewayKind.ENVOY, token, "127.0.0.1") is None


def test_a_token_is_good_for_its_own_kind_only() -> None:
    registry = GatewayRegistry([EDGE])
    assert registry.identify(GatewayKind.TRAEFIK, "secret", "127.0.0.1") is None
    found = registry.identify(None, "secret", "127.0.0.1")
    assert found is not None
    assert found.name == "edge"


def test_an_entry_without_a_token_proves_nothing() -> None:
    registry = GatewayRegistry([entry(token_digest=None)])
    gateway = registry.identify(GatewayKind.ENVOY, None, "127.0.0.1")
    assert gateway is not None
    assert not gateway.proven
    assert registry.identify(GatewayKind.ENVOY, "", "127.0.0.1") is None


@pytest.mark.parametrize(
    ("peer", "good"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("11.1.2.3", False),
        ("2001:db8::5", True),
        ("::1", False),
        (UNIX, False),
        (UNKNOWN, False),
        ("10.1.2.3%x", False),
    ],
)
def test_from_restricts_the_peer_besides_the_token(peer: str, good: bool) -> None:
    registry = GatewayRegistry([entry(networks=networks("10.0.0.0/8", "2001:db8::/32"))])
    for _ in range(2):  # asked, then remembered
        assert (registry.identify(GatewayKind.ENVOY, "secret", peer) is not None) is good


def test_a_unix_socket_counts_as_loopback_for_from() -> None:
    registry = GatewayRegistry([entry(networks=networks("127.0.0.1/32"))])
    assert registry.identify(GatewayKind.ENVOY, "secret", UNIX) is not None


def test_no_repr_shows_the_token() -> None:
    assert "secret" not in repr(EDGE)
    assert "secret" not in repr(vars(GatewayRegistry([EDGE])))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:DB8::1", "2001:db8::1"),
        (" 203.0.113.7\t", "203.0.113.7"),
        ("1.1.1.1, 203.0.113.7", "203.0.113.7"),
        ("junk, 203.0.113.7", "203.0.113.7"),
        ("203.0.113.7, junk", None),
        ("203.0.113.7,", None),
        ("", None),
        ("unknown", None),
        ("1.2.3.4:80", None),
        ("[::1]:80", None),
        ("fe80::1%eth0", None),
        ("010.0.0.1", None),
        ("１.2.3.4", None),
        ("1.2.3", None),
        ("1" * 100, None),
        ('for="1.2.3.4"', None),
        ("1.2.3.4\x00", None),
    ],
    ids=lambda value: f"attack-40-42-{value}",
)
def test_the_client_is_the_rightmost_address_or_nobody(text: str, address: str | None) -> None:
    assert client_address(text) == address


def test_no_address_is_remembered_that_is_none_by_its_length() -> None:
    for known in (addresses._known_address, addresses._spelled):
        known.cache_clear()
    assert parse_address("1" * 60_000) is client_address("1" * 60_000) is None
    assert client_address("1" * 60_000 + ", 203.0.113.7") == "203.0.113.7"
    assert addresses._spelled.cache_info().currsize == addresses._known_address.cache_info().currsize == 1


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("ipv4:127.0.0.1:4711", "127.0.0.1"),
        ("ipv6:[::1]:4711", "::1"),
        ("ipv6:%5B::1%5D:4711", "::1"),
        ("unix:/run/x.sock", UNIX),
        ("unix:", UNIX),
        ("unix-abstract:x", UNIX),
        ("vsock:1:2", UNKNOWN),
        ("", UNKNOWN),
    ],
)
def test_grpc_peers(peer: str, host: str) -> None:
    assert grpc_peer(peer) == host


def test_loopback_is_decided_on_the_address_itself() -> None:
    assert parse_address("::ffff:127.0.0.1") == parse_address("127.0.0.1")
    assert not is_loopback("127.0.0.1.evil.example")


def certificate(*names: str, fingerprint: str = "00" * 32, until: float = 2000) -> PeerCertificate:
    return PeerCertificate(names=frozenset(names), fingerprint=fingerprint, not_before=1000, not_after=until)


def certified(**changes: Any) -> GatewayRegistry:
    by_name = entry(token_digest=None, subjects=("Edge.Lab", "spiffe://lab/Edge"), **changes)
    by_print = entry(name="print", kind=GatewayKind.CADDY, token_digest=None, fingerprints=("ab" * 32,))
    return GatewayRegistry([by_name, by_print], clock=lambda: 1500)


@pytest.mark.parametrize("peer", ["127.0.0.1", "10.0.0.1", "2001:db8::1"])
@pytest.mark.parametrize("name", ["edge.lab", "spiffe://lab/Edge"])
def test_its_certificate_proves_a_gateway_from_anywhere(peer: str, name: str) -> None:
    gateway = certified().identify(GatewayKind.ENVOY, None, peer, certificate("other.lab", name))
    assert gateway is not None
    assert (gateway.name, gateway.proven) == ("edge", True)


@pytest.mark.parametrize(
    "shown",
    [
        certificate(),
        certificate("other.lab"),
        certificate("a.edge.lab"),
        certificate("*.lab"),
        certificate("spiffe://lab/edge"),  # a URI's path has cases
        certificate("SPIFFE://lab/Edge"),
        certificate("ab" * 32),  # a name that looks like a fingerprint
        certificate("edge.lab", until=1499),
        certificate(fingerprint="ab" * 32),  # of a gateway of another kind
        None,
    ],
    ids=lambda shown: ",".join(sorted(shown.names)) if shown is not None else "none",
)
def test_any_other_certificate_proves_nothing(shown: PeerCertificate | None) -> None:
    nearby = certified().identify(GatewayKind.ENVOY, None, "127.0.0.1", shown)
    assert nearby is not None
    assert not nearby.proven
    assert certified().identify(GatewayKind.ENVOY, None, "10.0.0.1", shown) is None


def test_a_fingerprint_proves_its_own_gateway() -> None:
    found = certified().identify(GatewayKind.CADDY, None, "10.0.0.1", certificate(fingerprint="ab" * 32))
    assert found is not None
    assert found.name == "print"


def test_a_connection_outlives_its_certificate_but_the_proof_does_not() -> None:
    now = [1500.0]
    registry = GatewayRegistry([entry(token_digest=None, subjects=("edge.lab",))], clock=lambda: now[0])
    shown = certificate("edge.lab", until=1600)
    assert registry.identify(GatewayKind.ENVOY, None, "10.0.0.1", shown) is not None
    now[0] = 1601
    assert registry.identify(GatewayKind.ENVOY, None, "10.0.0.1", shown) is None


def test_from_restricts_the_peer_besides_the_certificate() -> None:
    registry = certified(networks=networks("10.0.0.0/8"))
    assert registry.identify(GatewayKind.ENVOY, None, "10.1.2.3", certificate("edge.lab")) is not None
    assert registry.identify(GatewayKind.ENVOY, None, "11.1.2.3", certificate("edge.lab")) is None


@pytest.mark.parametrize("token", ["", "secret", "x" * 1000])
def test_a_wrong_token_beside_a_certificate_is_refused(token: str) -> None:
    assert certified().identify(GatewayKind.ENVOY, token, "127.0.0.1", certificate("edge.lab")) is None
