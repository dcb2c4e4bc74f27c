"""However a response ends, authz hears of it once: aborts, breaks, refused connections, WebSockets."""

import json
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.gateways.answer import EVENTS, chunk
from tests.gateways.answers_with_usage import CHAT
from tests.gateways.clients import leaving, read_all, read_until, wait_for
from tests.gateways.reported_traffic import ASKED, Traffic
from tests.support.certificates import Certificates
from tests.support.gateway import Around, RealGateway
from tests.support.model import DemoModel
from tests.support.pieces_server import Pieces, PiecesServer
from tests.support.ports import free_port
from tests.support.raw_http import exchange, request_bytes
from tests.support.rendered import with_two_models
from tests.support.rendered_traefik import RenderedTraefik
from tests.support.stub_authz import StubAuthz
from tests.support.traefik import Traefik
from tests.support.websocket import connect

GATEWAY = Traefik
MODEL = "server"
QUESTION = request_bytes(
    "POST", "/v1/chat/completions", [("Content-Type", "application/json")], ASKED, host="localhost"
)


def client(traffic: Traffic) -> AbstractContextManager[ssl.SSLSocket]:
    """Has sent its request, and leaves at the end."""
    return leaving(traffic.port, traffic.tls, QUESTION)


STREAM = [
    f"data: {json.dumps(chunk(f'part-{number}', usage=CHAT | {'completion_tokens': number}))}\n\n".encode()
    for number in range(5)
]


@pytest.mark.parametrize("parts", range(1, 5))
def test_101_a_client_that_leaves_after_any_part(traffic: Traffic, parts: int) -> None:
    traffic.allow()
    traffic.server.will_answer(Pieces(pieces=STREAM, content_type=EVENTS, waits_at=parts))
    with client(traffic) as connection:
        read_until(connection, f"part-{parts - 1}".encode())
        assert not traffic.authz.ended
    told = traffic.told()
    assert (told["status"], told["reached"], told["aborted"]) == (200, True, True)
    assert told["response_bytes"] == sum(map(len, STREAM[:parts]))
    assert told["usage"] == CHAT | {"completion_tokens": parts - 1}
    assert told["streamed"] is True


def test_101_a_client_that_gives_up_a_stream_of_http2(traffic: Traffic) -> None:
    traffic.allow()
    traffic.server.will_answer(Pieces(pieces=STREAM, content_type=EVENTS, waits_at=2))
    received = b""
    with httpx2.Client(http2=True, verify=traffic.tls, trust_env=False) as sender:
        url = f"https://localhost:{traffic.port}/v1/chat/completions"
        with sender.stream("POST", url, content=ASKED) as response:
            assert response.http_version == "HTTP/2"
            for part in response.iter_raw():
                received += part
                if b"part-1" in received:
                    break
    told = traffic.told()
    assert (told["status"], told["reached"], told["aborted"]) == (200, True, True)
    assert told["usage"] == CHAT | {"completion_tokens": 1}


def test_101_a_client_that_leaves_before_the_first_part(traffic: Traffic) -> None:
    traffic.allow()
    traffic.server.will_answer(Pieces(pieces=STREAM, content_type=EVENTS, waits_at=0))
    with client(traffic) as connection:
        read_until(connection, b"\r\n\r\n")
    told = traffic.told()
    assert (told["status"], told["reached"], told["aborted"]) == (200, True, True)
    assert (told["response_bytes"], told["usage"]) == (0, None)


def test_101_a_client_that_leaves_in_the_middle_of_a_document(traffic: Traffic) -> None:
    traffic.allow()
    begin = b'{"x":"' + b"x" * 100_000
    traffic.server.will_answer(Pieces(pieces=[begin, b'"}'], chunked=False, waits_at=1))
    with client(traffic) as connection:
        read_until(connection, b"x" * 10_000)
    told = traffic.told()
    assert (told["status"], told["aborted"], told["usage"]) == (200, True, None)
    assert 10_000 <= told["response_bytes"] <= len(begin)


def test_101_a_model_server_that_breaks_off(traffic: Traffic) -> None:
    traffic.allow()
    traffic.server.will_answer(Pieces(pieces=STREAM[:2], content_type=EVENTS, breaks_off=True))
    with client(traffic) as connection:
        read_all(connection)
    told = traffic.told()
    assert (told["status"], told["reached"], told["aborted"]) == (200, True, True)
    assert told["usage"] == CHAT | {"completion_tokens": 1}


