"""Caddy tells the end of each response by its log: bytes, no tokens, and no byte of a response changes."""

import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from authz.report import Report
from tests.gateways.answer import EVENTS
from tests.gateways.answers_with_usage import WITH_USAGE
from tests.gateways.answers_without_usage import WITHOUT_USAGE
from tests.gateways.clients import leaving, read_all, read_until
from tests.gateways.forward_auth_contract import with_model
from tests.support.caddy import Caddy
from tests.support.gateway import Around
from tests.support.log_listener import LogListener, sealed
from tests.support.model import DemoModel
from tests.support.pieces_server import Pieces, PiecesServer
from tests.support.ports import free_port
from tests.support.raw_http import RawResponse, exchange, request_bytes
from tests.support.stub_authz import IDENTITY, Allowing, Denying, StubAuthz
from tests.support.websocket import connect

GATEWAY = Caddy
MODEL = "server"
JSON: list[tuple[str | bytes, str | bytes]] = [("Content-Type", "application/json")]
QUESTION = request_bytes("POST", "/v1/chat/completions", JSON, b'{"model": "demo"}')


@pytest.fixture(scope="module")
def running_listener() -> Iterator[LogListener]:
    with LogListener(free_port()) as listener:
        yield listener


@pytest.fixture
def listener(running_listener: LogListener) -> LogListener:
    running_listener.reset()
    return running_listener


@pytest.fixture(scope="module")
def around(around: Around, running_listener: LogListener) -> Around:
    return replace(around, log=running_listener.port)


@pytest.fixture
def authz(authz: StubAuthz) -> StubAuthz:
    """The stub, which lets everything through and gives reservation and seal."""
    authz.answer = holding("rsv_1")
    return authz


def holding(reservation: str) -> Allowing:
    return Allowing(upstream=tuple({**IDENTITY, **dict(sealed(reservation))}.items()))


Ask = Callable[..., RawResponse]


@pytest.fixture
def ask(gateway: Caddy, tls: ssl.SSLContext) -> Ask:
    def ask(data: bytes = QUESTION) -> RawResponse:
        return exchange(gateway.around.https, data, tls=tls)

    return ask


def told(listener: LogListener, count: int = 1) -> list[Report]:
    """What the log told, once it is that much."""
    deadline = time.monotonic() + 15
    while len(listener.settled) < count:
        assert time.monotonic() < deadline, f"only {listener.settled}, not believed {listener.rejected}"
        time.sleep(0.01)
    assert len(listener.settled) == count
    return listener.settled


@pytest.mark.parametrize("name", [*WITH_USAGE, *WITHOUT_USAGE])
def test_every_response_is_told_by_its_bytes(
    authz: StubAuthz, server: PiecesServer, listener: LogListener, ask: Ask, name: str
) -> None:
    answered = (WITH_USAGE | WITHOUT_USAGE)[name]
    server.will_answer(Pieces(pieces=answered.pieces(200), content_type=answered.content_type))
    response = ask()
    assert (response.status, response.body) == (200, answered.body)
    [report] = told(listener)
    assert report.duration_ms is not None
    assert report == Report(
        reservation="rsv_1",
        usage=None,  # Caddy cannot know: authz estimates, and says so
        status=200,
        reached=True,
        aborted=False,
        streamed=answered.streamed,
        response_bytes=len(answered.body),
        duration_ms=report.duration_ms,
    )


def test_neither_seal_nor_token_goes_anywhere_but_to_authz(
    gateway: Caddy, authz: StubAuthz, server: PiecesServer, listener: LogListener, ask: Ask
) -> None:
    server.will_answer(Pieces(pieces=[b"{}"]))
    response = ask(request_bytes("POST", "/v1/x", [*JSON, ("X-Authz-Seal", "forged")], b"{}"))
    told(listener)
    [(_, proof)] = [pair for pair in sealed("rsv_1") if pair[0] == "x-authz-seal"]
    assert not [key for key, _ in response.headers if key.startswith("x-authz")]
    assert server.received[0].values("x-authz-reservation") == ["rsv_1"]
    assert not server.received[0].values("x-authz-seal")
    log = gateway.log_with('"uri":"/v1/x"')
    assert '"reservation":"rsv_1"' in log
    assert proof not in log
    assert gateway.around.token not in log


def test_101_a_client_that_leaves_is_told_with_what_it_got(
    gateway: Caddy, tls: ssl.SSLContext, authz: StubAuthz, server: PiecesServer, listener: LogListener
) -> None:
    events = WITH_USAGE["chat-stream-continuous-and-long"].pieces(300)
    for after in (1, 5):
        listener.reset()
        server.will_answer(Pieces(pieces=events, content_type=EVENTS, waits_at=after))
        with leaving(gateway.around.https, tls, QUESTION) as connection:
            read_until(connection, events[after - 1])
        [report] = told(listener)
        server.go_on.set()
        assert (report.status, report.aborted, report.reached) == (200, True, True)
        assert report.response_bytes == 300 * after


