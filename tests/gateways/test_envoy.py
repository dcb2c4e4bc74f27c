"""Envoy, run with the committed configuration.

It asks over gRPC, so the contract's questions about header fields are put differently here; where it refuses or
joins by itself is a test of its own.
"""

import json
import time
from typing import Any

import httpx2
import pytest

from tests.gateways.clients import wait_for
from tests.gateways.forward_auth_contract import (
    KEY,
    NEVER_ALTERED,
    REFUSAL_HEADERS,
    UNAVAILABLE,
    ForwardAuthContract,
    Headers,
    is_spoofable,
    sha256,
)
from tests.support.certificates import Certificates
from tests.support.envoy import Envoy
from tests.support.gateway import RealGateway
from tests.support.model import DemoModel
from tests.support.raw_http import exchange, request_bytes
from tests.support.stub_authz import IDENTITY, Allowing, Denying, StubAuthz, error_body

GATEWAY = Envoy
TOKEN = "gateway-token-of-the-tests"

# Refused before authz is asked; everything else is judged as it came.
REFUSED_BY_ENVOY = {
    "/echo/%2E%2E%2Fx": 400,
    "/echo%2Fx": 400,
    "/echo%5Cx": 400,
    "/echo#fragment": 400,
    "http://elsewhere.example/echo": 400,
    "https://llm.test/echo": 400,
    "*": 400,
    "echo": 400,
}

DASHED_AND_DOTTED = [
    "X-Authz-User",
    "X-Authz-Gateway-Token",
    "X-Authz-Backend",
    "X-Authz",
    "X.Authz.User",
    "X-Authz.Team",
    "X.Authz-Anything",
]


def coded(*codings: str) -> bytes:
    """A request whose body is said to come in these transfer codings."""
    headers: Headers = [("Transfer-Encoding", coding) for coding in codings]
    return request_bytes("POST", "/echo", headers, b"0\r\n\r\n", length=False)


