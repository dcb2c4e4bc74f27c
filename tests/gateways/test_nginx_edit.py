"""nginx makes the change of a body that authz tells, byte by byte, or lets nothing through."""

import json
import ssl
from typing import Any

import pytest

from authz.edit import Splice, spell
from tests.gateways.forward_auth_contract import with_model
from tests.support.gateway import Around
from tests.support.nginx import Nginx, NginxWithoutNjs
from tests.support.pieces_server import Pieces, PiecesServer
from tests.support.raw_http import chunked, exchange, request_bytes
from tests.support.stub_authz import IDENTITY, Allowing, StubAuthz

GATEWAY = Nginx
MODEL = "server"
JSON: list[tuple[str | bytes, str | bytes]] = [("Content-Type", "application/json")]
INCLUDE = '"stream_options":{"include_usage":true},'


BODIES = {
    "small": b'{"model": "demo", "stream": true}',
    "integers above 2^53": b'{"seed": 9007199254740993, "x": 1.0e+2, "stream": true}',
    "unicode": '{"model": "d\u00e9mo \u4f60\u597d \U0001f600", "stream": true}'.encode(),
    "bytes that are no UTF-8": b'{"a": "\xff\xfe\x00\x80", "stream": true}',
    "spaces and escapes": b'{ "a" :\t"\\u00e9\\/" ,\r\n"stream":true }\n',
    "half a megabyte": b'{"text": "' + b"\xe4\xbd\xa0" * 170_000 + b'", "stream": true}',
    "four mebibytes": b'{"text": "' + b"x" * ((4 << 20) - 12) + b'"}',
}


def reported(gateway: Nginx, authz: StubAuthz, reservation: str) -> dict[str, Any]:
    """The report of that request; those of earlier tests may come in between."""

    def found() -> list[dict[str, Any]]:
        return [each for each in authz.ended if each["reservation"] == reservation]

    gateway.process.wait_until(lambda: bool(found()))  # type: ignore[union-attr]
    return found()[0]


@pytest.mark.parametrize("framed", ["length", "chunked"])
@pytest.mark.parametrize("name", BODIES)
def test_a_body_is_changed_at_those_places_and_nowhere_else(
    gateway: Nginx, tls: ssl.SSLContext, authz: StubAuthz, server: PiecesServer, name: str, framed: str
) -> None:
    body = BODIES[name]
    end = len(body) - 1
    changes = [Splice(1, 0, INCLUDE), Splice(3, 2, ""), Splice(end, 0, ',"max_tokens":621')]
    authz.answer = Allowing(edit=spell(len(body), changes))
    server.will_answer(Pieces(pieces=[b"{}"]))
    data = request_bytes("POST", "/v1/chat/completions", JSON, body)
    if framed == "chunked":
        data = request_bytes(
            "POST",
            "/v1/chat/completions",
            [*JSON, ("Transfer-Encoding", "chunked")],
            chunked(body[:7], body[7:]),
            length=False,
        )
    response = exchange(gateway.around.https, data, tls=tls)
    assert response.status == 200
    assert authz.last.body == body
    assert authz.last.header("x-authz-gateway-can") == "edit"
    [received] = server.received
    assert (
        received.body
        == body[:1] + INCLUDE.encode() + body[1:3] + body[5:end] + b',"max_tokens":621' + body[end:]
    )
    assert received.values("content-length") == [str(len(received.body))]
    assert received.values("transfer-encoding") == []
    assert received.head.startswith("POST /v1/chat/completions HTTP/1.1\r\n")
    assert received.values("x-authz-user") == ["alice"]
    for answer in (received.values("x-authz-edit"), received.values("x-authz-gateway-can")):
        assert answer == []
    assert not [key for key, _ in response.headers if key.startswith("x-authz")]
    assert response.header("x-request-id") == "req-1"