def test_101_a_client_that_leaves_before_the_answer_is_told(
    around: Around, tls: ssl.SSLContext, authz: StubAuthz, listener: LogListener
) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        Caddy(beside(around, silent.getsockname()[1])) as gateway,
    ):
        silent.settimeout(10)
        with leaving(gateway.around.https, tls, QUESTION):
            connection, _ = silent.accept()
            connection.recv(1)
        [report] = told(listener)
        connection.close()
    assert (report.status, report.aborted, report.reached) == (499, True, True)


def beside(around: Around, model: int) -> Around:
    """The same surroundings with another model server."""
    return replace(with_model(around, model), log=around.log)


@pytest.mark.parametrize("status", [500, 404])
def test_an_error_of_the_model_server_is_told(
    authz: StubAuthz, server: PiecesServer, listener: LogListener, ask: Ask, status: int
) -> None:
    server.will_answer(Pieces(pieces=[b"broken"], status=status, chunked=False))
    assert ask().status == status
    [report] = told(listener)
    assert (report.status, report.reached, report.aborted) == (status, True, False)


def test_an_answer_that_breaks_off_is_told(
    gateway: Caddy, tls: ssl.SSLContext, authz: StubAuthz, server: PiecesServer, listener: LogListener
) -> None:
    server.will_answer(Pieces(pieces=[b"data: 1\n\n"], content_type=EVENTS, breaks_off=True))
    with leaving(gateway.around.https, tls, QUESTION) as connection:
        read_all(connection)
    [report] = told(listener)
    assert (report.status, report.reached, report.response_bytes) == (200, True, 9)
    assert report.aborted  # Caddy does not tell who broke it off


def test_a_model_server_that_cannot_be_reached_is_told_as_such(
    around: Around, tls: ssl.SSLContext, authz: StubAuthz, listener: LogListener
) -> None:
    with Caddy(beside(around, free_port())) as gateway:
        assert exchange(gateway.around.https, QUESTION, tls=tls).status == 502
        [report] = told(listener)
    assert (report.status, report.reached, report.aborted) == (502, False, False)


def test_a_websocket_is_told_when_it_ends(
    around: Around, tls: ssl.SSLContext, authz: StubAuthz, listener: LogListener, tmp_path: Path
) -> None:
    with DemoModel(tmp_path) as model, Caddy(beside(around, model.port)) as gateway:
        with connect(f"wss://localhost:{gateway.around.https}/ws", ssl=tls) as websocket:
            websocket.send("a")
            assert websocket.recv() == "a"
            assert not listener.settled
        [report] = told(listener)
    assert (report.status, report.reached, report.aborted) == (101, True, False)


def test_what_authz_holds_nothing_for_is_not_told(
    authz: StubAuthz, server: PiecesServer, listener: LogListener, ask: Ask
) -> None:
    authz.answer = Denying(status=429)
    assert ask().status == 429
    authz.answer = Allowing()
    assert ask(request_bytes("GET", "/v1/models")).status == 200
    authz.answer = Allowing(upstream=())
    server.will_answer(Pieces(pieces=[b"{}"]))
    assert ask().status == 200
    authz.answer = holding("rsv_last")
    assert ask().status == 200
    [report] = told(listener)
    assert report.reservation == "rsv_last"
    assert not listener.rejected


def test_105_a_reservation_without_its_seal_is_not_believed(
    authz: StubAuthz, server: PiecesServer, listener: LogListener, ask: Ask
) -> None:
    server.will_answer(Pieces(pieces=[b"{}"]))
    authz.answer = Allowing(upstream=(("x-authz-reservation", "rsv_2"), sealed("rsv_1")[1]))
    assert ask().status == 200
    authz.answer = holding("rsv_3")
    assert ask().status == 200
    [report] = told(listener)
    assert report.reservation == "rsv_3"
    assert listener.rejected == [("edge", "gateway_unproven")]


def test_20_mb_of_embeddings_pass_unharmed(
    authz: StubAuthz, server: PiecesServer, listener: LogListener, ask: Ask
) -> None:
    body = json.dumps({"data": [0.5] * 4_200_000}).encode()
    assert len(body) > 20_000_000
    server.will_answer(Pieces(pieces=[body], chunked=False))
    assert sha256(ask().body).digest() == sha256(body).digest()
    [report] = told(listener)
    assert report.response_bytes == len(body)


def test_a_compressed_answer_is_not_asked_for(
    authz: StubAuthz, server: PiecesServer, listener: LogListener, ask: Ask
) -> None:
    server.will_answer(Pieces(pieces=[b"{}"]))
    ask(request_bytes("POST", "/v1/x", [*JSON, ("Accept-Encoding", "gzip")], b"{}"))
    assert not server.received[0].values("accept-encoding")
    told(listener)


def test_without_authz_at_the_other_end_lines_go_to_standard_error_and_hold_no_token(
    around: Around, tls: ssl.SSLContext, authz: StubAuthz, server: PiecesServer
) -> None:
    server.will_answer(Pieces(pieces=[b"{}"]))
    with Caddy(with_model(around, server.port)) as gateway:
        assert exchange(gateway.around.https, QUESTION, tls=tls).status == 200
        log = gateway.log_with('"seal":')
        assert gateway.around.token not in log
