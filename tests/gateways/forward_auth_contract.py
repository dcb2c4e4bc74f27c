"""What every gateway that asks authz over HTTP, body included, has to do. Its own test module inherits this.

The numbers in the ids are those of the attack catalogue.
"""

import hashlib
import json
import re
import socket
import ssl
import time
from typing import Any, ClassVar

import httpx2
import pytest
from websockets.exceptions import InvalidStatus

from tests.support.certificates import Certificates
from tests.support.gateway import Around, RealGateway
from tests.support.model import DemoModel, arrival
from tests.support.ports import free_port
from tests.support.raw_http import RawResponse, chunked, exchange, request_bytes
from tests.support.scripted_server import ScriptedServer
from tests.support.stub_authz import CLIENT, IDENTITY, LISTING, Allowing, Denying, StubAuthz, error_body
from tests.support.websocket import connect

MAX_BODY = 4 << 20
KEY = "sk-az-the-clients-own-secret"
IDENTITY_NAMES = set(IDENTITY)
Headers = list[tuple[str | bytes, str | bytes]]

UNAVAILABLE = {
    "error": {
        "message": "The authorization service is unavailable. Try again shortly.",
        "type": "server_error",
        "code": "authz_unavailable",
        "param": None,
    }
}

REFUSAL_HEADERS = (
    ("content-type", "application/json"),
    ("www-authenticate", 'Bearer realm="llm"'),
    ("retry-after", "7"),
    ("retry-after-ms", "6500"),
    ("x-should-retry", "false"),
    ("ratelimit-policy", '"key-rpm";q=60;w=60'),
    ("ratelimit", '"key-rpm";r=0;t=7'),
    ("x-ratelimit-limit-requests", "60"),
    ("x-ratelimit-remaining-requests", "0"),
    ("x-ratelimit-reset-requests", "7s"),
    ("x-request-id", "req-1"),
)

PASSED_AS_THEY_CAME = [
    "/echo",
    "/echo/",
    "/echo?",
    "/echo?a=1&b=%2F%7e+x&c",
    "/echo/a%20b",
    "/echo/%C3%A9",
    "/echo/!$&'()*+,=:@~-._",
    "/echo/%21%27%28",
    '/echo?q=[a]|^`{}"<>\\;x',
    "/ECHO",
]

NEVER_ALTERED = [
    "/echo//x",
    "//echo",
    "/echo/./x",
    "/echo/../x",
    "/echo/%2e%2e/x",
    "/echo/%2E%2E%2Fx",
    "/echo%2Fx",
    "/echo%5Cx",
    "/echo\\x",
    "/echo/%252e%252e/x",
    "/echo;a=b",
    "/echo/..;/x",
    "/echo%3Bx",
    "/echo#fragment",
    "/echo%23x",
    "/echo%00x",
    "/echo/%zz",
    "/echo/%c0%af",
    "/../../echo",
    "http://elsewhere.example/echo",
    "https://llm.test/echo",
    "/echo/%7Euser",
    "/v1/models/../../echo",
    "/v1/%6dodels",
    "/v1/models/",
    "//v1/models",
    "/v1/./models",
    "/V1/Models",
    "/_authz",
    "/_authz_models",
    "/_authz_error/unavailable",
    "*",
    "echo",
]

SPOOFED: Headers = [
    ("X-Authz-User", "admin"),
    ("X_Authz_Team", "admin"),
    ("X.Authz.Key", "admin"),
    ("X-Authz_Model", "admin"),
    ("X_Authz-Reservation", "admin"),
    ("x-authz-request-id", "admin"),
    ("X-Authz-Gateway-Token", "guessed"),
    ("X-Authz-Backend", "other"),
    ("X-Authz-Remove", "host"),
    ("X-Authz-Uri", "/elsewhere"),
    ("X-Authz-Status", "200"),
    ("X-Authz-Anything", "1"),
    ("X_Authz_Anything", "1"),
    ("X.Authz.Anything", "1"),
]


def is_spoofable(name: str) -> bool:
    return re.match(r"x[-_.]authz([-_.]|$)", name) is not None


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


