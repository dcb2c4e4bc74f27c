"""Proxies before a gateway: who is the client (attacks 40-42)."""

from ipaddress import ip_network

import pytest

from authz.request import GatewayKind
from authz.transport.hops import TrustedHops
from tests.transport.support import TOKENS, FakeService, ask, check, grpc_app, http_app, original, registry

NETWORKS = (ip_network("10.0.0.0/8"), ip_network("192.0.2.7"), ip_network("2001:db8::/32"))
HOPS = TrustedHops(NETWORKS)


@pytest.mark.parametrize(
    ("forwarded_for", "client"),
    [
        pytest.param("203.0.113.9", "203.0.113.9", id="directly"),
        pytest.param("203.0.113.9, 10.0.0.1", "203.0.113.9", id="one proxy"),
        pytest.param("203.0.113.9, 192.0.2.7, 10.0.0.1", "203.0.113.9", id="two proxies"),
        pytest.param("10.9.9.9, 203.0.113.9, 10.0.0.1", "203.0.113.9", id="40 spoofed as trusted"),
        pytest.param("1.1.1.1, 2.2.2.2, 203.0.113.9, 10.0.0.1", "203.0.113.9", id="40 spoofed"),
        pytest.param("garbage, 203.0.113.9, 10.0.0.1", "203.0.113.9", id="40 garbage behind the client"),
        pytest.param("10.0.0.1, 203.0.113.9", "203.0.113.9", id="40 who is no proxy speaks for nobody"),
        pytest.param("10.1.1.1, 10.0.0.1", "10.1.1.1", id="a proxy asks by itself"),
        pytest.param(" ,, 10.0.0.1", "10.0.0.1", id="empty parts"),
        pytest.param("2001:db8:1::1, 2001:db8::1", "2001:db8:1::1", id="IPv6 proxies"),
        pytest.param("203.0.113.9, ::ffff:10.0.0.1", "203.0.113.9", id="41 mapped proxy"),
        pytest.param("::ffff:203.0.113.9, 10.0.0.1", "203.0.113.9", id="41 mapped client"),
        pytest.param("", None, id="nothing"),
        pytest.param("garbage, 10.0.0.1", None, id="42 garbage where the client should be"),
        pytest.param("unknown, 10.0.0.1", None, id="42 unknown"),
        pytest.param("203.0.113.9:4711, 10.0.0.1", None, id="42 port"),
        pytest.param("010.0.0.1, 10.0.0.1", None, id="42 octal"),
        pytest.param("fe80::1%eth0, 10.0.0.1", None, id="42 zone"),
        pytest.param("203.0.113.9, 10.0.0.1, garbage", None, id="42 garbage last"),
        pytest.param("203.0.113.9, " + "10.0.0.1, " * 400, None, id="too long"),
    ],
)
def test_the_walk(forwarded_for: str, client: str | None) -> None:
    for _ in range(2):
        assert HOPS.client(forwarded_for) == client


def test_a_chain_of_proxies_has_an_end() -> None:
    assert HOPS.client("203.0.113.9" + ", 10.0.0.1" * 100) is None


def test_no_long_chain_is_remembered() -> None:
    """A client writes it, 60 KB of it through Envoy, and 4096 are remembered."""
    hops = TrustedHops(NETWORKS)
    assert hops.client("1" * 60_000 + ", 203.0.113.9") is None
    assert not hops._known


@pytest.mark.parametrize("kind", GatewayKind)
@pytest.mark.parametrize("token", [True, False], ids=["proven", "unproven"])
async def test_over_http(kind: GatewayKind, token: bool) -> None:
    service = FakeService()
    app = http_app(service, gateways=registry(trusted_hops=NETWORKS))
    method, path, headers = original(kind, ip="1.1.1.1, 203.0.113.9, 10.0.0.1", token=token)
    await ask(app, path, headers, method=method)
    assert service.last.ip == ("203.0.113.9" if token else None)


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "203.0.113.9, 10.0.0.1", "203.0.113.9"),  # as Envoy appends it
        ("203.0.113.9", "10.0.0.7", "203.0.113.9"),  # 40: nobody believes who is no proxy
        ("203.0.113.9", "10.0.0.7, 203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", None, "10.0.0.1"),
        ("/run/socket", "203.0.113.9", None),
    ],
)
async def test_over_grpc(peer: str, forwarded_for: str | None, client: str | None) -> None:
    service = FakeService()
    app = grpc_app(service, gateways=registry(trusted_hops=NETWORKS))
    headers = [("x-forwarded-for", forwarded_for)] if forwarded_for is not None else []
    message = check(ip=peer, headers=headers).SerializeToString()
    await app.answer(message, TOKENS[GatewayKind.ENVOY], "ipv4:127.0.0.1:1")
    assert service.last.ip == client
