"""nginx tells authz what each response used, whole, once, and whatever happens; no byte of a response changes."""

import json
import signal
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest

from authz.cli.nginx_journal import read_report
from authz.gateway.settings import Address
from tests.gateways.answer import EVENTS
from tests.gateways.answers_with_usage import CHAT, WITH_USAGE
from tests.gateways.answers_without_usage import WITHOUT_USAGE
from tests.gateways.clients import leaving, read_all, read_until, wait_for
from tests.gateways.forward_auth_contract import with_model
from tests.support.gateway import Around, Swap
from tests.support.model import DemoModel
from tests.support.nginx import Nginx, NginxWithoutNjs
from tests.support.pieces_server import Pieces, PiecesServer
from tests.support.ports import free_port
from tests.support.raw_http import RawResponse, exchange, request_bytes
from tests.support.rendered import RenderedNginx
from tests.support.stub_authz import IDENTITY, Allowing, Denying, StubAuthz
from tests.support.websocket import connect

GATEWAY = Nginx
MODEL = "server"
JSON: list[tuple[str | bytes, str | bytes]] = [("Content-Type", "application/json")]
QUESTION = request_bytes("POST", "/v1/chat/completions", JSON, b'{"model": "demo"}')


Ask = Callable[..., RawResponse]


@pytest.fixture
def ask(gateway: Nginx, tls: ssl.SSLContext) -> Ask:
    def ask(data: bytes = QUESTION) -> RawResponse:
        return exchange(gateway.around.https, data, tls=tls)

    return ask


def told(authz: StubAuthz, count: int = 1) -> list[dict[str, Any]]:
    """The reports, once there are that many; one that was told twice, as it may be, counts once."""
    wait_for(lambda: len(_apart(authz)) >= count)
    assert len(_apart(authz)) == count
    return _apart(authz)


def _apart(authz: StubAuthz) -> list[dict[str, Any]]:
    ended = list(authz.ended)
    return [report for number, report in enumerate(ended) if report not in ended[:number]]


def only_told(authz: StubAuthz) -> dict[str, Any]:
    [report] = told(authz)
    return report


def holding(reservation: str, **more: Any) -> Allowing:
    return Allowing(upstream=tuple({**IDENTITY, "x-authz-reservation": reservation}.items()), **more)


READ_OTHERWISE: dict[str, Any] = {
    "chat-stream-cr": None,  # lines that end with CR alone are not told apart
    **{
        name: {**(WITH_USAGE[name].usage or {}), "prompt_tokens": 2**53}  # numbers are doubles
        for name in ("numbers-as-they-are", "numbers-as-they-are-stream")
    },
}


@pytest.mark.parametrize("size", [1, 50, 1 << 20], ids=["bytewise", "in-pieces", "at-once"])
@pytest.mark.parametrize("name", [*WITH_USAGE, *WITHOUT_USAGE])
def test_what_the_model_server_told_is_reported(
    authz: StubAuthz, server: PiecesServer, ask: Ask, name: str, size: int
) -> None:
    answered = (WITH_USAGE | WITHOUT_USAGE)[name]
    server.will_answer(Pieces(pieces=answered.pieces(size), content_type=answered.content_type))
    response = ask()
    assert (response.status, response.body) == (200, answered.body)
    report = only_told(authz)
    assert report.pop("duration_ms") >= 0
    assert report == {
        "reservation": "res-1",
        "usage": READ_OTHERWISE.get(name, answered.usage),
        "status": 200,
        "reached": True,
        "aborted": False,
        "streamed": answered.streamed,
        "response_bytes": len(answered.body),
    }
    assert {call.token for call in authz.reports} == {"gateway-token-of-the-tests"}


