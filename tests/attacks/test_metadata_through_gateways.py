"""22-45 through each gateway: what a client says in headers that only gateways may set, and odd credentials."""

import ssl
from pathlib import Path

import pytest
from cryptography import x509

from tests.attacks.site import BALANCER, ELSEWHERE, OFFICE, Way, bearer, signed
from tests.support.certificates import CLIENT_URI, Authority, Pair
from tests.support.raw_http import exchange, request_bytes

ROUTES_ELSEWHERE = {
    "22 X-Forwarded-Uri": {"X-Forwarded-Uri": "/open"},
    "22 X-Forwarded-Method": {"X-Forwarded-Method": "OPTIONS"},
    "22 X-Original-URI": {"X-Original-URI": "/open", "X-Original-Method": "OPTIONS"},
    "22 X-Original-URL": {"X-Original-URL": "/open", "X-Rewrite-URL": "/open"},
    "23 x-envoy-original-path": {"x-envoy-original-path": "/open"},
    "25 X-Forwarded-Prefix": {"X-Forwarded-Prefix": "/open", "X-Forwarded-Path": "/open"},
    "22 X-Forwarded-Host": {"X-Forwarded-Host": "open.test", "X-Host": "open.test"},
    "33 a load balancer's probe": {"User-Agent": "ELB-HealthChecker/2.0"},
    "33 a kubelet's probe": {"User-Agent": "kube-probe/1.31"},
}


@pytest.mark.parametrize("case", ROUTES_ELSEWHERE)
def test_no_header_opens_another_route(way: Way, case: str) -> None:
    """`/open` lets everybody in; `/keys` does not."""
    way.passes("/open")
    way.is_refused(401, "/keys", ROUTES_ELSEWHERE[case])


GATEWAYS_OWN = {
    "25 X-Forwarded-Prefix": ("X-Forwarded-Prefix", "/spoofed"),
    "25 X-Forwarded-Proto": ("X-Forwarded-Proto", "spoofed"),
    "26 X_Forwarded_Proto": ("X_Forwarded_Proto", "spoofed"),
    "26 X.Forwarded.Proto": ("X.Forwarded.Proto", "spoofed"),
    "27 X_Authz_User": ("X_Authz_User", "spoofed"),
    "27 X-Authz_User": ("X-Authz_User", "spoofed"),
    "28 X.Authz.User": ("X.Authz.User", "spoofed"),
    "29 X-Authz-Team": ("X-Authz-Team", "spoofed"),
    "29 x-authz-model": ("x-authz-model", "spoofed"),
    "29 a claim's header": ("X-Is-Admin", "spoofed"),
    "28 a claim's header with dots": ("X.Is.Admin", "spoofed"),
    "27 a claim's header with underscores": ("X_Is_Admin", "spoofed"),
    "40 Forwarded": ("Forwarded", "for=spoofed"),
    "43 X-Forwarded-Client-Cert": ("X-Forwarded-Client-Cert", "spoofed"),
    "43 X-Forwarded-Tls-Client-Cert": ("X-Forwarded-Tls-Client-Cert", "spoofed"),
    "43 X-Client-Cert": ("X-Client-Cert", "spoofed"),
}


@pytest.mark.parametrize("case", GATEWAYS_OWN)
def test_nothing_of_it_reaches_the_model_server(way: Way, case: str) -> None:
    """The token has no such claim, so nothing is set in the place of what the client sent."""
    answer = way.ask("/sso", [*bearer(way.idp.token()).items(), GATEWAYS_OWN[case]])
    assert answer.status in (200, 400), "a gateway may refuse such a name by itself"
    assert "spoofed" not in repr(way.model.received)
    assert len(way.model.received) == (answer.status == 200)


def test_30_connection_strips_no_identity(way: Way) -> None:
    received = way.passes("/sso", [*bearer(way.idp.token()).items(), ("Connection", "close, X-Authz-User")])
    assert received.header("x-authz-user") == "sso:alice"


