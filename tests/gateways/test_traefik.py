"""Traefik, run with the committed configuration and plugins.

It differs from nginx and Caddy where it normalises or refuses before any middleware runs; each difference is
a test of its own here.
"""

import json
import time
from typing import Any

import httpx2
import pytest

from tests.gateways.forward_auth_contract import (
    KEY,
    NEVER_ALTERED,
    PASSED_AS_THEY_CAME,
    REFUSAL_HEADERS,
    UNAVAILABLE,
    ForwardAuthContract,
    Headers,
    is_spoofable,
    sha256,
    ssl_connection,
)
from tests.support.certificates import Certificates
from tests.support.gateway import RealGateway
from tests.support.model import DemoModel
from tests.support.raw_http import chunked, exchange, request_bytes
from tests.support.stub_authz import IDENTITY, Allowing, Denying, StubAuthz, error_body
from tests.support.traefik import Traefik

GATEWAY = Traefik

# Percent-encoding is brought to its normal form (RFC 3986 6.2.2) before anything else happens, and `;` in a query
# becomes `&`: for authz and the model server alike.
NORMALISED = {
    "/echo/%2e%2e/x": "/echo/../x",
    "/echo/%c0%af": "/echo/%C0%AF",
    "/echo/%7Euser": "/echo/~user",
    '/echo?q=[a]|^`{}"<>\\;x': '/echo?q=[a]|^`{}"<>\\&x',
}
BECOMES_THE_LIST_OF_MODELS = "/v1/%6dodels"
NOT_ROUTED = "*"

DASHED = [
    "X-Authz-User",
    "X-Authz-Key",
    "X-Authz-Gateway-Token",
    "X-Authz-Path",
    "X-Authz-Client-Ratelimit",
    "X-Authz",
]
ALIASES = [
    "X_Authz_User",
    "X-Authz_User",
    "X_User",
    "X_Forwarded_Proto",
    "X.Authz.User",
    "X-Authz.Team",
    "X.User",
    "X.Original.Url",
]