@pytest.mark.parametrize("after", [0, 1, 5])
def test_101_a_client_that_leaves_is_reported_with_the_count_so_far(
    gateway: Nginx, tls: ssl.SSLContext, authz: StubAuthz, server: PiecesServer, after: int
) -> None:
    counts = [{**CHAT, "completion_tokens": n} for n in range(1, 9)]
    events = [f"data: {json.dumps({'usage': count})}\n\n".encode() for count in counts]
    server.will_answer(Pieces(pieces=events, content_type=EVENTS, waits_at=after))
    with leaving(gateway.around.https, tls, QUESTION) as connection:
        read_until(connection, events[after - 1] if after else b"\r\n\r\n")
    report = only_told(authz)
    server.go_on.set()
    assert report["aborted"] is True
    assert (report["status"], report["reached"], report["streamed"]) == (200, True, True)
    assert report["usage"] == (counts[after - 1] if after else None)
    assert report["response_bytes"] == sum(map(len, events[:after]))


def test_101_a_client_that_leaves_before_the_answer_is_reported(
    around: Around, tls: ssl.SSLContext, authz: StubAuthz
) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        Nginx(with_model(around, silent.getsockname()[1])) as gateway,
    ):
        silent.settimeout(10)
        with leaving(gateway.around.https, tls, QUESTION):
            connection, _ = silent.accept()
            connection.recv(1)
        report = only_told(authz)
        connection.close()
    assert (report["status"], report["aborted"], report["reached"]) == (499, True, True)
    assert report["usage"] is None


def test_101_a_client_that_leaves_while_authz_decides_is_reported(
    gateway: Nginx, tls: ssl.SSLContext, authz: StubAuthz, server: PiecesServer
) -> None:
    """Else what authz holds for it would be held for as long as the longest stream."""
    authz.answer = holding("res-pending", delay=0.4)
    with leaving(gateway.around.https, tls, QUESTION):
        wait_for(lambda: bool(authz.asked))
    report = only_told(authz)
    assert (report["reservation"], report["aborted"]) == ("res-pending", True)


@pytest.mark.parametrize(
    ("status", "body", "usage"),
    [
        (500, b'{"error": {"message": "broken"}}', None),
        (500, b'{"usage": {"total_tokens": 3}}', {"total_tokens": 3}),
        (404, b"gone", None),
    ],
    ids=["500", "500-with-usage", "404-text"],
)
def test_an_error_of_the_model_server_is_reported(
    authz: StubAuthz, server: PiecesServer, ask: Ask, status: int, body: bytes, usage: Any
) -> None:
    server.will_answer(Pieces(pieces=[body], status=status, chunked=False))
    response = ask()
    assert (response.status, response.body) == (status, body)
    report = only_told(authz)
    assert (report["status"], report["usage"], report["reached"]) == (status, usage, True)
    assert (report["aborted"], report["response_bytes"]) == (False, len(body))


def test_an_answer_that_breaks_off_is_reported(
    gateway: Nginx, tls: ssl.SSLContext, authz: StubAuthz, server: PiecesServer
) -> None:
    event = f"data: {json.dumps({'usage': CHAT})}\n\n".encode()
    server.will_answer(Pieces(pieces=[event], content_type=EVENTS, breaks_off=True))
    with leaving(gateway.around.https, tls, QUESTION) as connection:
        read_all(connection)
    report = only_told(authz)
    assert (report["status"], report["usage"], report["reached"]) == (200, CHAT, True)
    assert report["aborted"] is False  # the client stayed


def test_a_model_server_that_cannot_be_reached_is_reported_as_such(
    around: Around, tls: ssl.SSLContext, authz: StubAuthz
) -> None:
    with Nginx(with_model(around, free_port())) as gateway:
        assert exchange(gateway.around.https, QUESTION, tls=tls).status == 502
        report = only_told(authz)
    assert (report["status"], report["reached"], report["usage"]) == (502, False, None)
    assert report["aborted"] is False


def test_a_websocket_is_reported_when_it_ends(
    around: Around, tls: ssl.SSLContext, authz: StubAuthz, tmp_path: Path
) -> None:
    with DemoModel(tmp_path) as model, Nginx(with_model(around, model.port)) as gateway:
        with connect(f"wss://localhost:{gateway.around.https}/ws", ssl=tls) as websocket:
            websocket.send("a")
            assert websocket.recv() == "a"
            assert not authz.reports
        report = only_told(authz)
    assert (report["status"], report["reached"], report["aborted"]) == (101, True, False)