class TestEnvoy(ForwardAuthContract):
    kind = "check"
    asked_uri = ":path"
    asked_method = ":method"

    def test_asks_with_the_token_and_the_request_as_it_came(self, send: Any, authz: StubAuthz) -> None:
        body = b'{"model": "demo"}'
        assert send("POST", "/echo/a?x=%2F", [("Authorization", f"Bearer {KEY}")], body).status == 200
        asked = authz.last
        assert (asked.kind, asked.token) == ("check", TOKEN)
        assert (asked.method, asked.target, asked.body) == ("POST", "/echo/a?x=%2F", body)
        assert asked.header(":authority") == "llm.test"
        assert asked.header("authorization") == f"Bearer {KEY}"
        attributes = asked.check.attributes
        assert attributes.source.address.socket_address.address == "127.0.0.1"
        assert attributes.request.http.scheme == "https"
        assert attributes.context_extensions["max_request_bytes"] == str((4 << 20) + 1)
        assert len(authz.asked) == 1

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
            "X-Forwarded-Client-Cert": "URI=spiffe://admin",
            "X-Original-URI": "/public",
            "X-Rewrite-Url": "/public",
            "X-Envoy-Original-Path": "/public",
            "X-Envoy-Auth-Partial-Body": "true",
            "X-Envoy-Upstream-Rq-Timeout-Ms": "1",
            "X-Envoy-Retry-On": "5xx",
            "X-Client-Cert": "forged",
            "X-Client-Verify": "SUCCESS",
            "X-HTTP-Method-Override": "DELETE",
            "Forwarded": "for=10.9.8.7",
            "X-Real-IP": "10.9.8.7",
        }
        assert send("POST", "/echo", list(forged.items()), b"{}").status == 200
        for seen in (authz.last.headers, model.last().headers):
            found = [(name, value) for name, value in seen if value in forged.values()]
            assert not found
            assert dict(seen)["x-forwarded-proto"] == "https"
        assert authz.last.check.attributes.source.address.socket_address.address == "127.0.0.1"

    def test_37_a_credential_sent_twice_is_not_made_one(
        self, send: Any, authz: StubAuthz, model: DemoModel
    ) -> None:
        """Envoy joins a repeated Authorization, which then is no credential any more."""
        authz.answer = Denying(status=400, body=error_body("duplicate_credential"))
        for name, seen in (("X-Api-Key", ["first", "second"]), ("Authorization", ["first,second"])):
            assert send(headers=[(name, "first"), (name, "second")]).status == 400
            assert authz.last.values(name.lower()) == seen
        assert not model.received()

    def test_18_two_hosts_are_refused(self, send: Any, authz: StubAuthz, model: DemoModel) -> None:
        """They are shown to authz as one, which is no host name: so authz refuses."""
        authz.answer = Denying(status=400, body=error_body("invalid_host"))
        assert send(headers=[("Host", "other.example")]).status == 400
        assert authz.last.header(":authority") == "llm.test,other.example"
        assert not model.received()

    def test_38_bytes_of_headers_are_seen_as_they_came(
        self, send: Any, authz: StubAuthz, model: DemoModel
    ) -> None:
        assert send(headers=[("X-Title", b"\xff\xfe caf\xc3\xa9")]).status == 200
        assert authz.last.header("x-title") == model.last().header("x-title")
        assert authz.last.header("x-title") == "\xff\xfe caf\xc3\xa9"

    def test_106_a_request_id_of_the_client_goes_nowhere(
        self, send: Any, authz: StubAuthz, model: DemoModel
    ) -> None:
        ids = []
        for _ in range(2):
            response = send(headers=[("X-Request-Id", "fixed-by-client")])
            ids.append(authz.last.header("x-request-id"))
            assert model.last().header("x-request-id") == ids[-1]
            assert response.header("x-request-id") == "req-1"
        assert len({*ids, None, "fixed-by-client"}) == 4

    @pytest.mark.parametrize("name", DASHED_AND_DOTTED)
    def test_28_29_spoofed_headers_end_at_the_gateway(
        self, send: Any, authz: StubAuthz, model: DemoModel, name: str
    ) -> None:
        for identity in (tuple(IDENTITY.items()), ()):
            authz.answer = Allowing(upstream=identity)
            assert send("POST", "/echo", [(name, "spoofed")], b"{}").status == 200
            assert "spoofed" not in str(model.last().headers) + str(authz.last.headers)
            found = [(key, value) for key, value in model.last().headers if is_spoofable(key)]
            assert sorted(found) == sorted(identity)
            assert authz.last.token == TOKEN

    @pytest.mark.parametrize("name", ["X_Authz_User", "X-Authz_User", "X_User", "X_Forwarded_Proto"])
    def test_26_27_names_with_an_underscore_are_refused(
        self, send: Any, authz: StubAuthz, model: DemoModel, name: str
    ) -> None:
        response = send("POST", "/echo", [(name, "spoofed")], b"{}")
        assert (response.status, response.json()["error"]["code"]) == (400, "invalid_request")
        assert not authz.asked
        assert not model.received()

    def test_26_27_28_29_spoofed_headers_end_at_the_gateway(
        self, send: Any, authz: StubAuthz, model: DemoModel
    ) -> None:
        """All at once, but those that are refused: see above."""
        spoofed: Headers = [(name, "spoofed") for name in DASHED_AND_DOTTED]
        assert send("POST", "/echo", spoofed, b"{}").status == 200
        assert "spoofed" not in str(model.last().headers)

    def test_an_empty_identity_header_is_a_removed_one(
        self, send: Any, authz: StubAuthz, model: DemoModel
    ) -> None:
        """Over gRPC authz lists what has no value for removal."""
        authz.answer = Allowing(upstream=(("x-authz-user", "alice"),), remove=("x-authz-team", "x-second"))
        assert send(headers=[("X-Authz-Team", "admin"), ("X-Second", "2")]).status == 200
        assert model.last().header("x-authz-user") == "alice"
        assert not model.last().names & {"x-authz-team", "x-second"}

    def test_28_another_spelling_that_authz_lists_is_removed(
        self, send: Any, authz: StubAuthz, model: DemoModel
    ) -> None:
        authz.answer = Allowing(upstream=(("x-is-admin", "no"),), remove=("x.is.admin", "x-is.admin"))
        assert send(headers=[("X.Is.Admin", "yes"), ("X-Is.Admin", "yes"), ("X.Is", "kept")]).status == 200
        assert authz.last.header("x.is.admin") == "yes"
        assert model.last().header("x-is-admin") == "no"
        assert model.last().header("x.is") == "kept"
        assert not model.last().names & {"x.is.admin", "x-is.admin"}

    def test_a_cookie_credential_is_cut_out(self, send: Any, authz: StubAuthz, model: DemoModel) -> None:
        """A header that authz sets over gRPC is UTF-8; Envoy ignores `raw_value` in an answer."""
        authz.answer = Allowing(cookie="theme=dark; lang=\xc3\xa9")
        headers: Headers = [("Cookie", f"session={KEY}; theme=dark; lang=\xc3\xa9")]
        assert send(headers=headers).status == 200
        assert model.last().header("cookie") == "theme=dark; lang=\xc3\xa9"

    @pytest.mark.parametrize("status", [201, 204, 302, 404, 405, 500, 502, 504])
    def test_what_is_no_answer_of_authz_lets_nothing_through(
        self, send: Any, authz: StubAuthz, model: DemoModel, status: int
    ) -> None:
        """A denial is one whatever its status: the gRPC answer says so, not the status."""
        authz.answer = Denying(status=status)
        assert send("POST", "/echo", None, b"{}").status == status
        assert not model.received()

    def test_authz_slower_than_two_seconds_is_503(
        self, send: Any, authz: StubAuthz, model: DemoModel
    ) -> None:
        authz.answer = Allowing(delay=4)
        for method, target in (("POST", "/echo"), ("GET", "/v1/models")):
            begun = time.monotonic()
            response = send(method, target, None, b"{}" if method == "POST" else b"")
            assert (response.status, response.json()) == (503, UNAVAILABLE)
            assert 1.5 < time.monotonic() - begun < 4  # before authz answers
        assert len(authz.asked) == 2  # each is asked once
        authz.answer = Allowing(delay=1.2)
        assert send("POST", "/echo", None, b"{}").status == 200
        assert len(model.received()) == 1

    def test_http2_is_judged_alike(
        self, gateway: RealGateway, certificates: Certificates, authz: StubAuthz, model: DemoModel
    ) -> None:
        body = b"x" * 200_000
        headers = {"authorization": f"Bearer {KEY}", "x-authz-user": "admin", "x.authz.team": "admin"}
        with httpx2.Client(http2=True, verify=certificates.trust(), trust_env=False) as client:
            response = client.post(f"{gateway.https}/echo?x=1", headers=headers, content=body)
            assert (response.http_version, response.status_code) == ("HTTP/2", 200)
            received = model.last()
            assert authz.last.target == received.target == "/echo?x=1"
            assert authz.last.header(":authority") == f"localhost:{gateway.around.https}"
            assert sha256(authz.last.body) == received.body_sha256 == sha256(body)
            assert KEY not in str(received)
            assert "admin" not in str(received)
            authz.answer = Denying(status=429, headers=REFUSAL_HEADERS)
            refused = client.get(f"{gateway.https}/echo")
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "7")
            assert refused.content == error_body("refused")
            model.reset()
            with pytest.raises(httpx2.RemoteProtocolError):  # over HTTP/2 it resets the stream
                client.get(f"{gateway.https}/echo", headers={"x_user": "admin"})
            assert not model.received()

    @pytest.mark.parametrize("target", NEVER_ALTERED)
    def test_1_to_13_nothing_else_reaches_the_model_than_what_was_judged(
        self, send: Any, authz: StubAuthz, model: DemoModel, target: str
    ) -> None:
        response = send("GET", target)
        judged = [asked.target for asked in authz.asked]
        got = [received.target for received in model.received()]
        if (status := REFUSED_BY_ENVOY.get(target)) is not None:
            assert (response.status, judged, got) == (status, [], [])
            assert response.json()["error"]["code"] in ("invalid_path", "invalid_request")
            return
        assert judged == got == [target]

    @pytest.mark.parametrize("target", ["/v1/models", "/v1/models?x=1"])
    def test_the_list_of_models_comes_from_authz(
        self, send: Any, authz: StubAuthz, model: DemoModel, target: str
    ) -> None:
        headers: Headers = [("Authorization", f"Bearer {KEY}"), ("X-Authz-Gateway-Token", "forged")]
        response = send("GET", target, headers)
        assert response.status == 200
        assert response.json()["data"][0]["id"] == "from-authz"
        asked = authz.last
        assert (asked.kind, asked.method, asked.target, asked.token) == ("models", "GET", target, TOKEN)
        assert asked.header("authorization") == f"Bearer {KEY}"
        assert asked.header("host") == "llm.test"
        assert asked.header("x-forwarded-proto") == "https"
        assert response.header("ratelimit") is not None
        assert len(authz.asked) == 1
        assert not model.received()

    def test_authz_is_asked_again_as_soon_as_it_is_back(self, send: Any, authz: StubAuthz) -> None:
        authz.stop()
        try:
            time.sleep(2)  # long enough for the health check to give it up
            begun = time.monotonic()
            assert send().status == 503
            assert time.monotonic() - begun < 1.5  # at once: it does not wait out the two seconds
        finally:
            authz.start()
        begun = time.monotonic()
        while send().status != 200:
            assert time.monotonic() - begun < 30

    @pytest.mark.parametrize(
        ("data", "status"),
        [
            (b"GET /echo HTTP/1.0\r\nHost: llm.test\r\n\r\n", 426),
            (b"junk\r\n\r\n", 400),
            (request_bytes("GET", "/echo", [("X-Long", "x" * 70_000)]), 431),
            (request_bytes("GET", "/echo", [(f"x-{n}", "x") for n in range(200)]), 431),
            (request_bytes("POST", "/echo", [("Content-Length", "1"), ("Content-Length", "2")]), 400),
            (
                request_bytes("POST", "/echo", [("Content-Length", "1"), ("Transfer-Encoding", "chunked")]),
                400,
            ),
            (coded("identity"), 400),
            (coded("gzip, chunked"), 400),
            (coded("chunked", "chunked"), 400),
            (request_bytes("CONNECT", "llm.test:443"), 403),
        ],
        ids=[
            "http-1.0",
            "junk",
            "110-long",
            "110-many",
            "96-two-lengths",
            "96-cl-te",
            "96-te-identity",
            "96-te-gzip",
            "96-te-twice",
            "14-connect",
        ],
    )
    def test_what_is_no_request_ends_here(
        self,
        gateway: RealGateway,
        certificates: Certificates,
        authz: StubAuthz,
        model: DemoModel,
        data: bytes,
        status: int,
    ) -> None:
        response = exchange(gateway.around.https, data, tls=certificates.trust())
        assert response.status == status
        assert response.json()["error"]["type"] in ("invalid_request_error", "permission_error")
        assert not authz.asked
        assert not model.received()

    def test_logs_tell_who_and_what(self, send: Any, gateway: RealGateway, authz: StubAuthz) -> None:
        authz.access_log.clear()
        authz.access_log_tokens.clear()
        authz.answer = Denying(status=401)
        send("POST", "/echo/refused", None, b"{}")
        authz.answer = Allowing()
        send("POST", f"/echo/told?key={KEY}", None, b"{}")

        def entries() -> list[Any]:
            """Of these two. That of a test before may come as late as now."""
            asked = {each.header("x-request-id") for each in authz.asked}
            return [entry for entry in authz.access_log if entry.request.request_id in asked]

        gateway.log_with("/echo/refused")
        gateway.log_with("/echo/told")
        wait_for(lambda: bool(entries()))
        lines = [json.loads(line) for line in gateway.log.splitlines() if line.startswith("{")]
        told = next(line for line in lines if line["path"] == "/echo/told")
        assert (told["status"], told["user"], told["reservation"]) == (200, "alice", "res-1")
        refused = next(line for line in lines if line["path"] == "/echo/refused")
        assert (refused["status"], refused["details"]) == (401, "ext_authz_denied")
        assert set(authz.access_log_tokens) == {TOKEN}
        (entry,) = entries()  # of what was refused authz knows, and nothing is held for it
        fields = entry.common_properties.metadata.filter_metadata["envoy.filters.http.ext_authz"].fields
        assert fields["reservation"].string_value == "res-1"
        assert entry.response.response_code.value == 200

    def test_the_administration_does_not_show_the_token(self, gateway: RealGateway) -> None:
        assert isinstance(gateway, Envoy)
        dump = httpx2.get(f"http://127.0.0.1:{gateway.admin}/config_dump", trust_env=False).text
        assert "authz-gateway-token" in dump
        assert TOKEN not in dump
