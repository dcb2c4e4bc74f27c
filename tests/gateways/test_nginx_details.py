"""What only nginx does: refusing by itself, its internal locations, header bytes through njs."""

import json
import ssl

import pytest

from tests.support.model import DemoModel
from tests.support.nginx import Nginx
from tests.support.raw_http import RawResponse, exchange, request_bytes
from tests.support.stub_authz import IDENTITY, Allowing, Denying, StubAuthz

GATEWAY = Nginx


def code(response: RawResponse) -> str:
    assert response.header("content-type") == "application/json"
    error = response.json()["error"]
    assert set(error) == {"message", "type", "code", "param"}
    return str(error["code"])


REFUSED_EARLY = {
    "1 above the root": (b"GET /../../x HTTP/1.1\r\nHost: h\r\n\r\n", 400, "invalid_request"),
    "8 bad escape": (b"GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n", 400, "invalid_request"),
    "8 encoded nul": (b"GET /%00 HTTP/1.1\r\nHost: h\r\n\r\n", 400, "invalid_request"),
    "14 asterisk": (b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", 400, "invalid_request"),
    "14 no slash": (b"GET x HTTP/1.1\r\nHost: h\r\n\r\n", 400, "invalid_request"),
    "14 connect": (b"CONNECT h:443 HTTP/1.1\r\nHost: h\r\n\r\n", 400, "invalid_method"),
    "19 trace": (b"TRACE / HTTP/1.1\r\nHost: h\r\n\r\n", 400, "invalid_method"),
    "space in the path": (b"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", 400, "invalid_request"),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400, "invalid_request"),
    "17 host with a path": (b"GET / HTTP/1.1\r\nHost: ok/public?\r\n\r\n", 400, "invalid_request"),
    "37 two authorizations": (
        b"GET / HTTP/1.1\r\nHost: h\r\nAuthorization: a\r\nAuthorization: b\r\n\r\n",
        400,
        "invalid_request",
    ),
    "39 nul in a header": (b"GET / HTTP/1.1\r\nHost: h\r\nX-A: a\x00b\r\n\r\n", 400, "invalid_request"),
    "96 both lengths": (
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "invalid_request",
    ),
    "a long target": (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: h\r\n\r\n", 400, "invalid_path"),
    "a long header": (
        b"GET / HTTP/1.1\r\nHost: h\r\nX-A: " + b"a" * 20_000 + b"\r\n\r\n",
        400,
        "invalid_request",
    ),
    "an internal location": (b"GET /_authz HTTP/1.1\r\nHost: h\r\n\r\n", 403, "route_not_allowed"),
    "an internal list": (b"GET /_authz_models HTTP/1.1\r\nHost: h\r\n\r\n", 403, "route_not_allowed"),
    "an internal answer": (
        b"GET /_authz_error/unavailable HTTP/1.1\r\nHost: h\r\n\r\n",
        403,
        "route_not_allowed",
    ),
}


@pytest.mark.parametrize("case", REFUSED_EARLY)
def test_what_nginx_refuses_by_itself_looks_like_an_answer_of_authz(
    gateway: Nginx, tls: ssl.SSLContext, authz: StubAuthz, model: DemoModel, case: str
) -> None:
    data, status, expected = REFUSED_EARLY[case]
    response = exchange(gateway.around.https, data, tls=tls)
    assert (response.status, code(response)) == (status, expected)
    assert not authz.asked
    assert not model.received()


def test_plain_http_to_the_tls_port_is_refused(gateway: Nginx, authz: StubAuthz) -> None:
    response = exchange(gateway.around.https, request_bytes())
    assert (response.status, code(response)) == (400, "invalid_request")
    assert not authz.asked


def test_112_the_internal_path_is_not_what_authz_is_told(
    gateway: Nginx, tls: ssl.SSLContext, authz: StubAuthz
) -> None:
    exchange(gateway.around.https, request_bytes("GET", "/v1//chat/../x?y=1"), tls=tls)
    assert authz.last.header("x-original-uri") == "/v1//chat/../x?y=1"


def test_111_a_429_stays_a_429(gateway: Nginx, tls: ssl.SSLContext, authz: StubAuthz) -> None:
    # The contract has it with every header; here with none, as the smallest answer that is possible.
    authz.answer = Denying(status=429, headers=(), body=b"{}")
    response = exchange(gateway.around.https, request_bytes(), tls=tls)
    assert (response.status, response.body) == (429, b"{}")


def test_38_header_bytes_pass_through_njs_unchanged(
    gateway: Nginx, tls: ssl.SSLContext, authz: StubAuthz, model: DemoModel
) -> None:
    authz.answer = Allowing(upstream=(*IDENTITY.items(), ("x-name", "J\xfcrgen")))
    headers: list[tuple[str | bytes, str | bytes]] = [
        ("X-Latin", b"caf\xe9 \xff"),
        ("X-Utf", "caf\u00e9".encode()),
        ("X-Twice", b"\xff one"),
        ("X-Twice", b"two"),
        ("X-Plain-Twice", "one"),
        ("X-Plain-Twice", "two"),
        ("X-Tab", "a\tb"),
        ("X-Empty", ""),
        ("X-Replacement", "\ufffd".encode()),
        ("X-Name", "mallory"),
    ]
    assert exchange(gateway.around.https, request_bytes("GET", "/echo", headers), tls=tls).status == 200
    received = model.last()
    assert received.header("x-latin") == "caf\xe9 \xff"
    assert received.header("x-utf") == "caf\u00e9".encode().decode("latin-1")
    assert received.header("x-twice") == "\xff one, two"
    assert received.values("x-plain-twice") == ["one", "two"]
    assert received.header("x-tab") == "a\tb"
    assert received.header("x-empty") == ""
    assert received.header("x-replacement") == "\ufffd".encode().decode("latin-1")
    assert received.header("x-name") == "J\xfcrgen"


def test_a_hundred_headers_and_a_long_one_pass(
    gateway: Nginx, tls: ssl.SSLContext, authz: StubAuthz, model: DemoModel
) -> None:
    headers: list[tuple[str | bytes, str | bytes]] = [(f"X-Number-{n}", str(n)) for n in range(100)]
    headers.append(("X-Long", "y" * 12_000))
    assert exchange(gateway.around.https, request_bytes("GET", "/echo", headers), tls=tls).status == 200
    received = model.last()
    assert [received.header(f"x-number-{n}") for n in range(100)] == [str(n) for n in range(100)]
    assert received.header("x-long") == "y" * 12_000


def test_a_target_from_authz_that_is_none_lets_nothing_through(
    gateway: Nginx, tls: ssl.SSLContext, authz: StubAuthz, model: DemoModel
) -> None:
    authz.answer = Allowing(target="@elsewhere.example/")
    response = exchange(gateway.around.https, request_bytes("GET", "/echo?k=1"), tls=tls)
    assert (response.status, code(response)) == (503, "authz_unavailable")
    assert not model.received()


def test_the_access_log_tells_the_verdict(gateway: Nginx, tls: ssl.SSLContext, authz: StubAuthz) -> None:
    exchange(gateway.around.https, request_bytes("GET", "/echo/logged-allow?x=1"), tls=tls)
    authz.answer = Denying(status=401)
    exchange(gateway.around.https, request_bytes("GET", "/echo/logged-refuse"), tls=tls)
    authz.answer = Denying(status=500)
    exchange(gateway.around.https, request_bytes("GET", "/echo/logged-broken"), tls=tls)
    log = gateway.log_with("/echo/logged-broken")
    lines = [json.loads(line) for line in log.splitlines() if line.startswith('{"time"')]
    told = {line["target"]: (line["authz"], line["status"]) for line in lines if "logged-" in line["target"]}
    assert told == {
        "/echo/logged-allow?...": ("allow", 200),
        "/echo/logged-refuse": ("refuse", 401),
        "/echo/logged-broken": ("unavailable: answer 500", 503),
    }