def test_what_authz_holds_nothing_for_is_not_reported(
    authz: StubAuthz, ask: Ask, server: PiecesServer
) -> None:
    authz.answer = Denying(status=429)
    assert ask().status == 429
    authz.answer = Allowing()
    assert ask(request_bytes("GET", "/v1/models")).status == 200
    authz.answer = Allowing(upstream=())
    server.will_answer(Pieces(pieces=[b"{}"]))
    assert ask().status == 200
    authz.answer = holding("res-last")
    assert ask().status == 200
    assert only_told(authz)["reservation"] == "res-last"


def test_reports_wait_for_an_authz_that_takes_none_and_then_all_arrive(
    authz: StubAuthz, server: PiecesServer, ask: Ask
) -> None:
    authz.usage_status = 503
    expected = {}
    for number in range(40):
        authz.answer = holding(f"res-{number}")
        usage = expected[f"res-{number}"] = {**CHAT, "completion_tokens": number}
        server.will_answer(Pieces(pieces=[json.dumps({"usage": usage}).encode()]))
        assert ask().status == 200
    assert not authz.reports
    authz.usage_status = 200
    reports = told(authz, len(expected))
    assert {report["reservation"]: report["usage"] for report in reports} == expected


def test_a_response_that_ends_while_authz_is_down_is_reported_when_it_is_back(
    gateway: Nginx, tls: ssl.SSLContext, authz: StubAuthz, server: PiecesServer
) -> None:
    answered = WITH_USAGE["chat-stream-null-until-the-end"]
    server.will_answer(Pieces(pieces=answered.pieces(100), content_type=EVENTS, waits_at=1))
    with leaving(gateway.around.https, tls, QUESTION) as connection:
        read_until(connection, answered.body[:100])
        authz.stop()
        try:
            server.go_on.set()
            read_until(connection, b"[DONE]")
            gateway.log_with('"report":"kept"')
            time.sleep(3)
        finally:
            authz.start()
        assert only_told(authz)["usage"] == CHAT


def with_two(around: Around, second: StubAuthz) -> RenderedNginx:
    """nginx with two authz."""
    address = Address("127.0.0.1", second.http_port)
    return RenderedNginx(
        around, lambda settings: replace(settings, authz_http=(*settings.authz_http, address))
    )


class Cramped(Nginx):
    """With little room for reports."""

    def swaps(self) -> list[Swap]:
        return [*super().swaps(), Swap("zone=authz_reports:16m", "zone=authz_reports:32k")]


def test_where_there_is_no_room_only_the_log_tells_and_none_that_waits_is_lost(
    around: Around, tls: ssl.SSLContext, authz: StubAuthz, server: PiecesServer
) -> None:
    server.will_answer(Pieces(pieces=[json.dumps({"usage": CHAT}).encode()]))
    authz.usage_status = 503
    with Cramped(with_model(around, server.port)) as gateway:
        for number in range(150):
            authz.answer = holding(f"res-{number}")
            assert exchange(gateway.around.https, QUESTION, tls=tls).status == 200
        log = gateway.log_with('"reservation":"res-149"')
        lines = [json.loads(line) for line in log.splitlines() if line.startswith('{"time"')]
        kept = {line["reservation"] for line in lines if line["report"] == "kept"}
        full = {line["reservation"] for line in lines if line["report"] == "full"}
        assert kept
        assert full
        assert len(kept) + len(full) == 150
        assert all(json.loads(line["usage"]) == CHAT for line in lines)
        authz.usage_status = 200
        wait_for(lambda: {report["reservation"] for report in authz.ended} == kept)
    assert gateway.log.count("authz takes no reports of usage") == 1


def test_the_access_log_has_what_a_replay_needs(
    gateway: Nginx, authz: StubAuthz, server: PiecesServer, ask: Ask
) -> None:
    authz.answer = holding("res-logged")
    server.will_answer(Pieces(pieces=[json.dumps({"usage": CHAT}).encode()]))
    ask()
    log = gateway.log_with("res-logged")
    [line] = [line for line in log.splitlines() if "res-logged" in line]
    assert json.loads(line)["report"] == "kept"
    assert msgspec.json.decode(msgspec.json.encode(read_report(line.encode(), "edge"))) == only_told(authz)