TRAILERS = {
    "of ours": "X-Authz-User: spoofed",
    "of ours that is not set": "X-Authz-Team: spoofed",
    "a claim's header": "X-Is-Admin: spoofed",
    "of a gateway": "X-Forwarded-Proto: spoofed",
}


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "not announced"])
@pytest.mark.parametrize("case", TRAILERS)
def test_96_no_trailer_becomes_a_header(way: Way, case: str, announced: bool) -> None:
    """It comes when everything is decided, and servers there are (uvicorn) that count it among the headers."""
    line = TRAILERS[case]
    sent = [*bearer(way.idp.token()).items(), ("Transfer-Encoding", "chunked")]
    if announced:
        sent.append(("Trailer", line.partition(":")[0]))
    way.model.received.clear()
    body = b"5\r\nhello\r\n0\r\n" + line.encode() + b"\r\n\r\n"
    data = request_bytes("POST", "/sso", [*sent], body, host="localhost", length=False)
    port = way.site.gateways[way.kind].around.https
    answer = exchange(port, data, tls=way.site.certificates.trust(), method="POST")
    assert answer.status in (200, 400)
    assert "spoofed" not in repr(way.model.received)
    assert len(way.model.received) == (answer.status == 200)


def test_31_a_header_is_found_however_it_is_written(way: Way) -> None:
    """The config says X-APIKEY."""
    key = way.site.key().key
    for name in ("x-apikey", "X-ApiKey", "X-APIKEY"):
        assert "x-apikey" not in {each for each, _ in way.passes("/keys", {name: key}).headers}


@pytest.mark.parametrize("text", ["a\r\nX-Is-Admin: yes", "a\nX-Is-Admin: yes", "a\0b", "a\x7fb"], ids=ascii)
def test_32_a_claim_breaks_no_header(way: Way, text: str) -> None:
    answer = way.ask("/sso", bearer(signed(way.idp, note=text)))
    assert answer.status in (200, 401)
    for received in way.model.received:
        assert (received.header("x-note") or "").isprintable()
        assert received.header("x-is-admin") is None


COOKIES = [
    "session",
    "session=",
    "=session",
    "session=a; session=b",
    ";;;",
    "session=%00",
    'session="',
    "a=1,session=2",
]


@pytest.mark.parametrize("cookie", COOKIES)
def test_34_a_malformed_cookie_lets_nobody_in(way: Way, cookie: str) -> None:
    way.is_refused((400, 401), "/sso", {"Cookie": cookie})


@pytest.mark.parametrize(
    "header",
    [
        ("Authorization", "Bearer wrong"),
        ("X-APIKEY", "wrong"),
        ("Authorization", "Basic YTpi"),
        ("Authorization", ""),
    ],
    ids=["bearer", "x-apikey", "another scheme", "empty"],
)
def test_35_a_bad_credential_is_no_anonymous_access(way: Way, header: tuple[str, str]) -> None:
    if header[1]:
        way.is_refused(401, "/open", [header])
    else:  # nothing was shown
        way.passes("/open", [header])


def test_36_two_credentials_of_two_users(way: Way) -> None:
    one, other = way.site.key(user="alice").key, way.site.key(user="bob").key
    answer = way.is_refused(400, "/keys", {**bearer(one), "X-APIKEY": other})
    assert answer.json()["error"]["code"] == "conflicting_credentials"


@pytest.mark.parametrize("name", ["X-APIKEY", "Authorization"])
def test_37_one_header_twice(way: Way, name: str) -> None:
    scheme = "Bearer " if name == "Authorization" else ""
    one, other = (f"{scheme}{way.site.key(user=user).key}" for user in ("alice", "bob"))
    for values in ((one, other), (one, one), (other, one)):
        way.is_refused(400, "/keys", [(name, value) for value in values])


ODD = {
    "38 Latin-1": b"sk-az-\xe4\xf6\xfc",
    "38 no UTF-8": b"sk-az-\xff\xfe\x80",
    "39 a tab": b"sk-az-\tabc",
    "39 NUL": b"sk-az-\x00abc",
    "39 a bell": b"sk-az-\x07abc",
    "39 obs-fold": b"sk-az-abc\r\n def",
    "71 beyond ASCII": "sk-az-é€".encode(),
}