def test_a_client_that_leaves_while_authz_thinks_frees_what_was_held(traffic: Traffic) -> None:
    traffic.allow(delay=0.7)
    with client(traffic):
        wait_for(lambda: len(traffic.authz.asked) == 1)
    told = traffic.told()
    assert told["reached"] is False
    assert not traffic.server.received


class Silent:
    """Takes connections. Never answers; with `hang_up` it reads the request and closes."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(10)
        self.port: int = self.listener.getsockname()[1]

    def take(self) -> socket.socket:
        """The next connection, with its request read."""
        connection, _ = self.listener.accept()
        read_until(connection, ASKED)
        return connection


@pytest.fixture
def silent() -> Iterator[Silent]:
    silent = Silent()
    with silent.listener:
        yield silent


Behind = Callable[[int], Traffic]


@pytest.fixture(params=["traefiks-proxy", "the-plugins-proxy"])
def behind(
    request: pytest.FixtureRequest,
    around: Around,
    authz: StubAuthz,
    certificates: Certificates,
    server: PiecesServer,
    tmp_path: Path,
) -> Iterator[Behind]:
    """Traefik in front of a model server at that port, by either way to it."""
    started: list[RealGateway] = []

    def start(port: int) -> Traffic:
        here = replace(around, directory=tmp_path, model=port, http=free_port(), https=free_port())
        gateway: RealGateway = Traefik(here)
        if request.param == "the-plugins-proxy":
            gateway = RenderedTraefik(here, with_two_models(1))
        gateway.start()
        started.append(gateway)
        return Traffic(here.https, certificates.trust(), authz, server)

    yield start
    for gateway in started:
        assert gateway.process is not None
        gateway.process.signal(signal.SIGKILL)  # soon after its start Traefik takes 2 s to stop
        gateway.stop()


BACKEND = (("x-authz-backend", "model"),)


def test_a_refused_connection_reached_nobody(behind: Behind) -> None:
    traffic = behind(free_port())
    traffic.allow(more=BACKEND)
    response = traffic.send()
    assert (response.status, response.json()["error"]["code"]) == (502, "upstream_unavailable")
    told = traffic.told()
    assert (told["reached"], told["status"], told["aborted"]) == (False, 502, False)
    assert told["usage"] is None


def test_a_connection_that_breaks_before_the_answer_did_reach(behind: Behind, silent: Silent) -> None:
    """The model server may have worked for it."""
    traffic = behind(silent.port)
    traffic.allow(more=BACKEND)
    with client(traffic) as connection:
        silent.take().close()
        read_until(connection, b"upstream_unavailable")
    told = traffic.told()
    assert (told["reached"], told["status"], told["usage"]) == (True, 502, None)


def test_101_a_client_that_leaves_before_any_answer(behind: Behind, silent: Silent) -> None:
    traffic = behind(silent.port)
    traffic.allow(more=BACKEND)
    with client(traffic):
        upstream = silent.take()
    with upstream:
        told = traffic.told()
    assert (told["reached"], told["aborted"]) == (True, True)
    assert told["status"] in (0, 499)
    assert (told["response_bytes"], told["usage"]) == (0, None)


def test_a_websocket_is_reported_at_its_end(
    behind: Behind, authz: StubAuthz, running_model: DemoModel
) -> None:
    traffic = behind(running_model.port)
    traffic.allow(more=BACKEND)
    with connect(f"wss://localhost:{traffic.port}/ws", ssl=traffic.tls) as echo:
        echo.send("usage")
        assert echo.recv(timeout=5) == "usage"
        assert not authz.ended
    told: dict[str, Any] = traffic.told()
    assert told.pop("duration_ms") >= 0
    assert told == {"reservation": traffic.reservation, "reached": True}


def test_a_websocket_to_nobody_is_reported(behind: Behind) -> None:
    traffic = behind(free_port())
    traffic.allow(more=BACKEND)
    upgrade: Any = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ]
    assert exchange(traffic.port, request_bytes("GET", "/ws", upgrade), tls=traffic.tls).status == 502
    assert traffic.told()["reached"] is False