class ForwardAuthContract:
    """`asked_uri` and `asked_method` are the headers in which the dialect describes the request."""

    asked_uri: ClassVar[str]
    asked_method: ClassVar[str]
    kind: ClassVar[str]
    hands_bodies_over: ClassVar[bool] = True

    def judged(self, body: bytes) -> bytes:
        """What authz gets of a body."""
        return body if self.hands_bodies_over else b""

    @pytest.fixture
    def send(self, gateway: RealGateway, certificates: Certificates) -> Any:
        tls = certificates.trust()

        def send(
            method: str = "GET",
            target: str | bytes = "/echo",
            headers: Headers | None = None,
            body: bytes = b"",
            **options: Any,
        ) -> RawResponse:
            data = request_bytes(method, target, headers, body, **options)
            return exchange(gateway.around.https, data, tls=tls, method=method)

        return send

    # The question

    def test_asks_with_the_token_and_the_request_as_it_came(self, send: Any, authz: StubAuthz) -> None:
        body = b'{"model": "demo"}'
        assert send("POST", "/echo/a?x=%2F", [("Authorization", f"Bearer {KEY}")], body).status == 200
        asked = authz.last
        assert asked.kind == self.kind
        assert asked.token == "gateway-token-of-the-tests"
        assert asked.header(self.asked_method) == "POST"
        assert asked.header(self.asked_uri) == "/echo/a?x=%2F"
        assert asked.header("x-forwarded-host") == "llm.test"
        assert asked.header("x-forwarded-proto") == "https"
        assert asked.header("x-forwarded-for") == "127.0.0.1"
        assert asked.header("authorization") == f"Bearer {KEY}"
        assert asked.body == self.judged(body)
        assert asked.target == f"/auth/{self.kind}"  # no query: it may hold a credential
        assert len(authz.asked) == 1

    @pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
    def test_the_method_is_told_and_passed(
        self, send: Any, authz: StubAuthz, model: DemoModel, method: str
    ) -> None:
        assert send(method, "/echo").status == 200
        assert authz.last.header(self.asked_method) == method
        assert model.last().method == method

    def test_22_descriptions_by_the_client_are_not_believed(
        self, send: Any, authz: StubAuthz, model: DemoModel
    ) -> None:
        forged: Headers = [
            ("X-Forwarded-Uri", "/public"),
            ("X-Forwarded-Method", "OPTIONS"),
            ("X-Original-URI", "/public"),
            ("X-Original-Method", "OPTIONS"),
            ("X-Original-Content-Length", "0"),
            ("X-Forwarded-Host", "public.example"),
            ("X-Forwarded-Proto", "ftp"),
            ("X-Forwarded-For", "10.0.0.1"),
            ("X-Forwarded-Prefix", "/public"),
            ("X-Client-Cert", "forged"),
            ("X-Client-Verify", "SUCCESS"),
            ("Forwarded", "for=10.0.0.1"),
            ("X-Real-IP", "10.0.0.1"),
        ]
        assert send("POST", "/echo", forged, b"{}").status == 200
        asked = authz.last
        assert asked.header(self.asked_uri) == "/echo"
        assert asked.header(self.asked_method) == "POST"
        assert asked.header("x-forwarded-host") == "llm.test"
        assert asked.header("x-forwarded-proto") == "https"
        assert asked.header("x-forwarded-for") == "127.0.0.1"
        assert asked.header("x-client-cert") in (None, "")
        assert asked.header("x-client-verify") in (None, "NONE")
        assert asked.header("x-original-content-length") == "2"
        received = model.last()
        assert received.header("x-forwarded-for") == "127.0.0.1"
        assert received.header("x-forwarded-host") == "llm.test"
        assert received.header("x-forwarded-proto") == "https"
        gone = {"x-forwarded-prefix", "x-original-uri", "x-original-method", "forwarded", "x-real-ip"}
        assert not received.names & (gone | {"x-client-cert", "x-client-verify", "x-forwarded-uri"})

    def test_37_a_credential_sent_twice_is_not_made_one(self, send: Any, authz: StubAuthz) -> None:
        authz.answer = Denying(status=400, body=error_body("duplicate_credential"))
        for name in ("X-Api-Key", "Authorization"):
            authz.asked.clear()
            response = send(headers=[(name, "first"), (name, "second")])
            assert response.status == 400
            assert "error" in response.json()
            if authz.asked:
                assert authz.last.values(name.lower()) == ["first", "second"]

    def test_18_two_hosts_are_refused(self, send: Any, authz: StubAuthz, model: DemoModel) -> None:
        assert send(headers=[("Host", "other.example")]).status == 400
        assert not authz.asked
        assert not model.received()

    def test_99_a_post_without_body_is_told_as_such(self, send: Any, authz: StubAuthz) -> None:
        assert send("POST", "/echo").status == 200
        assert authz.last.body == b""
        assert authz.last.header("x-original-content-length") in (None, "")

    def test_106_a_request_id_of_the_client_goes_nowhere(
        self, send: Any, authz: StubAuthz, model: DemoModel
    ) -> None:
        response = send(headers=[("X-Request-Id", "fixed-by-client")])
        assert authz.last.header("x-request-id") not in (None, "", "fixed-by-client")
        assert model.last().header("x-request-id") == "req-1"
        assert response.header("x-request-id") == "req-1"

    # Let through

    def test_an_allowed_request_arrives_as_judged(
        self, send: Any, authz: StubAuthz, model: DemoModel
    ) -> None:
        body = b'{"model": "demo", "text": "\xc3\xa9 {env.HOME} {http.request.host} {file./etc/passwd} $uri"}'
        headers: Headers = [("Content-Type", "application/json"), ("X-Title", b"caf\xe9"), ("Accept", "*/*")]
        response = send("POST", "/echo/deep?a=1&a=2", headers, body)
        assert response.status == 200
        received = model.last()
        assert (received.method, received.target) == ("POST", "/echo/deep?a=1&a=2")
        assert received.header("host") == "llm.test"
        assert received.header("content-type") == "application/json"
        assert received.header("x-title") == "caf\xe9"
        assert received.body.encode("latin-1") == body
        assert authz.last.body == self.judged(body)
        for name, value in IDENTITY.items():
            assert received.header(name) == value

    def test_the_rate_headers_reach_the_client_once(self, send: Any, authz: StubAuthz) -> None:
        response = send()
        for name, value in CLIENT:
            assert [v for n, v in response.headers if n == name] == [value]
        assert not any(is_spoofable(name) for name, _ in response.headers)

    def test_no_credential_of_the_client_reaches_the_model(
        self, send: Any, authz: StubAuthz, model: DemoModel
    ) -> None:
        headers: Headers = [
            ("Authorization", f"Bearer {KEY}"),
            ("X-Api-Key", KEY),
            ("Proxy-Authorization", KEY),
        ]
        assert send("POST", "/echo", headers, b"{}").status == 200
        assert KEY not in str(model.last())

    def test_the_upstream_credential_reaches_the_model(
        self, send: Any, authz: StubAuthz, model: DemoModel
    ) -> None:
        authz.answer = Allowing(upstream=(("authorization", "Bearer upstream"),), remove=("x-api-key",))
        assert send(headers=[("Authorization", f"Bearer {KEY}")]).status == 200
        assert model.last().header("authorization") == "Bearer upstream"

    @pytest.mark.parametrize(
        "identity", [tuple(IDENTITY.items()), ()], ids=["with-identity", "29-without-identity"]
    )
    def test_26_27_28_29_spoofed_headers_end_at_the_gateway(
        self, send: Any, authz: StubAuthz, model: DemoModel, identity: tuple[tuple[str, str], ...]
    ) -> None:
        authz.answer = Allowing(upstream=identity)
        assert send("POST", "/echo", SPOOFED, b"{}").status == 200
        found = [(name, value) for name, value in model.last().headers if is_spoofable(name)]
        assert sorted(found) == sorted(identity)
        assert authz.last.token == "gateway-token-of-the-tests"

    def test_an_empty_identity_header_is_a_removed_one(
        self, send: Any, authz: StubAuthz, model: DemoModel
    ) -> None:
        authz.answer = Allowing(upstream=(("x-authz-user", "alice"), ("x-authz-team", "")))
        assert send(headers=[("X-Authz-Team", "admin")]).status == 200
        assert model.last().header("x-authz-user") == "alice"
        assert "x-authz-team" not in model.last().names

    @pytest.mark.parametrize(
        "named", ["X-Authz-User, X-Authz-Team", "close, x-authz-user, authorization", "X_Authz_User"]
    )
    def test_30_connection_does_not_strip_the_identity(
        self, send: Any, authz: StubAuthz, model: DemoModel, named: str
    ) -> None:
        authz.answer = Allowing(upstream=(*IDENTITY.items(), ("authorization", "Bearer upstream")))
        assert send("POST", "/echo", [("Connection", named)], b"{}").status == 200
        received = model.last()
        for name, value in IDENTITY.items():
            assert received.header(name) == value
        assert received.header("authorization") == "Bearer upstream"
        assert "x-authz" not in (received.header("connection") or "").lower()

    def test_an_h2c_upgrade_is_not_passed_on(self, send: Any, authz: StubAuthz, model: DemoModel) -> None:
        headers: Headers = [
            ("Connection", "Upgrade, HTTP2-Settings"),
            ("Upgrade", "h2c"),
            ("HTTP2-Settings", "AAMA"),
        ]
        assert send(headers=headers).status == 200
        assert "upgrade" not in model.last().names

    def test_further_credential_headers_are_removed(
        self, send: Any, authz: StubAuthz, model: DemoModel
    ) -> None:
        authz.answer = Allowing(remove=("authorization", "x-api-key", "x-api-token", "x-second", "cookie"))
        headers: Headers = [
            ("X-Api-Token", KEY),
            ("X-Second", KEY),
            ("Cookie", f"session={KEY}"),
            ("X-Third", "stays"),
        ]
        assert send(headers=headers).status == 200
        assert KEY not in str(model.last())
        assert model.last().header("x-third") == "stays"

    def test_a_cookie_credential_is_cut_out(self, send: Any, authz: StubAuthz, model: DemoModel) -> None:
        authz.answer = Allowing(cookie="theme=dark; lang=\xe9")
        assert send(headers=[("Cookie", f"session={KEY}; theme=dark; lang=\xe9")]).status == 200
        assert model.last().header("cookie") == "theme=dark; lang=\xe9"

    def test_cookies_pass_when_none_was_a_credential(
        self, send: Any, authz: StubAuthz, model: DemoModel
    ) -> None:
        assert send(headers=[("Cookie", "theme=dark")]).status == 200
        assert model.last().header("cookie") == "theme=dark"

    @pytest.mark.parametrize(
        ("sent", "judged"),
        [
            (f"/echo/a%20b?key={KEY}&x=1&x=%2F%7e+y", "/echo/a%20b?x=1&x=%2F%7e+y"),
            (f"/echo?key={KEY}", "/echo"),
            (f"/echo?a=b;c&key={KEY}", "/echo?a=b;c"),
        ],
    )
    def test_a_query_credential_is_cut_out(
        self, send: Any, authz: StubAuthz, model: DemoModel, sent: str, judged: str
    ) -> None:
        authz.answer = Allowing(target=judged)
        assert send("GET", sent).status == 200
        assert model.last().target == judged
        assert KEY not in str(model.last())

    # Refused

    @pytest.mark.parametrize("status", [400, 401, 403, 413, 415, 429, 503])
    def test_a_refusal_is_passed_as_it_is(
        self, send: Any, authz: StubAuthz, model: DemoModel, status: int
    ) -> None:
        body = error_body("some_code", 'It holds "quotes", \\u00e9 and {braces} $uri.')
        authz.answer = Denying(status=status, headers=REFUSAL_HEADERS, body=body)
        response = send("POST", "/echo", [("Authorization", f"Bearer {KEY}")], b"{}")
        assert response.status == status
        assert response.body == body
        for name, value in REFUSAL_HEADERS:
            assert [v for n, v in response.headers if n == name] == [value], name
        assert not any(is_spoofable(name) for name, _ in response.headers)
        assert not model.received()

    def test_a_refused_head_has_no_body(self, send: Any, authz: StubAuthz, model: DemoModel) -> None:
        authz.answer = Denying(status=429, headers=REFUSAL_HEADERS)
        response = send("HEAD", "/echo")
        assert (response.status, response.body) == (429, b"")
        assert response.header("retry-after") == "7"
        assert not model.received()

    def test_several_challenges_all_arrive(self, send: Any, authz: StubAuthz) -> None:
        challenges = (("www-authenticate", 'Bearer realm="llm"'), ("www-authenticate", 'Basic realm="llm"'))
        authz.answer = Denying(status=401, headers=(("content-type", "application/json"), *challenges))
        response = send()
        assert response.header("www-authenticate") == 'Bearer realm="llm", Basic realm="llm"'

    @pytest.mark.parametrize("status", [201, 204, 302, 404, 405, 500, 502, 504])
    def test_what_is_no_answer_of_authz_lets_nothing_through(
        self, send: Any, authz: StubAuthz, model: DemoModel, status: int
    ) -> None:
        authz.answer = Denying(status=status, body=b"" if status == 204 else error_body("strange"))
        response = send("POST", "/echo", None, b"{}")
        assert (response.status, response.json()) == (503, UNAVAILABLE)
        assert not model.received()

    def test_authz_dead_is_503(self, send: Any, authz: StubAuthz, model: DemoModel) -> None:
        authz.stop()
        try:
            for method, target in (("POST", "/echo"), ("GET", "/echo"), ("GET", "/v1/models")):
                response = send(method, target)
                assert (response.status, response.json()) == (503, UNAVAILABLE)
                assert response.header("content-type") == "application/json"
        finally:
            authz.start()
        assert not model.received()
        assert send().status == 200

    def test_authz_slower_than_two_seconds_is_503(
        self, send: Any, authz: StubAuthz, model: DemoModel
    ) -> None:
        authz.answer = Allowing(delay=4)
        begun = time.monotonic()
        response = send("POST", "/echo", None, b"{}")
        assert (response.status, response.json()) == (503, UNAVAILABLE)
        assert 1.5 < time.monotonic() - begun < 4  # before authz answers
        assert len(authz.asked) == 1  # a question is asked once
        authz.answer = Allowing(delay=1.2)
        assert send("POST", "/echo", None, b"{}").status == 200
        assert len(model.received()) == 1

    # The model server

    def test_a_dead_model_is_502(
        self, gateway: RealGateway, around: Around, certificates: Certificates, authz: StubAuthz
    ) -> None:
        with type(gateway)(with_model(around, free_port())) as other:
            data = request_bytes("POST", "/echo", None, b"{}")
            response = exchange(other.around.https, data, tls=certificates.trust())
        assert response.status == 502
        assert response.json()["error"]["code"] == "upstream_unavailable"
        assert response.header("content-type") == "application/json"
        assert response.header("ratelimit") == dict(CLIENT)["ratelimit"]  # it was charged

    def test_the_model_does_not_contradict_authz(
        self, gateway: RealGateway, around: Around, certificates: Certificates, authz: StubAuthz
    ) -> None:
        answer = (
            b"HTTP/1.1 418 I'm a teapot\r\nContent-Length: 2\r\nContent-Type: text/tea\r\nX-Own: 1\r\n"
            b"RateLimit: fake\r\nRateLimit-Policy: fake\r\nX-RateLimit-Limit-Requests: 1\r\n"
            b"X-RateLimit-Remaining-Requests: 1\r\nX-Request-Id: fake\r\n"
            b"X-Accel-Redirect: /_authz\r\nX-Accel-Buffering: yes\r\nConnection: close\r\n\r\nhi"
        )
        with (
            ScriptedServer(answer) as scripted,
            type(gateway)(with_model(around, scripted.port)) as other,
        ):
            data = request_bytes("POST", "/echo", None, b"{}")
            response = exchange(other.around.https, data, tls=certificates.trust())
        assert (response.status, response.body) == (418, b"hi")
        assert response.header("content-type") == "text/tea"
        assert response.header("x-own") == "1"
        for name, value in CLIENT:
            assert response.header(name) == value

    def test_http2_is_judged_alike(
        self, gateway: RealGateway, certificates: Certificates, authz: StubAuthz, model: DemoModel
    ) -> None:
        body = b"x" * 200_000
        headers = {"authorization": f"Bearer {KEY}", "x-authz-user": "admin", "x_authz_team": "admin"}
        with httpx2.Client(http2=True, verify=certificates.trust(), trust_env=False) as client:
            response = client.post(f"{gateway.https}/echo?x=1", headers=headers, content=body)
            assert (response.http_version, response.status_code) == ("HTTP/2", 200)
            received = model.last()
            assert authz.last.header(self.asked_uri) == received.target == "/echo?x=1"
            assert authz.last.header("x-forwarded-host") == f"localhost:{gateway.around.https}"
            assert authz.last.body == self.judged(body)
            assert received.body_sha256 == sha256(body)
            assert KEY not in str(received)
            assert received.header("x-authz-user") == "alice"
            assert received.values("x_authz_team") == []
            authz.answer = Denying(status=429, headers=REFUSAL_HEADERS)
            refused = client.get(f"{gateway.https}/echo")
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "7")
            assert refused.content == error_body("refused")

    # Bodies

    @pytest.mark.parametrize("size", [1, 1000, 65536, 3_000_000, MAX_BODY])
    @pytest.mark.parametrize("framing", ["content-length", "chunked"])
    def test_bodies_are_exact_up_to_the_maximum(
        self, send: Any, authz: StubAuthz, model: DemoModel, size: int, framing: str
    ) -> None:
        body = (bytes(range(256)) * (size // 256 + 1))[:size]
        if framing == "chunked":
            parts = [body[:7], body[7 : size // 2], body[size // 2 :]] if size > 100 else [body]
            headers: Headers = [("Transfer-Encoding", "chunked")]
            response = send("POST", "/echo", headers, chunked(*parts), length=False)
        else:
            response = send("POST", "/echo", None, body)
        assert response.status == 200
        assert sha256(authz.last.body) == sha256(self.judged(body))
        assert (model.last().body_length, model.last().body_sha256) == (size, sha256(body))

    @pytest.mark.parametrize("framing", ["content-length", "chunked"])
    def test_a_longer_body_is_413(self, send: Any, authz: StubAuthz, model: DemoModel, framing: str) -> None:
        body = b"x" * (MAX_BODY + 1)
        if framing == "chunked":
            parts = [body[:100_000], body[100_000:]]
            response = send(
                "POST", "/echo", [("Transfer-Encoding", "chunked")], chunked(*parts), length=False
            )
        else:
            response = send("POST", "/echo", None, body)
        assert response.status == 413
        assert response.json()["error"]["code"] == "request_too_large"
        assert response.header("content-type") == "application/json"
        assert not model.received()

    # Streams

    def test_events_arrive_one_by_one(
        self, gateway: RealGateway, certificates: Certificates, authz: StubAuthz, model: DemoModel
    ) -> None:
        body = json.dumps({"model": "demo", "stream": True, "max_tokens": 12, "messages": []}).encode()
        headers: Headers = [("Content-Type", "application/json"), ("X-Demo-Interval-Ms", "40")]
        data = request_bytes("POST", "/v1/chat/completions", headers, body)
        lags = []
        with (
            ssl_connection(gateway.around.https, certificates.trust()) as connection,
            connection.makefile("rb") as reader,
        ):
            connection.sendall(data)
            for line in reader:
                if arrived := arrival(line.decode()):
                    lags.append(arrived.lag_ms)
        assert len(lags) >= 12
        # Buffered, the first would have waited for the last: 12 x 40 ms. The median tells what a chunk costs.
        assert max(lags) < 200, lags
        assert sorted(lags)[len(lags) // 2] < 15, lags

    def test_a_websocket_is_judged_once_and_then_left_alone(
        self, gateway: RealGateway, certificates: Certificates, authz: StubAuthz, model: DemoModel
    ) -> None:
        with connect(
            f"wss://localhost:{gateway.around.https}/ws?x=1",
            ssl=certificates.trust(),
            headers={"Authorization": f"Bearer {KEY}", "X-Authz-User": "admin"},
        ) as echo:
            for message in ("hello", b"\x00\xff", "x" * 100_000):
                echo.send(message)
                assert echo.recv(timeout=5) == message
        assert len(authz.asked) == 1
        assert authz.last.header(self.asked_method) == "GET"
        assert authz.last.header(self.asked_uri) == "/ws?x=1"
        received = model.last()
        assert received.target == "/ws?x=1"
        assert KEY not in str(received)
        for name, value in IDENTITY.items():
            assert received.header(name) == value

    def test_a_refused_websocket_is_refused(
        self, gateway: RealGateway, certificates: Certificates, authz: StubAuthz, model: DemoModel
    ) -> None:
        authz.answer = Denying(status=401, headers=REFUSAL_HEADERS)
        address = f"wss://localhost:{gateway.around.https}/ws"
        with (
            pytest.raises(InvalidStatus) as refused,
            connect(address, ssl=certificates.trust()),
        ):
            pass
        assert refused.value.response.status_code == 401
        assert not model.received()

    # Paths

    @pytest.mark.parametrize("target", PASSED_AS_THEY_CAME)
    def test_a_canonical_target_passes_as_it_came(
        self, send: Any, authz: StubAuthz, model: DemoModel, target: str
    ) -> None:
        send("GET", target)
        assert authz.last.header(self.asked_uri) == target
        assert model.last().target == target

    @pytest.mark.parametrize("target", NEVER_ALTERED)
    def test_1_to_13_nothing_else_reaches_the_model_than_what_was_judged(
        self, send: Any, authz: StubAuthz, model: DemoModel, target: str
    ) -> None:
        response = send("GET", target)
        judged = [asked.header(self.asked_uri) for asked in authz.asked]
        got = [received.target for received in model.received()]
        assert judged in ([], [target]), "authz judges the target as the client sent it"
        assert got in ([], judged), "the model gets what was judged, or nothing"
        if not got:
            assert response.status in (400, 403, 503)

    # GET /v1/models

    @pytest.mark.parametrize("target", ["/v1/models", "/v1/models?x=1"])
    def test_the_list_of_models_comes_from_authz(
        self, send: Any, authz: StubAuthz, model: DemoModel, target: str
    ) -> None:
        response = send(
            "GET", target, [("Authorization", f"Bearer {KEY}"), ("X-Authz-Gateway-Token", "forged")]
        )
        assert (response.status, response.body) == (200, LISTING)
        asked = authz.last
        assert (asked.kind, asked.method, asked.target) == ("models", "GET", target)
        assert asked.token == "gateway-token-of-the-tests"
        assert asked.header("authorization") == f"Bearer {KEY}"
        assert asked.header("x-forwarded-host") == "llm.test"
        assert asked.header("x-forwarded-for") == "127.0.0.1"
        assert response.header("ratelimit") == dict(CLIENT)["ratelimit"]
        assert len(authz.asked) == 1
        assert not model.received()

    def test_a_refused_list_is_passed_as_it_is(self, send: Any, authz: StubAuthz) -> None:
        authz.answer = Denying(status=401, headers=REFUSAL_HEADERS)
        response = send("GET", "/v1/models")
        assert (response.status, response.body) == (401, error_body("refused"))
        assert response.header("www-authenticate") == 'Bearer realm="llm"'

    @pytest.mark.parametrize("method", ["POST", "HEAD", "DELETE"])
    def test_other_methods_there_are_judged_as_any_request(
        self, send: Any, authz: StubAuthz, model: DemoModel, method: str
    ) -> None:
        authz.answer = Denying(status=403)
        assert send(method, "/v1/models").status == 403
        assert authz.last.kind == self.kind
        assert not model.received()

    # The listeners

    def test_plain_http_is_redirected(self, gateway: RealGateway, authz: StubAuthz) -> None:
        response = exchange(
            gateway.around.http, request_bytes("POST", "/v1/x?a=1", None, b"{}"), method="POST"
        )
        assert response.status == 301
        assert response.header("location") == "https://llm.test/v1/x?a=1"
        assert not authz.asked

    @pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
    def test_old_tls_is_refused(self, gateway: RealGateway, certificates: Certificates) -> None:
        context = certificates.trust()
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            ssl_connection(gateway.around.https, context)

    def test_79_no_log_holds_a_credential(self, send: Any, gateway: RealGateway, authz: StubAuthz) -> None:
        secrets = [f"in-{place}-{KEY}" for place in ("header", "key", "query", "cookie", "body")]
        header, key, query, cookie, body = secrets
        headers: Headers = [
            ("Authorization", f"Bearer {header}"),
            ("X-Api-Key", key),
            ("Cookie", f"s={cookie}"),
        ]
        for answer in (Allowing(), Denying(status=401), Denying(status=500), Allowing(delay=2.6)):
            authz.answer = answer
            send("POST", f"/echo/logged?access_token={query}", headers, f'{{"k": "{body}"}}'.encode())
        authz.reset()
        send("GET", f"/echo/logged#{query}", headers)
        send("GET", f"/v1/models?access_token={query}", headers)
        authz.stop()
        try:
            send("POST", f"/echo/logged?access_token={query}", headers, b"{}")
        finally:
            authz.start()
        send("GET", "/echo/the-last", headers)
        log = gateway.log_with("/echo/the-last")
        assert "/echo/logged" in log
        assert not [secret for secret in [*secrets, gateway.around.token] if secret in log]


def ssl_connection(port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", port), timeout=10)
    try:
        return context.wrap_socket(plain, server_hostname="localhost")
    except BaseException:
        plain.close()
        raise


def with_model(around: Around, model: int) -> Around:
    """The same surroundings, free ports, another model server."""
    return Around(
        directory=around.directory / f"model-{model}",
        certificates=around.certificates,
        authz_http=around.authz_http,
        authz_grpc=around.authz_grpc,
        model=model,
    )