@pytest.mark.parametrize("case", ODD)
def test_bytes_that_no_key_has(way: Way, case: str) -> None:
    way.model.received.clear()
    data = request_bytes("GET", "/keys", [("X-APIKEY", ODD[case])], host="localhost")
    answer = exchange(way.site.gateways[way.kind].around.https, data, tls=way.site.certificates.trust())
    assert answer.status in (400, 401)
    assert not way.model.received


ADDRESSES = {
    "40 the leftmost": (f"{OFFICE}, {ELSEWHERE}",),
    "40 several fields": (OFFICE, ELSEWHERE),
    "41 mapped, of another": (f"{OFFICE}, ::ffff:{ELSEWHERE}",),
    "42 a zone": (f"{OFFICE}%eth0",),
    "42 octal": ("0177.0.0.2",),
    "42 one number": ("2130706434",),
    "42 full-width digits": ("１27.0.0.2",),
    "42 a port": (f"{OFFICE}:80",),
    "42 a name": ("localhost",),
    "42 brackets": (f"[::ffff:{OFFICE}]",),
}


@pytest.mark.parametrize("case", ADDRESSES)
def test_no_address_but_the_clients_own_counts(way: Way, case: str) -> None:
    headers = [("X-Forwarded-For", value) for value in ADDRESSES[case]]
    encoded = [(name, value.encode().decode("latin-1")) for name, value in headers]
    for source in (BALANCER, ELSEWHERE):
        way.is_refused(403, "/office", encoded, source=source)


def test_41_an_address_is_the_same_in_other_clothes(way: Way) -> None:
    way.passes("/office", {"X-Forwarded-For": f"::ffff:{OFFICE}"}, source=BALANCER)
    way.is_refused(403, "/office", {"X-Forwarded-For": f"::ffff:{OFFICE}"}, source=ELSEWHERE)


def test_43_and_44_a_certificate_in_a_header(way: Way) -> None:
    """In the spelling of each gateway, and of Envoy with several elements, quotes and semicolons."""
    pem = way.site.certificates.client.read_text()
    plain = "".join(pem.splitlines()[1:-1])
    escaped = pem.replace("\n", "%0A").replace(" ", "%20").replace("+", "%2B")
    for name, value in (
        ("X-Forwarded-Tls-Client-Cert", plain),
        ("X-Client-Cert", escaped),
        ("X-Client-Cert", plain),
        ("X-SSL-Client-Cert", escaped),
        ("X-Forwarded-Client-Cert", f'Cert="{escaped}"'),
        ("X-Forwarded-Client-Cert", f'By=x;Hash=y,Cert="{escaped}";Subject="";URI={CLIENT_URI}'),
        ("X-Forwarded-Client-Cert", f'Subject="CN=\\";Cert=\\"{escaped}";URI={CLIENT_URI};Cert="{escaped}"'),
    ):
        way.is_refused(401, "/mtls", [(name, value), ("X-Client-Verify", "SUCCESS")])


@pytest.fixture(scope="session")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    """Certificates of somebody else's authority; those of ours are in `others`."""
    foreign = Authority(tmp_path_factory.mktemp("foreign"))
    uri: list[x509.GeneralName] = [x509.UniformResourceIdentifier(CLIENT_URI)]
    return {
        "45 another authority of the same name": foreign.issue("client", uri),
        "45 expired": foreign.issue("expired", uri, days=-1),
        "45 for servers": foreign.issue("server", uri, server=True),
    }


@pytest.mark.parametrize("case", ["45 another authority of the same name", "45 expired", "45 for servers"])
def test_45_a_certificate_that_the_authority_did_not_sign(
    way: Way, shown: dict[str, Pair], case: str, tmp_path: Path
) -> None:
    context = way.site.certificates.trust()
    context.load_cert_chain(shown[case].cert, shown[case].key)
    way.model.received.clear()
    data = request_bytes("GET", "/mtls", [], host="localhost")
    try:
        status = exchange(way.site.gateways[way.kind].around.https, data, tls=context).status
    except (ConnectionError, ssl.SSLError):
        status = 0  # the gateway ended the handshake
    assert status in (0, 400, 401)
    assert not way.model.received
