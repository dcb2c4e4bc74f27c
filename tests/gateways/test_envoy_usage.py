"""What Envoy tells authz of an answer: exactly the usage that the model server sent, and never a word of its content."""

import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from authz.gateway.settings import Address
from tests.gateways.answer import DONE, EVENTS, JSON, Answer, chunk, event, spaced
from tests.gateways.answers_with_usage import WITH_USAGE
from tests.gateways.answers_without_usage import WITHOUT_USAGE
from tests.gateways.clients import read_all, wait_for
from tests.gateways.envoy_lab import CHAT, PERIODIC, EnvoyLab, told, usage_of
from tests.gateways.forward_auth_contract import with_model
from tests.support.certificates import Certificates
from tests.support.gateway import Around
from tests.support.pieces_server import Pieces, PiecesServer
from tests.support.ports import free_port
from tests.support.raw_http import request_bytes
from tests.support.rendered_envoy import RenderedEnvoy
from tests.support.stub_authz import Allowing, Denying, StubAuthz


@pytest.fixture(scope="module")
def running_lab(around: Around, running_stub: StubAuthz, certificates: Certificates) -> Iterator[EnvoyLab]:
    with (
        PiecesServer() as model,
        RenderedEnvoy(
            with_model(around, model.port), lambda s: replace(s, lease_ms=3000, name="edge")
        ) as gateway,
    ):
        yield EnvoyLab(gateway, running_stub, model, certificates)


@pytest.fixture
def lab(running_lab: EnvoyLab) -> EnvoyLab:
    """Nothing asked yet, everything allowed."""
    running_lab.forget()
    return running_lab


def in_pieces(text: bytes, size: int) -> list[bytes]:
    return [text[at : at + size] for at in range(0, len(text), size)]


CUTS: dict[str, Callable[[Answer], list[bytes]]] = {
    "by-event": lambda answer: list(answer.parts),
    "at-once": lambda answer: [answer.body],
    "anywhere": lambda answer: answer.pieces(7),
    "crlf": lambda answer: [each.replace(b"\n", b"\r\n") for each in answer.parts],
    "without-its-last-line-end": lambda answer: [answer.body.removesuffix(DONE).rstrip()],
}


READ_OTHERWISE: dict[str, dict[str, float]] = {
    "chat-stream-cr": {},  # lines that end with CR alone are not told apart
    # What is broken behind the usage is not looked at.
    "broken-json": {"input": 1},
    "broken-json-stream": {"input": 1},
    "broken-json-after-a-text-stream": {"input": 5},
}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("name", [*WITH_USAGE, *WITHOUT_USAGE])
def test_the_entry_tells_what_the_model_sent(lab: EnvoyLab, name: str, cut: str) -> None:
    answer = (WITH_USAGE | WITHOUT_USAGE)[name]
    pieces = [piece for piece in CUTS[cut](answer) if piece]
    response, entry = lab.answered(Pieces(pieces=pieces, content_type=answer.content_type))
    assert (response.status, response.body) == (200, b"".join(pieces))
    assert response.header("content-type") == answer.content_type
    assert usage_of(entry) == READ_OTHERWISE.get(name, answer.counted)
    assert told(entry, "reservation") == "res-1"
    assert entry.response.response_headers["content-type"] == answer.content_type
    assert entry.response.response_code.value == 200
    assert entry.response.response_body_bytes == len(response.body)
    assert entry.common_properties.HasField("upstream_remote_address")


COUNTING = [
    event(chunk("x", usage={"prompt_tokens": 5, "completion_tokens": count, "total_tokens": 5 + count}))
    for count in (1, 2, 3)
]


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        (b"-5", -5.0),
        (b"1.5", 1.5),
        (b"9007199254740991", 9007199254740991.0),
        (b"1e400", "1e400}"),
        (b'"12"', '"12"}'),
        (b"true", "true}"),
        (b"null", None),
    ],
    ids=["negative", "fraction", "2^53-1", "infinite", "text", "true", "null"],
)
def test_100_a_count_that_is_none_is_handed_on_for_authz_to_judge(
    lab: EnvoyLab, value: bytes, seen: float | str | None
) -> None:
    body = b'{"usage":{"completion_tokens":2,"prompt_tokens":' + value + b"}}"
    _, entry = lab.answered(Pieces(pieces=[body]))
    usage = usage_of(entry)
    assert usage.pop("output") == 2
    given = usage.pop("input", None)
    assert given == seen if not isinstance(seen, str) else str(given).startswith(seen)
    assert not usage


