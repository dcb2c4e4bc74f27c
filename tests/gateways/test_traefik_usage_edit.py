"""Traefik changes a body exactly as authz says, or refuses the request and gives back what was held."""

import json

import pytest

from authz.edit import Splice, spell
from tests.gateways.forward_auth_contract import UNAVAILABLE
from tests.gateways.reported_traffic import Traffic
from tests.support.raw_http import chunked, exchange, request_bytes
from tests.support.traefik import Traefik

GATEWAY = Traefik
MODEL = "server"
BODY = (
    '{"model":"demo","seed":9007199254740993,"x":1e400,"stream":true,"max_tokens":100,"é":"\\u0000"}'.encode()
)
LENGTH = len(BODY)
USAGE = '"stream_options":{"include_usage":true},'
MAXIMUM = BODY.index(b"100,")


EXACT = {
    "none": ((), BODY),
    "include-usage": ((Splice(1, 0, USAGE),), b"{" + USAGE.encode() + BODY[1:]),
    "replace": ((Splice(MAXIMUM, 3, "64"),), BODY.replace(b"100,", b"64,")),
    "both": (
        (Splice(1, 0, USAGE), Splice(MAXIMUM, 3, "1234")),
        b"{" + USAGE.encode() + BODY[1:].replace(b"100,", b"1234,"),
    ),
    "text-with-signs-of-its-own": ((Splice(1, 0, '"a=b+c":1,'),), b'{"a=b+c":1,' + BODY[1:]),
    "remove-only": ((Splice(MAXIMUM, 2, ""),), BODY.replace(b"100,", b"0,")),
    "at-the-end": ((Splice(LENGTH, 0, "x"),), BODY + b"x"),
    "side-by-side": ((Splice(0, 1, "["), Splice(1, 1, "]")), b"[]" + BODY[2:]),
}


@pytest.mark.parametrize("framing", ["with-a-length", "in-chunks"])
@pytest.mark.parametrize("name", EXACT)
def test_the_body_is_changed_to_the_byte(traffic: Traffic, name: str, framing: str) -> None:
    splices, expected = EXACT[name]
    traffic.allow(edit=spell(LENGTH, splices))
    headers: list[tuple[str | bytes, str | bytes]] = [("Content-Type", "application/json")]
    body = BODY
    if framing == "in-chunks":
        headers.append(("Transfer-Encoding", "chunked"))
        body = chunked(BODY[:7], BODY[7:])
    data = request_bytes("POST", "/v1/completions", headers, body, length=framing == "with-a-length")
    assert exchange(traffic.port, data, tls=traffic.tls).status == 200
    (received,) = traffic.server.received
    assert received.body == expected
    assert received.values("content-length") == [str(len(expected))]
    assert not received.values("transfer-encoding")
    assert not received.values("x-authz-edit")
    assert traffic.authz.last.body == BODY
    assert traffic.told()["reached"] is True


def test_a_large_body_is_changed_to_the_byte(traffic: Traffic) -> None:
    body = b'{"messages":"' + b"x" * 4_000_000 + b'","max_tokens":100}'
    end = len(body)
    traffic.allow(edit=spell(end, [Splice(1, 0, USAGE), Splice(end - 4, 3, "7")]))
    assert traffic.send(body=body).status == 200
    assert traffic.server.received[0].body == b"{" + USAGE.encode() + body[1:-4] + b"7}"


@pytest.mark.parametrize(
    "edit",
    [
        f"{LENGTH - 1} 1+0=x",
        f"{LENGTH + 1} 1+0=x",
        f"{LENGTH} {LENGTH}+1=x",
        f"{LENGTH} 5+2=x 6+0=y",
        f"{LENGTH} 5+0=x 4+0=y",
        f"{LENGTH} -1+0=x",
        f"{LENGTH} 1+-1=x",
        f"{LENGTH} 1=x",
        f"{LENGTH} 1+0",
        f"{LENGTH}  1+0=x",
        f"{LENGTH} 1+99999999999999999999=x",
        f"{LENGTH}, 1+0=x",
        "x",
    ],
)
def test_what_does_not_fit_is_refused(traffic: Traffic, edit: str) -> None:
    traffic.allow(edit=edit)
    response = traffic.send(body=BODY)
    assert (response.status, response.json()) == (503, UNAVAILABLE)
    assert response.header("ratelimit") is None
    assert not traffic.server.received
    told = traffic.told()
    assert (told["reached"], told["status"], told["usage"]) == (False, 503, None)


@pytest.mark.parametrize("name", ["X-Authz-Edit", "x-authz-edit"])
def test_29_a_change_by_the_client_is_none(traffic: Traffic, name: str) -> None:
    traffic.allow()
    assert traffic.send([(name, f"{LENGTH} 1+0=x")], body=BODY).status == 200
    assert traffic.server.received[0].body == BODY


def test_a_change_without_a_body_is_refused(traffic: Traffic) -> None:
    traffic.allow(edit="2 1+0=x")
    data = request_bytes("GET", "/v1/responses/resp_1")
    response = exchange(traffic.port, data, tls=traffic.tls)
    assert (response.status, json.loads(response.body)) == (503, UNAVAILABLE)
    assert not traffic.server.received
