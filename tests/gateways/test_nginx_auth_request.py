"""nginx without njs, run with the committed `auth-request.conf`: everything but bodies.

It inherits the contract and restates only what `auth_request` cannot do.
"""

import ssl
from typing import Any

import pytest

from tests.gateways.forward_auth_contract import (
    KEY,
    MAX_BODY,
    SPOOFED,
    UNAVAILABLE,
    ForwardAuthContract,
    Headers,
    is_spoofable,
    sha256,
)
from tests.support.gateway import RealGateway
from tests.support.model import DemoModel
from tests.support.nginx import NginxWithoutNjs
from tests.support.raw_http import chunked, exchange, request_bytes
from tests.support.stub_authz import IDENTITY, Allowing, StubAuthz

GATEWAY = NginxWithoutNjs


class TestNginxWithoutNjs(ForwardAuthContract):
    kind = "nginx"
    asked_uri = "x-original-uri"
    asked_method = "x-original-method"
    hands_bodies_over = False

    @pytest.mark.parametrize("framing", ["content-length", "chunked"])
    def test_a_withheld_body_is_announced(
        self, send: Any, authz: StubAuthz, model: DemoModel, framing: str
    ) -> None:
        """authz refuses what needs the body; what does not, passes with it."""
        if framing == "chunked":
            response = send(
                "POST", "/echo", [("Transfer-Encoding", "chunked")], chunked(b"{}", b" "), length=False
            )
            announced, name = "chunked", "x-original-transfer-encoding"
        else:
            response = send("POST", "/echo", None, b"{} ")
            announced, name = "3", "x-original-content-length"
        assert response.status == 200
        assert (authz.last.method, authz.last.body) == ("GET", b"")
        assert authz.last.header(name) == announced
        assert model.last().body == "{} "

    def test_26_27_28_29_spoofed_headers_end_at_the_gateway(
        self, send: Any, authz: StubAuthz, model: DemoModel
    ) -> None:
        """Every name that authz ever sends is set or removed. A made-up one passes: it means nothing to anybody."""
        for identity in (tuple(IDENTITY.items()), ()):
            authz.answer = Allowing(upstream=identity)
            assert send("GET", "/echo", SPOOFED).status == 200
            found = [(name, value) for name, value in model.last().headers if is_spoofable(name)]
            assert sorted(found) == sorted([*identity, ("x-authz-anything", "1"), ("x-authz-status", "200")])

    def test_further_credential_headers_are_removed(
        self, send: Any, authz: StubAuthz, model: DemoModel
    ) -> None:
        """Those that the file names; with another one the request goes nowhere."""
        authz.answer = Allowing(remove=("authorization", "x-api-key", "cookie"))
        assert send(headers=[("X-Api-Key", KEY), ("Cookie", f"session={KEY}")]).status == 200
        assert KEY not in str(model.last())
        model.reset()
        authz.answer = Allowing(remove=("authorization", "x-api-token"))
        response = send(headers=[("X-Api-Token", KEY)])
        assert (response.status, response.json()) == (503, UNAVAILABLE)
        assert not model.received()


def test_an_unjudged_body_still_has_a_maximum(
    gateway: RealGateway, tls: ssl.SSLContext, authz: StubAuthz, model: DemoModel
) -> None:
    body = b"x" * MAX_BODY
    assert exchange(gateway.around.https, request_bytes("PUT", "/echo", None, body), tls=tls).status == 200
    assert model.last().body_sha256 == sha256(body)
    headers: Headers = [("Transfer-Encoding", "chunked")]
    data = request_bytes("PUT", "/echo", headers, chunked(body, b"x"), length=False)
    response = exchange(gateway.around.https, data, tls=tls)
    assert (response.status, response.json()["error"]["code"]) == (413, "request_too_large")