WORDS = [
    "usage",
    '"usage":{"prompt_tokens":1}',
    "\\",
    '\\"',
    '"',
    "{",
    "}",
    "[]",
    "data: ",
    "\n",
    "\u2028",
    "漢",
    "input",
]


def anything(chance: random.Random, depth: int) -> Any:
    """Some JSON, as a model may write it, below the top."""
    kind = chance.randrange(6 if depth else 4)
    if kind == 0:
        return "".join(chance.choices(WORDS, k=chance.randrange(5)))
    if kind == 1:
        return chance.choice([None, True, False, 0, -1.5e-7, 12345678901234567890])
    if kind == 2:
        return chance.random()
    if kind == 3:
        return {"usage": {"prompt_tokens": 1, "input_tokens": 1, "output_tokens": 1}}
    members = chance.randrange(4)
    if kind == 4:
        return [anything(chance, depth - 1) for _ in range(members)]
    return {"".join(chance.choices(WORDS, k=2)): anything(chance, depth - 1) for _ in range(members)}


def document(chance: random.Random, usage: Any) -> dict[str, Any]:
    """Some object with that usage among its members; no other member goes by a name that counts."""
    members = [
        (f"{chance.choice(WORDS)}-{number}", anything(chance, 3)) for number in range(chance.randrange(6))
    ]
    if usage is not None:
        members.insert(chance.randint(0, len(members)), ("usage", usage))
    return dict(members)


def test_103_any_json_cut_anywhere_is_read_as_json_is(lab: EnvoyLab) -> None:
    chance = random.Random(103)
    for _ in range(120):
        counts = {"prompt_tokens": chance.randrange(10**6), "completion_tokens": chance.randrange(10**6)}
        usage = chance.choice([None, counts])
        style: dict[str, Any] = {
            "ensure_ascii": chance.random() < 0.5,
            "separators": chance.choice([(",", ":"), (", ", ": "), (" ,", " : ")]),
        }
        streamed = chance.random() < 0.5
        if streamed:
            parts = [json.dumps(document(chance, None), **style) for _ in range(chance.randrange(4))]
            parts.insert(chance.randint(0, len(parts)), json.dumps(document(chance, usage), **style))
            body = "".join(f"data: {part}\n\n" for part in parts).encode()
        else:
            style["indent"] = chance.choice([None, 1])
            body = json.dumps(document(chance, usage), **style).encode()
        pieces = in_pieces(body, chance.randint(1, len(body)))[:200]
        pieces.append(body[sum(map(len, pieces)) :])
        answer = Pieces(
            pieces=[piece for piece in pieces if piece], content_type=EVENTS if streamed else JSON
        )
        response, entry = lab.answered(answer)
        assert response.body == body
        expected = {"input": counts["prompt_tokens"], "output": counts["completion_tokens"]}
        assert usage_of(entry) == ({} if usage is None else expected), body


def test_compressed_answers_are_not_asked_for(lab: EnvoyLab) -> None:
    lab.answered(Pieces(pieces=[b"{}"]), headers=(("Accept-Encoding", "gzip, br"),))
    assert lab.model.received[-1].values("accept-encoding") == []


def test_an_answer_compressed_all_the_same_passes(lab: EnvoyLab) -> None:
    response, entry = lab.answered(Pieces(pieces=[b"\x1f\x8b\0\0"], headers=("content-encoding: gzip",)))
    assert (response.body, usage_of(entry)) == (b"\x1f\x8b\0\0", {})


@pytest.mark.parametrize("status", [200, 204, 304])
def test_an_answer_without_a_body_passes(lab: EnvoyLab, status: int) -> None:
    response, entry = lab.answered(Pieces(pieces=[], chunked=False, status=status))
    assert (response.status, response.body, usage_of(entry)) == (status, b"", {})


VECTOR = json.dumps([round(0.001 * number - 0.7, 6) for number in range(1536)])
USED = '"usage":{"prompt_tokens":4096,"total_tokens":4096}'


