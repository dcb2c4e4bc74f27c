"""A client certificate, shown to authz itself: who is proven, who gets plain decisions, who does not get in."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from envoy.service.auth.v3 import external_auth_pb2 as auth

from authz.authenticate.key_format import MintedKey
from tests.acceptance.lab import eventually
from tests.mtls.lab import NAMES, UPSTREAM, Lab
from tests.support.certificates import Pair
from tests.support.ports import free_port
from tests.support.raw_grpc import METHOD, check_request
from tests.support.raw_http import RawResponse, exchange, request_bytes
from tests.support.rendered import RenderedNginx

TOKEN = ("X-Authz-Gateway-Token", "token-of-a-gateway-without-certificate")
Header = tuple[str | bytes, str | bytes]


@pytest.fixture(scope="module")
def key(lab: Lab) -> MintedKey:
    return lab.key()


def over_http(
    lab: Lab, key: MintedKey, shown: Pair | None, *more: Header, kind: str = "nginx"
) -> RawResponse:
    """As nginx asks. Raises ConnectionError and ssl.SSLError where the handshake fails."""
    names = (
        ("X-Forwarded-Method", "X-Forwarded-Uri")
        if kind != "nginx"
        else ("X-Original-Method", "X-Original-URI")
    )
    headers: list[Header] = [
        ("Authorization", f"Bearer {key.key}"),
        ("X-Forwarded-For", "127.0.0.1"),
        ("X-Forwarded-Host", "llm.test"),
        (names[0], "GET"),
        (names[1], "/echo/headers"),
        *more,
    ]
    data = request_bytes("GET", f"/auth/{kind}", headers)
    return exchange(lab.service.http, data, tls=lab.certified.trust(shown))


def over_grpc(lab: Lab, key: MintedKey, shown: Pair | None) -> auth.CheckResponse:
    """As Envoy asks. Raises grpc.RpcError where the handshake fails."""
    credentials = grpc.ssl_channel_credentials(
        lab.certified.servers.file.read_bytes(),
        shown.key.read_bytes() if shown is not None else None,
        shown.cert.read_bytes() if shown is not None else None,
    )
    request = check_request(request_bytes("GET", "/echo/headers", [("Authorization", f"Bearer {key.key}")]))
    with grpc.secure_channel(f"localhost:{lab.service.grpc}", credentials) as channel:
        check = channel.unary_unary(
            METHOD,
            request_serializer=auth.CheckRequest.SerializeToString,
            response_deserializer=auth.CheckResponse.FromString,
        )
        return check(request, timeout=5)


def is_proven(answer: RawResponse | auth.CheckResponse) -> bool:
    assert not isinstance(answer, RawResponse) or answer.status == 200
    return UPSTREAM in repr(answer)


def issue(lab: Lab, which: str) -> Pair:
    """Certificates that prove nothing, or do not get in."""
    authority, foreign = lab.certified.authority, lab.certified.foreign
    here = [x509.DNSName("nginx.lab"), x509.UniformResourceIdentifier(NAMES["envoy"])]
    stem = which.replace(" ", "-").replace(",", "")
    match which:
        case "of another authority":
            return foreign.issue(stem, here)
        case "expired":
            return authority.issue(stem, here, days=-1)
        case "for servers":
            return authority.issue(stem, here, server=True)
        case "of nobody that is named":
            return authority.issue(stem, [x509.DNSName("nobody.lab")])
        case "without a name":
            return authority.issue(stem, common="")
        case "a common name beside other names":
            return authority.issue(stem, [x509.DNSName("nobody.lab")], common="nginx.lab")
        case "a mail address":
            return authority.issue(stem, [x509.RFC822Name("nginx.lab@x.lab")], common="nginx.lab")
        case "a URI for a name":
            return authority.issue(stem, [x509.UniformResourceIdentifier("nginx.lab")])
        case "a name below":
            return authority.issue(stem, [x509.DNSName("a.nginx.lab"), x509.DNSName("nginx.lab.x")])
        case "a star":
            return authority.issue(stem, [x509.DNSName("*.lab")])
    raise AssertionError(which)


KEPT_OUT = ("of another authority", "expired", "for servers")
NOBODY = (
    "of nobody that is named",
    "without a name",
    "a common name beside other names",
    "a mail address",
    "a URI for a name",
    "a name below",
    "a star",
)


class TestOverHttp:
    @pytest.mark.parametrize("kind", ["nginx", "traefik", "caddy"])
    def test_its_own_certificate_proves_a_gateway(self, lab: Lab, key: MintedKey, kind: str) -> None:
        """By its common name, a DNS name, its fingerprint."""
        assert is_proven(over_http(lab, key, getattr(lab.certified, kind), kind=kind))

    @pytest.mark.parametrize("kind", ["nginx", "traefik", "caddy"])
    def test_that_of_another_kind_does_not(self, lab: Lab, key: MintedKey, kind: str) -> None:
        assert not is_proven(over_http(lab, key, lab.certified.envoy, kind=kind))

    @pytest.mark.parametrize("which", KEPT_OUT)
    def test_what_the_authority_did_not_sign_for_clients_does_not_get_in(
        self, lab: Lab, key: MintedKey, which: str
    ) -> None:
        with pytest.raises((ConnectionError, ssl.SSLError)):
            over_http(lab, key, issue(lab, which))

    @pytest.mark.parametrize("which", NOBODY)
    def test_what_no_entry_names_proves_nothing(self, lab: Lab, key: MintedKey, which: str) -> None:
        assert not is_proven(over_http(lab, key, issue(lab, which)))

    def test_none_proves_nothing(self, lab: Lab, key: MintedKey) -> None:
        assert not is_proven(over_http(lab, key, None))

    def test_a_token_proves_without_one(self, lab: Lab, key: MintedKey) -> None:
        assert is_proven(over_http(lab, key, None, TOKEN))

    def test_a_wrong_token_is_not_made_good_by_one(self, lab: Lab, key: MintedKey) -> None:
        wrong = ("X-Authz-Gateway-Token", "not-" + TOKEN[1])
        assert over_http(lab, key, lab.certified.nginx, wrong).status == 403

    @pytest.mark.parametrize("name", ["X-Forwarded-Client-Cert", "X-Client-Cert", "X-SSL-Client-Cert"])
    def test_a_header_is_no_certificate(self, lab: Lab, key: MintedKey, name: str) -> None:
        """Attack 43, against the proof of the gateway itself."""
        text = lab.certified.nginx.cert.read_text().replace("\n", "%0A")
        assert not is_proven(over_http(lab, key, None, (name, text), ("X-Client-Verify", "SUCCESS")))

    def test_plain_http_is_no_way_in(self, lab: Lab) -> None:
        with pytest.raises(ConnectionError):
            exchange(lab.service.http, request_bytes("GET", "/livez", []))


class TestOverGrpc:
    def test_its_own_certificate_proves_envoy(self, lab: Lab, key: MintedKey) -> None:
        assert is_proven(over_grpc(lab, key, lab.certified.envoy))

    @pytest.mark.parametrize("kind", ["nginx", "traefik", "caddy"])
    def test_that_of_another_kind_does_not(self, lab: Lab, key: MintedKey, kind: str) -> None:
        assert not is_proven(over_grpc(lab, key, getattr(lab.certified, kind)))

    @pytest.mark.parametrize("which", KEPT_OUT)
    def test_what_the_authority_did_not_sign_for_clients_does_not_get_in(
        self, lab: Lab, key: MintedKey, which: str
    ) -> None:
        with pytest.raises(grpc.RpcError):
            over_grpc(lab, key, issue(lab, which))

    @pytest.mark.parametrize("which", NOBODY)
    def test_what_no_entry_names_proves_nothing(self, lab: Lab, key: MintedKey, which: str) -> None:
        assert not is_proven(over_grpc(lab, key, issue(lab, which)))

    def test_without_one_nobody_gets_in(self, lab: Lab, key: MintedKey) -> None:
        with pytest.raises(grpc.RpcError):
            over_grpc(lab, key, None)


def test_the_door_of_nginx_to_authz_is_for_nginx_alone(lab: Lab) -> None:
    """Its scripts can show no certificate, so nginx shows its own for them; for nobody else."""
    gateway = lab.gateway("nginx")
    assert isinstance(gateway, RenderedNginx)
    with gateway:
        door = gateway.settings().reports.port
        for more in ((), (("X-Authz-Secret", ""),), (("X-Authz-Secret", "0" * 64),)):
            peer = ("X-Authz-Peer", f"127.0.0.1:{lab.service.http}")
            headers: list[Header] = [("Content-Type", "application/json"), peer, *more]
            for path, status in (("/v1/usage", 403), ("/v1/models", 404), ("/auth/nginx", 404)):
                answer = exchange(door, request_bytes("POST", path, headers, body=b"[]"))
                assert answer.status == status


@pytest.fixture
def own(tmp_path: Path, lab: Lab) -> Iterator[Lab]:
    """A service of its own, whose files may change."""
    with Lab(tmp_path, lab.certificates) as own:
        yield own


def test_a_new_certificate_is_shown_without_a_restart(own: Lab) -> None:
    """Both servers: its serial number changes, and a wrong file changes nothing."""
    certified, key = own.certified, own.key()
    first = served(own)
    pair = certified.server
    pair.cert.write_text("not a certificate")
    eventually(lambda: "not reloaded" in own.service.log)
    assert served(own) == first
    certified.servers.issue("authz", [x509.DNSName("localhost")], server=True)
    eventually(lambda: served(own) != first)
    assert is_proven(over_http(own, key, certified.nginx))
    assert is_proven(over_grpc(own, key, certified.envoy))
    assert pair.key.read_text() not in own.service.log


def test_a_name_that_is_taken_away_proves_nothing_from_then_on(own: Lab) -> None:
    key = own.key()
    assert is_proven(over_http(own, key, own.certified.nginx))
    config = own.service.config.read_text()
    own.service.config.write_text(config.replace("nginx.lab", "another.lab"))
    eventually(lambda: not is_proven(over_http(own, key, own.certified.nginx)))


def served(lab: Lab) -> str:
    """The certificate that both servers show."""
    http, rpc = (
        ssl.get_server_certificate(("127.0.0.1", port)) for port in (lab.service.http, lab.service.grpc)
    )
    return http if http == rpc else f"{http} {rpc} {free_port()}"