def test_without_njs_the_access_log_tells_the_bytes(
    around: Around, tls: ssl.SSLContext, authz: StubAuthz, server: PiecesServer
) -> None:
    server.will_answer(Pieces(pieces=[b'{"a": "b"}'], chunked=False))
    authz.answer = holding("res-bytes")
    data = request_bytes("GET", "/v1/models/x")
    with NginxWithoutNjs(with_model(around, server.port)) as gateway:
        assert exchange(gateway.around.https, data, tls=tls).status == 200
        log = gateway.log_with("res-bytes")
    [line] = [line for line in log.splitlines() if "res-bytes" in line]
    report = read_report(line.encode(), "edge")
    assert isinstance(report, dict)
    assert isinstance(report.pop("duration_ms"), int)
    assert report == {
        "reservation": "res-bytes",
        "usage": None,
        "status": 200,
        "reached": True,
        "aborted": False,
        "streamed": False,
        "response_bytes": 10,
    }


EMBEDDINGS = b'{"data": [' + b",".join(b"%d.5" % n for n in range(2_500_000)) + b'], "usage": %b}'


def test_20_mb_of_embeddings_pass_unharmed_and_are_counted(
    authz: StubAuthz, server: PiecesServer, ask: Ask
) -> None:
    body = EMBEDDINGS % json.dumps({"prompt_tokens": 9, "total_tokens": 9}).encode()
    assert len(body) > 20_000_000
    server.will_answer(Pieces(pieces=[body], chunked=False))
    assert sha256(ask().body).digest() == sha256(body).digest()
    report = only_told(authz)
    assert report["usage"] == {"prompt_tokens": 9, "total_tokens": 9}
    assert report["response_bytes"] == len(body)


LONG = {
    "a document with its usage first": (b'{"usage": {"total_tokens": 5}, "data": "%b"}', 900_000, {"total_tokens": 5}),
    "one that is too long for that": (b'{"usage": {"total_tokens": 5}, "data": "%b"}', 1_100_000, None),
    "one in several parts with its usage last": (b'{"data": "%b", "usage": {"total_tokens": 5}}', 3_000_000, {"total_tokens": 5}),
    "103 usage of a part at its end": (b'{"data": "%b", "parts": {"usage": {"total_tokens": 5}}}', 3_000_000, None),
    "a usage that is too long": (b'{"usage": {"total_tokens": 5, "x": "%b"}}', 3_000, None),
}  # fmt: skip


@pytest.mark.parametrize("name", LONG)
def test_a_long_answer_is_kept_within_bounds(
    authz: StubAuthz, server: PiecesServer, ask: Ask, name: str
) -> None:
    form, length, usage = LONG[name]
    body = form % (b"x" * length)
    server.will_answer(Pieces(pieces=[body[:70_000], body[70_000:]]))
    assert ask().body == body
    assert only_told(authz)["usage"] == usage


def test_an_event_that_is_too_long_is_passed_over(authz: StubAuthz, server: PiecesServer, ask: Ask) -> None:
    long = b'data: {"usage": {"prompt_tokens": 1}, "text": "' + b"x" * 1_200_000 + b'"}\n\n'
    body = long + WITH_USAGE["chat-stream-null-until-the-end"].body
    server.will_answer(
        Pieces(pieces=[body[n : n + 50_000] for n in range(0, len(body), 50_000)], content_type=EVENTS)
    )
    assert ask().body == body
    assert only_told(authz)["usage"] == CHAT


def test_a_compressed_answer_is_not_asked_for_and_not_read(
    authz: StubAuthz, server: PiecesServer, ask: Ask
) -> None:
    body = json.dumps({"usage": CHAT}).encode()
    server.will_answer(Pieces(pieces=[body], headers=("content-encoding: gzip",)))
    data = request_bytes("POST", "/v1/chat/completions", [*JSON, ("Accept-Encoding", "gzip")], b"{}")
    assert ask(data).body == body
    assert not server.received[0].values("accept-encoding")
    assert only_told(authz)["usage"] is None