def embeddings(size: int, *, first: bool) -> bytes:
    """At least so many bytes, the usage before or behind them."""
    entry = '{"object":"embedding","index":0,"embedding":' + VECTOR + "}"
    data = '"data":[' + ",".join([entry] * (size // len(entry) + 1)) + "]"
    return ("{" + (f"{USED},{data}" if first else f'{data},"model":"demo",{USED}') + "}\n").encode()


@pytest.mark.parametrize("chunked", [True, False], ids=["chunked", "with-length"])
@pytest.mark.parametrize("first", [True, False], ids=["usage-first", "usage-last"])
@pytest.mark.parametrize("size", [60_000, 130_000, 2_000_000, 20_000_000])
def test_large_embeddings_pass_unharmed(lab: EnvoyLab, size: int, first: bool, chunked: bool) -> None:
    body = embeddings(size, first=first)
    pieces = in_pieces(body, 1 << 16)
    response, entry = lab.answered(Pieces(pieces=pieces, chunked=chunked), target="/v1/embeddings")
    assert len(response.body) == len(body)
    assert response.body == body
    assert response.header("content-length") == (None if chunked else str(len(body)))
    assert usage_of(entry) == {"input": 4096, "total": 4096}


def test_usage_among_the_words_of_a_tool_is_found(lab: EnvoyLab) -> None:
    """However much of the model's own JSON stands before it."""
    true, false = {"input_tokens": 3, "output_tokens": 5}, {"usage": {"input_tokens": 1}}
    for position in range(3):
        members: list[Any] = [("content", [{"input": [false] * 5000}]), ("more", [false] * 10)]
        members.insert(position, ("usage", true))
        _, entry = lab.answered(Pieces(pieces=[spaced(dict(members))]))
        assert usage_of(entry) == {"input": 3, "output": 5}


def test_an_event_of_half_a_megabyte_is_read(lab: EnvoyLab) -> None:
    """The last event of the Responses API holds the whole answer."""
    done = {
        "output": [{"text": 'a "quoted" word ' * 32_000}],
        "usage": {"input_tokens": 3, "output_tokens": 5},
    }
    body = event({"type": "response.completed", "response": done})
    response, entry = lab.answered(Pieces(pieces=in_pieces(body, 10_000), content_type=EVENTS))
    assert response.body == body
    assert usage_of(entry) == {"input": 3, "output": 5}


def test_an_event_without_end_is_given_up_and_the_next_one_read(lab: EnvoyLab) -> None:
    endless = b'data: {"x":"' + b"x" * 3_000_000 + b'","usage":{"prompt_tokens":1}}\n\n'
    last = event({"usage": {"prompt_tokens": 3}})
    pieces = [*in_pieces(endless, 1 << 16), last]
    response, entry = lab.answered(Pieces(pieces=pieces, content_type=EVENTS))
    assert response.body == endless + last
    assert usage_of(entry) == {"input": 3}


@pytest.mark.parametrize("sent", range(4))
def test_101_a_client_that_leaves_has_used_what_was_told_until_then(lab: EnvoyLab, sent: int) -> None:
    events = [*COUNTING, DONE]
    lab.model.will_answer(Pieces(pieces=events, content_type=EVENTS, waits_at=sent))
    with lab.leaving(request_bytes("POST", CHAT, None, b"{}")) as connection:
        seen = b""
        while b"\r\n\r\n" not in seen or seen.count(b"data: ") < sent:
            seen += connection.recv(65536)
    entry = lab.end()
    flags = entry.common_properties.response_flags
    assert flags.downstream_connection_termination
    assert told(entry, "reservation") == "res-1"
    assert usage_of(entry) == ({"input": 5, "output": sent, "total": 5 + sent} if sent else {})


def test_a_client_that_leaves_before_authz_answered_is_told_by_its_id(lab: EnvoyLab) -> None:
    lab.authz.answer = Allowing(delay=1)
    with lab.leaving(request_bytes("POST", CHAT, None, b"{}")):
        wait_for(lambda: bool(lab.authz.asked))
    entry = lab.end()
    assert told(entry, "reservation") is None
    assert entry.request.request_id == lab.authz.last.header("x-request-id")
    assert not entry.common_properties.HasField("upstream_remote_address")
    assert not lab.model.received


def test_an_error_of_the_model_server_is_told(lab: EnvoyLab) -> None:
    body = b'{"error":{"message":"out of memory"}}'
    response, entry = lab.answered(Pieces(pieces=[body], status=500))
    assert (response.status, response.body) == (500, body)
    assert entry.response.response_code.value == 500
    assert entry.common_properties.HasField("upstream_remote_address")
    assert usage_of(entry) == {}


def test_an_answer_that_breaks_off_is_told(lab: EnvoyLab) -> None:
    lab.model.will_answer(Pieces(pieces=COUNTING[:1], content_type=EVENTS, breaks_off=True))
    with pytest.raises((ValueError, ConnectionError)):
        lab.ask()
    entry = lab.end()
    assert entry.response.response_code.value == 200
    assert entry.response.response_code_details.startswith("upstream_reset_after_response_started")
    assert usage_of(entry)["output"] == 1


def test_a_model_server_that_is_not_there_is_told(
    around: Around, authz: StubAuthz, certificates: Certificates
) -> None:
    with RenderedEnvoy(with_model(around, free_port())) as gateway, PiecesServer() as model:
        lab = EnvoyLab(gateway, authz, model, certificates)
        authz.reset()
        assert lab.ask().status == 502
        entry = lab.end()
        assert told(entry, "reservation") == "res-1"
        assert entry.common_properties.response_flags.upstream_connection_failure


def test_while_an_answer_runs_authz_is_told(lab: EnvoyLab) -> None:
    events = [*COUNTING, DONE]
    lab.model.will_answer(Pieces(pieces=events, content_type=EVENTS, waits_at=2))
    with lab.leaving(request_bytes("POST", CHAT, None, b"{}")) as connection:
        wait_for(lambda: bool(lab.entries(PERIODIC)))
        running = lab.entries(PERIODIC)[-1]
        assert told(running, "reservation") == "res-1"
        assert usage_of(running)["output"] == 2
        lab.model.go_on.set()
        read_all(connection)
    assert usage_of(lab.end())["output"] == 3


def test_what_holds_nothing_is_not_told(lab: EnvoyLab) -> None:
    """The list of models, a redirect, a refusal."""
    lab.ask(data=request_bytes("GET", "/v1/models"))
    lab.authz.answer = Denying(status=403)
    assert lab.ask(target="/refused").status == 403
    lab.authz.answer = Allowing()
    lab.ask(target="/v1/last")
    assert lab.end().request.path == "/v1/last"  # the other two came before it, had they been told
    assert not [entry for entry in lab.authz.access_log if entry.request.path in ("/v1/models", "/refused")]


def journal(lab: EnvoyLab, path: str) -> dict[str, Any]:
    """The line of the only request with that path."""
    lines = lab.gateway.log_with(f'"path":"{path}"').splitlines()
    (line,) = (line for line in lines if line.startswith("{") and f'"path":"{path}"' in line)
    found: dict[str, Any] = json.loads(line)
    return found


def test_the_journal_holds_what_a_settlement_needs(lab: EnvoyLab) -> None:
    answer = WITH_USAGE["chat-stream-null-until-the-end"]
    response, entry = lab.answered(
        Pieces(pieces=answer.parts, content_type=EVENTS), target="/v1/journal?key=secret"
    )
    line = journal(lab, "/v1/journal")
    expected = {
        "type": "DownstreamEnd",
        "gateway": "edge",
        "reservation": "res-1",
        "gateway_request_id": entry.request.request_id,
        "status": 200,
        "flags": "-",
        "content_type": EVENTS,
        "sent_bytes": len(response.body),
        "usage": answer.counted,
    }
    assert {name: line[name] for name in expected} == expected
    assert line["milliseconds"] >= 0
    assert line["upstream"] == f"127.0.0.1:{lab.model.port}"
    assert "secret" not in json.dumps(line)


def test_the_journal_has_one_line_for_a_long_answer(lab: EnvoyLab) -> None:
    lab.model.will_answer(Pieces(pieces=[b"a", b"b"], waits_at=1))
    with lab.leaving(request_bytes("POST", "/v1/long", None, b"{}")) as connection:
        wait_for(lambda: bool(lab.entries(PERIODIC)))
        lab.model.go_on.set()
        read_all(connection)
    assert journal(lab, "/v1/long")["type"] == "DownstreamEnd"


def test_one_of_two_authz_takes_the_entries_when_the_other_is_gone(
    around: Around, authz: StubAuthz, certificates: Certificates
) -> None:
    with StubAuthz() as other, PiecesServer() as model:
        second = Address("127.0.0.1", other.grpc_port)
        with RenderedEnvoy(
            with_model(around, model.port), lambda s: replace(s, authz_grpc=(*s.authz_grpc, second))
        ) as gateway:
            lab = EnvoyLab(gateway, authz, model, certificates)
            wait_for(lambda: lab.ask().status == 200 and bool(other.access_log or authz.access_log))
            survivor, lost = (authz, other) if other.access_log else (other, authz)
            lost.stop()
            survivor.access_log.clear()
            deadline = time.monotonic() + 20
            while not survivor.access_log:
                assert time.monotonic() < deadline
                lab.ask()
            if lost is authz:
                authz.start()