def test_a_changed_request_is_read_for_its_usage_as_well(
    gateway: Nginx, tls: ssl.SSLContext, authz: StubAuthz, server: PiecesServer
) -> None:
    upstream = tuple({**IDENTITY, "x-authz-reservation": "res-changed"}.items())
    authz.answer = Allowing(edit=spell(2, [Splice(1, 0, '"a":1')]), upstream=upstream)
    server.will_answer(Pieces(pieces=[b'{"usage":', b'{"total_tokens":7}}']))
    response = exchange(gateway.around.https, request_bytes("POST", "/v1/x?a=%20b", JSON, b"{}"), tls=tls)
    assert response.body == b'{"usage":{"total_tokens":7}}'
    assert response.header("x-ratelimit-limit-requests") == "60"
    assert server.received[0].head.startswith("POST /v1/x?a=%20b HTTP/1.1\r\n")
    report = reported(gateway, authz, "res-changed")
    assert (report["usage"], report["status"]) == ({"total_tokens": 7}, 200)


IMPOSSIBLE = {
    "another length": '3 1+0="a":1',
    "no length": '1+0="a":1',
    "beyond the end": "2 2+1=x",
    "backwards": "2 1+0=a 0+0=b",
    "overlapping": "2 0+2=a 1+0=b",
    "no number": "2 x+0=a",
    "no text": "2 1+0",
    "negative": "2 -1+0=a",
    "a length written otherwise": "02 1+0=a",
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_a_change_that_cannot_be_made_lets_nothing_through(
    gateway: Nginx, tls: ssl.SSLContext, authz: StubAuthz, server: PiecesServer, name: str
) -> None:
    reservation = f"res-{name}".replace(" ", "-")
    upstream = tuple({**IDENTITY, "x-authz-reservation": reservation}.items())
    authz.answer = Allowing(edit=IMPOSSIBLE[name], upstream=upstream)
    server.will_answer(Pieces(pieces=[b"{}"]))
    response = exchange(gateway.around.https, request_bytes("POST", "/v1/x", JSON, b"{}"), tls=tls)
    assert (response.status, response.json()["error"]["code"]) == (503, "authz_unavailable")
    assert not server.received
    report = reported(gateway, authz, reservation)  # so that what was held for it is given back
    assert (report["status"], report["reached"]) == (503, False)


def test_a_request_without_a_change_goes_the_usual_way(
    gateway: Nginx, tls: ssl.SSLContext, authz: StubAuthz, server: PiecesServer
) -> None:
    server.will_answer(Pieces(pieces=[b"{}"]))
    body = json.dumps({"model": "demo"}).encode()
    data = request_bytes("POST", "/v1/x", [*JSON, ("X-Authz-Edit", "1 0+1=x")], body)
    assert exchange(gateway.around.https, data, tls=tls).status == 200
    assert server.received[0].body == body


def test_without_njs_a_client_cannot_claim_that_bodies_are_changed(
    around: Around, tls: ssl.SSLContext, authz: StubAuthz, server: PiecesServer
) -> None:
    with NginxWithoutNjs(with_model(around, server.port)) as gateway:
        data = request_bytes("GET", "/v1/x", [("X-Authz-Gateway-Can", "edit")])
        server.will_answer(Pieces(pieces=[b"{}"]))
        assert exchange(gateway.around.https, data, tls=tls).status == 200
    assert authz.last.header("x-authz-gateway-can") is None


def test_the_client_is_told_what_its_answer_was_limited_to(
    gateway: Nginx, tls: ssl.SSLContext, authz: StubAuthz, server: PiecesServer
) -> None:
    authz.answer = Allowing(edit=spell(2, [Splice(1, 0, '"a":1')]), client=(("x-authz-max-tokens", "64"),))
    server.will_answer(Pieces(pieces=[b"{}"], headers=("x-authz-max-tokens: 9",)))
    response = exchange(gateway.around.https, request_bytes("POST", "/v1/x", JSON, b"{}"), tls=tls)
    assert [value for name, value in response.headers if name == "x-authz-max-tokens"] == ["64"]
    assert server.received[0].values("x-authz-max-tokens") == []
