"""Traefik with its plugins: what a model server says that it used is what authz is told, and no byte changes."""

import json
import random
from typing import Any

import pytest

from tests.gateways.answer import EVENTS, Answer
from tests.gateways.answers_with_usage import CHAT, FAKE, WITH_USAGE
from tests.gateways.answers_without_usage import WITHOUT_USAGE
from tests.gateways.reported_traffic import ASKED, Traffic
from tests.support.pieces_server import Pieces
from tests.support.stub_authz import Denying
from tests.support.traefik import Traefik

GATEWAY = Traefik
MODEL = "server"
MIB = 1 << 20


def as_sent(answer: Answer) -> list[bytes]:
    return list(answer.parts)


def byte_by_byte(answer: Answer) -> list[bytes]:
    return answer.pieces(1)


def at_once(answer: Answer) -> list[bytes]:
    return [answer.body]


def at_random(answer: Answer) -> list[bytes]:
    text, found, chance = answer.body, [], random.Random(7)
    while text:
        size = chance.randint(1, 60)
        found.append(text[:size])
        text = text[size:]
    return found


@pytest.mark.parametrize("cut", [as_sent, byte_by_byte, at_once, at_random], ids=lambda cut: cut.__name__)
@pytest.mark.parametrize("name", [*WITH_USAGE, *WITHOUT_USAGE])
def test_authz_is_told_what_the_model_server_said(traffic: Traffic, name: str, cut: Any) -> None:
    answer = (WITH_USAGE | WITHOUT_USAGE)[name]
    pieces = [piece for piece in cut(answer) if piece]
    response = traffic.ask(Pieces(pieces=pieces, content_type=answer.content_type))
    assert (response.status, response.body) == (200, answer.body)
    told = traffic.told()
    assert told.pop("duration_ms") >= 0
    assert told == {
        "reservation": traffic.reservation,
        "usage": answer.usage,
        "status": 200,
        "reached": True,
        "aborted": False,
        "streamed": answer.streamed,
        "response_bytes": len(answer.body),
    }


def test_reports_prove_whose_they_are_and_nobody_else_learns_of_it(traffic: Traffic) -> None:
    response = traffic.ask(
        Pieces(pieces=[b"{}"]),
        headers=[
            ("X-Authz-Gateway-Can", "edit, lease=1"),
            ("X-Authz-Reservation", "rsv_of_another"),
            ("X-Authz-Edit", "30 0+1=["),
            ("Accept-Encoding", "gzip, br"),
        ],
    )
    assert response.status == 200
    traffic.told()
    assert traffic.authz.reports[-1].token == "gateway-token-of-the-tests"
    assert traffic.authz.last.values("x-authz-gateway-can") == ["edit, lease=60000"]
    assert traffic.authz.last.header("x-authz-edit") is None
    (received,) = traffic.server.received
    assert received.body == ASKED
    assert received.values("accept-encoding") == ["identity"]
    assert received.values("x-authz-reservation") == [traffic.reservation]
    for name in ("x-authz-gateway-can", "x-authz-gateway-token", "x-authz-edit"):
        assert not received.values(name)
        assert response.header(name) is None


def test_the_client_is_told_its_limits_and_only_by_authz(traffic: Traffic) -> None:
    traffic.allow(client=(("x-authz-max-tokens", "64"), ("ratelimit", '"a";r=1;t=1')))
    traffic.server.will_answer(Pieces(pieces=[b"{}"], headers=("x-authz-max-tokens: 9", "ratelimit: no")))
    response = traffic.send()
    assert [value for name, value in response.headers if name == "x-authz-max-tokens"] == ["64"]
    assert [value for name, value in response.headers if name == "ratelimit"] == ['"a";r=1;t=1']
    traffic.ask(Pieces(pieces=[b"{}"], headers=("x-authz-max-tokens: 9",)))
    assert traffic.send().header("x-authz-max-tokens") is None


