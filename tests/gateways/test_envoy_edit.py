"""A change of a body that authz asked for: made to the byte, or the request is refused."""

import json
import random
from collections.abc import Iterator

import httpx2
import pytest

from authz.edit import Splice, spell
from tests.gateways.envoy_lab import CHAT, EnvoyLab, told
from tests.gateways.forward_auth_contract import UNAVAILABLE, with_model
from tests.support.certificates import Certificates
from tests.support.gateway import Around
from tests.support.pieces_server import Pieces, PiecesServer
from tests.support.raw_http import chunked, request_bytes
from tests.support.rendered import with_two_models
from tests.support.rendered_envoy import RenderedEnvoy
from tests.support.stub_authz import IDENTITY, Allowing, StubAuthz

BODY = '{"model":"demo","seed":9007199254740993,"messages":[{"content":"naïve 漢字 \\u0000 😀"}],"x":1.0e2}'.encode()
USAGE = '"stream_options":{"include_usage":true},'


@pytest.fixture(scope="module")
def running_lab(around: Around, running_stub: StubAuthz, certificates: Certificates) -> Iterator[EnvoyLab]:
    with PiecesServer() as model, RenderedEnvoy(with_model(around, model.port)) as gateway:
        yield EnvoyLab(gateway, running_stub, model, certificates)


@pytest.fixture
def lab(running_lab: EnvoyLab) -> EnvoyLab:
    """Nothing asked yet, everything allowed."""
    running_lab.forget()
    return running_lab


def applied(body: bytes, splices: list[Splice]) -> bytes:
    for splice in sorted(splices, reverse=True):
        body = body[: splice.offset] + splice.text.encode() + body[splice.offset + splice.remove :]
    return body


def received(lab: EnvoyLab, body: bytes, edit: str, *, data: bytes | None = None) -> bytes:
    """What the model server got of a request that authz changes."""
    lab.authz.answer = Allowing(edit=edit)
    response = lab.ask(body, data=data)
    assert response.status == 200, response.body
    (request,) = lab.model.received
    framing = request.values("content-length") + request.values("transfer-encoding")
    assert framing in ([str(len(request.body))], ["chunked"])
    return request.body


SPLICES = {
    "insert": [Splice(1, 0, USAGE)],
    "replace": [Splice(BODY.index(b"9007"), 16, "621")],
    "remove": [Splice(BODY.index(b',"x"'), 10, "")],
    "at-the-end": [Splice(len(BODY), 0, "}")],
    "several": [
        Splice(1, 0, USAGE),
        Splice(BODY.index(b"1.0e2"), 5, "2"),
        Splice(len(BODY) - 1, 1, ',"n":1}'),
    ],
    "signs-of-the-wire": [Splice(1, 0, '"a=1+2":"%d+%d=%S",'), Splice(2, 0, "==")],
    "all-of-it": [Splice(0, len(BODY), "{}")],
}


@pytest.mark.parametrize("case", SPLICES)
def test_the_body_changes_there_and_nowhere_else(lab: EnvoyLab, case: str) -> None:
    splices = SPLICES[case]
    assert received(lab, BODY, spell(len(BODY), splices)) == applied(BODY, splices)


def test_without_a_change_the_body_is_untouched(lab: EnvoyLab) -> None:
    assert lab.ask(BODY).status == 200
    assert lab.model.received[-1].body == BODY


def test_any_bytes_and_any_places(lab: EnvoyLab) -> None:
    chance = random.Random(7)
    for _ in range(50):
        body = chance.randbytes(chance.randint(1, 3000))
        places = sorted(chance.sample(range(len(body) + 1), min(len(body), chance.randint(1, 6))))
        ends = [*places[1:], len(body)]
        splices = [
            Splice(place, chance.randint(0, end - place), "x" * chance.randint(0, 20))
            for place, end in zip(places, ends, strict=True)
        ]
        lab.model.received.clear()
        assert received(lab, body, spell(len(body), splices)) == applied(body, splices)


def test_four_megabytes(lab: EnvoyLab) -> None:
    body = b'{"messages":"' + random.Random(1).randbytes((4 << 20) - 15).replace(b'"', b"'") + b'"}'
    assert len(body) == 4 << 20
    splices = [Splice(1, 0, USAGE)]
    assert received(lab, body, spell(len(body), splices)) == applied(body, splices)