class TestTraefik(ForwardAuthContract):
    kind = "traefik"
    asked_uri = "x-forwarded-uri"
    asked_method = "x-forwarded-method"

    def test_22_descriptions_by_the_client_are_not_believed(
        self, send: Any, authz: StubAuthz, model: DemoModel
    ) -> None:
        forged = {
            "X-Forwarded-Uri": "/public",
            "X-Forwarded-Method": "OPTIONS",
            "X-Forwarded-Host": "public.example",
            "X-Forwarded-Proto": "ftp",
            "X-Forwarded-For": "10.9.8.7",
            "X-Forwarded-Prefix": "/public",
            "X-Forwarded-User": "admin",
            "X-Forwarded-Tls-Client-Cert": "forged",
            "X-Original-URI": "/public",
            "X-Original-Method": "OPTIONS",
            "X-Envoy-Original-Path": "/public",
            "X-Rewrite-Url": "/public",
            "X-Client-Cert": "forged",
            "X-Client-Verify": "SUCCESS",
            "X-HTTP-Method-Override": "DELETE",
            "Forwarded": "for=10.9.8.7",
            "X-Real-IP": "10.9.8.7",
        }
        assert send("POST", "/echo", list(forged.items()), b"{}").status == 200
        asked = authz.last
        assert asked.header("x-forwarded-uri") == "/echo"
        assert asked.header("x-forwarded-method") == "POST"
        assert asked.header("x-forwarded-host") == "llm.test"
        assert asked.header("x-forwarded-proto") == "https"
        assert asked.header("x-forwarded-for") == "127.0.0.1"
        for seen in (asked.headers, model.last().headers):
            assert not {value for _, value in seen} & (set(forged.values()) - {"/public"})
            assert "/public" not in str(seen)

    @pytest.mark.parametrize("name", DASHED)
    def test_29_spoofed_headers_end_at_the_gateway(
        self, send: Any, authz: StubAuthz, model: DemoModel, name: str
    ) -> None:
        for identity in (tuple(IDENTITY.items()), ()):
            authz.answer = Allowing(upstream=identity)
            assert send("POST", "/echo", [(name, "spoofed")], b"{}").status == 200
            assert "spoofed" not in str(model.last().headers) + str(authz.last.headers)
            found = [(key, value) for key, value in model.last().headers if is_spoofable(key)]
            assert sorted(found) == sorted(identity)
            assert authz.last.token == "gateway-token-of-the-tests"

    @pytest.mark.parametrize("name", ALIASES)
    def test_26_27_28_names_that_read_as_others_are_refused(
        self, send: Any, authz: StubAuthz, model: DemoModel, name: str
    ) -> None:
        assert send("POST", "/echo", [(name, "spoofed")], b"{}").status == 400
        assert not authz.asked
        assert not model.received()

    def test_26_27_28_29_spoofed_headers_end_at_the_gateway(
        self, send: Any, authz: StubAuthz, model: DemoModel
    ) -> None:
        """All at once, but those that are refused: see above."""
        spoofed: Headers = [(name, "spoofed") for name in DASHED]
        assert send("POST", "/echo", spoofed, b"{}").status == 200
        assert "spoofed" not in str(model.last().headers)

    def test_106_a_request_id_of_the_client_goes_nowhere(
        self, send: Any, authz: StubAuthz, model: DemoModel
    ) -> None:
        response = send(headers=[("X-Request-Id", "fixed-by-client")])
        assert authz.last.header("x-request-id") is None  # Traefik has none: authz makes it
        assert model.last().header("x-request-id") == "req-1"
        assert response.header("x-request-id") == "req-1"

    @pytest.mark.parametrize(
        ("sent", "judged", "got"),
        [
            (f"/echo/a%20b?key={KEY}&x=1&x=%2F+y", "/echo/a%20b?x=1&x=%2F+y", "/echo/a%20b?x=1&x=%2F+y"),
            (f"/echo?key={KEY}", "/echo", "/echo"),
            (f"/echo?key={KEY}&a=%3B;b", "/echo?a=%3B&b", "/echo?a=%3B&b"),
        ],
    )
    def test_a_query_credential_is_cut_out(
        self, send: Any, authz: StubAuthz, model: DemoModel, sent: str, judged: str, got: str
    ) -> None:
        authz.answer = Allowing(target=judged)
        assert send("GET", sent).status == 200
        assert model.last().target == got

    def test_http2_is_judged_alike(
        self, gateway: RealGateway, certificates: Certificates, authz: StubAuthz, model: DemoModel
    ) -> None:
        body = b"x" * 200_000
        headers = {"authorization": f"Bearer {KEY}", "x-authz-user": "admin", "x-authz-team": "admin"}
        with httpx2.Client(http2=True, verify=certificates.trust(), trust_env=False) as client:
            response = client.post(f"{gateway.https}/echo?x=1", headers=headers, content=body)
            assert (response.http_version, response.status_code) == ("HTTP/2", 200)
            received = model.last()
            assert authz.last.header(self.asked_uri) == received.target == "/echo?x=1"
            assert authz.last.header("x-forwarded-host") == f"localhost:{gateway.around.https}"
            assert sha256(authz.last.body) == received.body_sha256 == sha256(body)
            assert KEY not in str(received)
            assert "admin" not in str(received)
            authz.answer = Denying(status=429, headers=REFUSAL_HEADERS)
            refused = client.get(f"{gateway.https}/echo")
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "7")
            assert refused.content == error_body("refused")
            assert client.get(f"{gateway.https}/echo", headers={"x_user": "a"}).status_code == 400

    @pytest.mark.parametrize("target", PASSED_AS_THEY_CAME)
    def test_a_canonical_target_passes_as_it_came(
        self, send: Any, authz: StubAuthz, model: DemoModel, target: str
    ) -> None:
        send("GET", target)
        expected = NORMALISED.get(target, target)
        assert authz.last.header(self.asked_uri) == model.last().target == expected

    @pytest.mark.parametrize("target", NEVER_ALTERED)
    def test_1_to_13_nothing_else_reaches_the_model_than_what_was_judged(
        self, send: Any, authz: StubAuthz, model: DemoModel, target: str
    ) -> None:
        response = send("GET", target)
        got = [received.target for received in model.received()]
        if target == NOT_ROUTED:
            assert (response.status, authz.asked, got) == (404, [], [])
            return
        if target == BECOMES_THE_LIST_OF_MODELS:
            assert (authz.last.kind, authz.last.target, got) == ("models", "/v1/models", [])
            return
        judged = [asked.header(self.asked_uri) for asked in authz.asked]
        assert judged in ([], [NORMALISED.get(target, target)])
        assert got in ([], judged), "the model gets what was judged, or nothing"
        if not got:
            assert response.status == 400

    def test_plain_http_is_redirected(self, gateway: RealGateway, authz: StubAuthz) -> None:
        """Traefik keeps the method of anything but GET, and tells the port of a listener that is not 443."""
        for method, status in (("GET", 301), ("POST", 308)):
            response = exchange(gateway.around.http, request_bytes(method, "/v1/x?a=1"), method=method)
            assert response.status == status
            assert response.header("location") == f"https://llm.test:{gateway.around.https}/v1/x?a=1"
        assert not authz.asked

    def test_a_body_that_comes_slowly_is_not_authzs_delay(
        self, gateway: RealGateway, certificates: Certificates, authz: StubAuthz, model: DemoModel
    ) -> None:
        head = request_bytes("POST", "/echo", [("Content-Length", "4")], b"", length=False)
        with ssl_connection(gateway.around.https, certificates.trust()) as connection:
            for part in (head, b"a", b"b", b"c", b"d"):
                connection.sendall(part)
                time.sleep(0.6)
            assert connection.recv(64).startswith(b"HTTP/1.1 200")
        assert model.last().body == "abcd"

    def test_a_refused_websocket_while_authz_is_dead_is_not_let_through(
        self, send: Any, authz: StubAuthz, model: DemoModel
    ) -> None:
        upgrade: Headers = [
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ]
        authz.stop()
        try:
            # Traefik's own page, because a connection that is handed over cannot be wrapped.
            assert send("GET", "/ws", upgrade).status == 500
        finally:
            authz.start()
        assert not model.received()

    @pytest.mark.parametrize(
        ("framing", "body"),
        [
            ([("Content-Length", "2")], b"{}"),
            ([("Transfer-Encoding", "chunked")], chunked(b"{}")),
            ([("Content-Length", "6000000")], b""),
        ],
        ids=["with-a-length", "in-chunks", "110-over-the-limit"],
    )
    def test_a_websocket_handshake_has_no_body(
        self,
        gateway: RealGateway,
        certificates: Certificates,
        authz: StubAuthz,
        model: DemoModel,
        framing: Headers,
        body: bytes,
    ) -> None:
        """forwardAuth would take it into memory whatever its size."""
        headers: Headers = [("Upgrade", "websocket"), ("Connection", "Upgrade"), *framing]
        data = request_bytes("GET", "/ws", headers, body, length=False)
        response = exchange(gateway.around.https, data, tls=certificates.trust())
        assert (response.status, response.json()["error"]["code"]) == (400, "invalid_request")
        assert "no body" in response.json()["error"]["message"]
        assert response.header("connection") == "close"
        assert not authz.asked
        assert not model.received()

    def test_the_access_log_tells_who_and_what(
        self, send: Any, gateway: RealGateway, authz: StubAuthz
    ) -> None:
        send("POST", "/echo/told?x=1", None, b"{}")
        authz.answer = Denying(status=401)
        send("POST", "/echo/refused?x=1", None, b"{}")
        log = gateway.log_with("/echo/refused")
        lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
        told = next(line for line in lines if line.get("request_X-Authz-Path") == "/echo/told")
        assert (told["DownstreamStatus"], told["request_X-Authz-User"]) == (200, "alice")
        refused = next(line for line in lines if line.get("request_X-Authz-Path") == "/echo/refused")
        assert refused["DownstreamStatus"] == 401
        assert "RequestPath" not in told

    def test_a_200_that_is_not_authzs_lets_nothing_through(
        self, send: Any, authz: StubAuthz, model: DemoModel
    ) -> None:
        authz.answer = Denying(status=200)
        response = send("POST", "/echo", None, b"{}")
        assert (response.status, response.json()) == (503, UNAVAILABLE)
        assert not model.received()