def embeddings(size: int, tail: str) -> bytes:
    """At least `size` bytes of an answer that ends in `tail`."""
    numbers = ", ".join(f"{number / 7:.9f}" for number in range(1024))
    vector = '{"object": "embedding", "embedding": [' + numbers + "]}"
    vectors = ",".join([vector] * (size // len(vector) + 1))
    return ('{"object": "list", "data": [' + vectors + "]" + tail).encode()


USED = {"prompt_tokens": 5_000_000, "total_tokens": 5_000_000}
TAILS: dict[str, tuple[str, dict[str, Any] | None]] = {
    "at-the-end": (f', "usage": {json.dumps(USED)}}}', USED),
    "more-behind": (f', "usage": {json.dumps(USED)},\n "prompt_logprobs": null, "model": "m"}}\n\n', USED),
    "103-behind-it-a-nested-one": (f', "usage": {json.dumps(USED)}, "x": [{{"usage": {{"a": 1}}}}]}}', USED),
    "103-behind-it-a-text": (f', "usage": {json.dumps(USED)}, "x": {json.dumps(json.dumps(FAKE))}}}', USED),
    "103-only-a-nested-one": (f', "x": {{"usage": {json.dumps(USED)}}}}}', None),
    "103-only-a-text": (f', "x": {json.dumps(", " + json.dumps({"usage": FAKE})[1:])}}}', None),
    "cut-off": (f', "usage": {json.dumps(USED)}', None),
    "too-far-from-the-end": (f', "usage": {json.dumps(USED)}, "x": "{"x" * 40_000}"}}', None),
    "null": (', "usage": null}', None),
}


@pytest.mark.parametrize("chunked", [True, False], ids=["chunked", "with-a-length"])
@pytest.mark.parametrize("tail", TAILS)
def test_of_a_long_document_the_end_is_read(traffic: Traffic, tail: str, chunked: bool) -> None:
    text, usage = TAILS[tail]
    body = embeddings(2 * MIB, text)
    pieces = [body[at : at + 50_000] for at in range(0, len(body), 50_000)]
    response = traffic.ask(Pieces(pieces=pieces, chunked=chunked))
    assert response.body == body
    assert traffic.told()["usage"] == usage


def test_20_mb_of_embeddings_come_as_they_are(traffic: Traffic) -> None:
    body = embeddings(20 * MIB, TAILS["at-the-end"][0])
    pieces = [body[at : at + MIB] for at in range(0, len(body), MIB)]
    assert traffic.ask(Pieces(pieces=pieces)).body == body
    told = traffic.told()
    assert (told["usage"], told["response_bytes"]) == (USED, len(body))


def test_a_line_beyond_all_measure_is_passed_over(traffic: Traffic) -> None:
    """What comes behind it is read again."""
    line = b'data: {"usage": {"prompt_tokens": 1}, "x": "' + b"x" * (2 * MIB) + b'"}\n\n'
    last = f"data: {json.dumps({'usage': CHAT})}\n\n".encode()
    pieces = [line[at : at + 50_000] for at in range(0, len(line), 50_000)] + [last]
    response = traffic.ask(Pieces(pieces=pieces, content_type=EVENTS))
    assert response.body == line + last
    assert traffic.told()["usage"] == CHAT


def test_a_compressed_answer_passes_and_is_not_understood(traffic: Traffic) -> None:
    body = json.dumps({"usage": FAKE}).encode()
    response = traffic.ask(Pieces(pieces=[body], headers=("content-encoding: br",)))
    assert (response.header("content-encoding"), response.body) == ("br", body)
    assert traffic.told()["usage"] is None


@pytest.mark.parametrize("status", [400, 429, 500, 502, 503])
def test_an_error_of_the_model_server_is_its_own(traffic: Traffic, status: int) -> None:
    body = b'{"error":{"message":"from the model server"}}'
    response = traffic.ask(Pieces(pieces=[body], status=status))
    assert (response.status, response.body) == (status, body)
    told = traffic.told()
    assert (told["status"], told["reached"], told["usage"]) == (status, True, None)


def test_of_a_refusal_nothing_is_reported(traffic: Traffic) -> None:
    traffic.server.will_answer(Pieces(pieces=[b"{}"]))
    refused = "rsv_refused"
    traffic.authz.answer = Denying(status=429, headers=(("x-authz-reservation", refused),))
    assert traffic.send().status == 429
    traffic.allow()
    assert traffic.send().status == 200
    traffic.told()
    assert refused not in [item["reservation"] for item in traffic.authz.ended]