def test_a_changed_request_goes_where_authz_sent_it(
    around: Around, authz: StubAuthz, certificates: Certificates
) -> None:
    """Envoy chooses the route anew when a header changes."""
    with PiecesServer() as first, PiecesServer() as second:
        change = with_two_models(second.port)
        with RenderedEnvoy(with_model(around, first.port), change) as gateway:
            edit = spell(len(BODY), SPLICES["insert"])
            chosen = (*IDENTITY.items(), ("x-authz-backend", "other"))
            authz.answer = Allowing(edit=edit, upstream=chosen)
            assert EnvoyLab(gateway, authz, second, certificates).ask(BODY).status == 200
        assert not first.received
        assert second.received[-1].body == applied(BODY, SPLICES["insert"])
        assert second.received[-1].values("x-authz-backend") == []


def test_a_chunked_body(lab: EnvoyLab) -> None:
    head = request_bytes("POST", CHAT, [("Transfer-Encoding", "chunked")])
    data = head + chunked(BODY[:10], BODY[10:11], BODY[11:])
    splices = SPLICES["several"]
    assert received(lab, b"", spell(len(BODY), splices), data=data) == applied(BODY, splices)


def test_a_body_that_waits_to_be_asked_for(lab: EnvoyLab) -> None:
    splices = SPLICES["several"]
    lab.authz.answer = Allowing(edit=spell(len(BODY), splices))
    head = [("Expect", "100-continue"), ("Content-Length", str(len(BODY)))]
    with lab.leaving(request_bytes("POST", CHAT, list(head))) as connection:
        assert connection.recv(4096).startswith(b"HTTP/1.1 100 ")
        connection.sendall(BODY)
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
    assert lab.model.received[-1].body == applied(BODY, splices)


@pytest.mark.parametrize("length", [True, False], ids=["with-length", "without"])
def test_http2(lab: EnvoyLab, certificates: Certificates, length: bool) -> None:
    splices = SPLICES["several"]
    lab.authz.answer = Allowing(edit=spell(len(BODY), splices))
    content = BODY if length else iter([BODY[:7], BODY[7:]])
    with httpx2.Client(http2=True, verify=certificates.trust(), trust_env=False) as client:
        response = client.post(f"{lab.gateway.https}{CHAT}", content=content)
    assert (response.status_code, response.http_version) == (200, "HTTP/2")
    assert lab.model.received[-1].body == applied(BODY, splices)


UNMAKEABLE = {
    "longer": f"{len(BODY) + 1} 1+0=x",
    "shorter": f"{len(BODY) - 1} 1+0=x",
    "empty": "",
    "words": "please change it",
    "no-splice": f"{len(BODY)}",
    "no-splice-behind-the-space": f"{len(BODY)} ",
    "half-a-splice": f"{len(BODY)} 1+0",
    "out-of-order": f"{len(BODY)} 5+0=x 1+0=y",
    "overlap": f"{len(BODY)} 1+5=x 3+0=y",
    "beyond-the-end": f"{len(BODY)} {len(BODY)}+1=x",
    "negative": f"{len(BODY)} -1+0=x",
    "huge": f"{len(BODY)} {'9' * 400}+0=x",
    "two-spaces": f"{len(BODY)} 1+0=x  3+0=y",
}


@pytest.mark.parametrize("case", UNMAKEABLE)
def test_a_change_that_cannot_be_made_refuses_the_request(lab: EnvoyLab, case: str) -> None:
    lab.authz.answer = Allowing(edit=UNMAKEABLE[case])
    response = lab.ask(BODY)
    assert response.status == 503
    assert response.json() == UNAVAILABLE
    assert response.header("content-type") == "application/json"
    assert not lab.model.received
    entry = lab.end()
    assert told(entry, "reservation") == "res-1"
    assert not entry.common_properties.HasField("upstream_remote_address")


def test_a_change_of_no_body_refuses_the_request(lab: EnvoyLab) -> None:
    lab.authz.answer = Allowing(edit="2 1+0=x")
    response = lab.ask(b"", data=request_bytes("POST", CHAT))
    assert (response.status, response.json()) == (503, UNAVAILABLE)
    assert not lab.model.received


def test_an_answer_to_a_changed_request_is_read_as_any(lab: EnvoyLab) -> None:
    lab.authz.answer = Allowing(edit=spell(len(BODY), SPLICES["insert"]))
    body = json.dumps({"usage": {"prompt_tokens": 3}}).encode()
    response, entry = lab.answered(Pieces(pieces=[body]), body=BODY)
    assert response.body == body
    fields = entry.common_properties.metadata.filter_metadata["authz.usage"].fields
    assert fields["input"].number_value == 3