def test_a_report_goes_to_the_authz_that_decided_and_without_it_to_the_one_that_answers(
    around: Around, tls: ssl.SSLContext, authz: StubAuthz, server: PiecesServer
) -> None:
    server.will_answer(Pieces(pieces=[json.dumps({"usage": CHAT}).encode()]))
    with StubAuthz() as second, with_two(with_model(around, server.port), second) as gateway:
        for number in range(6):
            authz.answer = second.answer = holding(f"res-{number}")
            assert exchange(gateway.around.https, QUESTION, tls=tls).status == 200
        wait_for(lambda: len(_apart(authz)) + len(_apart(second)) == 6)
        for one in (authz, second):
            assert len(one.asked) == len(_apart(one)) > 0

        second.usage_status = 503
        authz.answer = holding("res-first")
        second.answer = holding("res-orphan")
        asked = len(second.asked)
        while len(second.asked) == asked:
            assert exchange(gateway.around.https, QUESTION, tls=tls).status == 200
        second.stop()
        authz.answer = holding("res-last")
        assert exchange(gateway.around.https, QUESTION, tls=tls).status == 200
        wait_for(lambda: {"res-orphan", "res-last"} <= {report["reservation"] for report in authz.ended})


def test_reports_outlive_a_reload(
    around: Around, tls: ssl.SSLContext, authz: StubAuthz, server: PiecesServer
) -> None:
    server.will_answer(Pieces(pieces=[json.dumps({"usage": CHAT}).encode()]))
    authz.usage_status = 503
    with Nginx(with_model(around, server.port)) as gateway:
        assert exchange(gateway.around.https, QUESTION, tls=tls).status == 200
        assert gateway.process is not None
        gateway.process.signal(signal.SIGHUP)
        gateway.process.wait_until(lambda: "exited with code 0" in gateway.log)
        authz.usage_status = 200
        assert only_told(authz)["usage"] == CHAT


def test_an_authz_that_takes_its_time_is_told_once(authz: StubAuthz, server: PiecesServer, ask: Ask) -> None:
    """Longer than nginx waits between two looks at what there is to tell."""
    server.will_answer(Pieces(pieces=[b"{}"]))
    authz.usage_delay = 1.0
    for number in range(5):
        authz.answer = holding(f"res-{number}")
        assert ask().status == 200
    told_of = {f"res-{number}" for number in range(5)}
    wait_for(lambda: told_of <= {report["reservation"] for report in authz.ended})
    authz.answer = holding("res-last")
    assert ask().status == 200
    wait_for(lambda: any(report["reservation"] == "res-last" for report in authz.ended))
    assert len(authz.reports) <= 10  # twice, where a run of nginx ended meanwhile; not ten times a second


def test_without_a_token_nothing_is_reported(
    around: Around, tls: ssl.SSLContext, authz: StubAuthz, server: PiecesServer
) -> None:
    """authz would not believe it."""
    server.will_answer(Pieces(pieces=[b"{}"]))
    authz.answer = holding("res-unproven")
    surroundings = with_model(around, server.port)
    with RenderedNginx(surroundings, lambda settings: replace(settings, token=None)) as gateway:
        assert exchange(gateway.around.https, QUESTION, tls=tls).status == 200
        log = gateway.log_with("res-unproven")
    [line] = [json.loads(line) for line in log.splitlines() if "res-unproven" in line]
    assert line["report"] == ""
    assert not authz.reports


def test_100_what_authz_cannot_read_costs_no_other_its_report(
    ask: Ask, authz: StubAuthz, server: PiecesServer
) -> None:
    authz.usage_unread = "res-nonsense"
    authz.usage_status = 503
    for reservation in ("res-before", "res-nonsense", "res-after"):
        authz.answer = holding(reservation)
        server.will_answer(Pieces(pieces=[b"{}"]))
        assert ask().status == 200
    authz.usage_status = 200
    wait_for(lambda: {"res-before", "res-after"} <= {report["reservation"] for report in authz.ended})
    assert "res-nonsense" not in {report["reservation"] for report in authz.ended}
