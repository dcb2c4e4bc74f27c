"""How reports get from Traefik to authz: at once, again until they arrive, and as long as a response runs."""

import json
import ssl
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace

import pytest

from tests.gateways.answer import EVENTS, chunk
from tests.gateways.answers_with_usage import CHAT
from tests.gateways.clients import leaving, read_until, wait_for
from tests.gateways.reported_traffic import ASKED, Traffic
from tests.support.gateway import Around, RealGateway
from tests.support.pieces_server import Pieces
from tests.support.ports import free_port
from tests.support.raw_http import request_bytes
from tests.support.rendered import Change
from tests.support.rendered_traefik import RenderedTraefik

MODEL = "server"
LEASE_MS = 3000
QUESTION = request_bytes(
    "POST", "/v1/chat/completions", [("Content-Type", "application/json")], ASKED, host="localhost"
)
STREAM = [
    f"data: {json.dumps(event)}\n\n".encode()
    for event in (chunk("begun"), {"choices": [], "usage": CHAT}, chunk(""))
]


class WithProfile(RenderedTraefik):
    """Tells of its goroutines, and takes a new configuration at once."""

    def __init__(self, around: Around, change: Change) -> None:
        super().__init__(around, change)
        self.profile = free_port()
        self.changes = 0

    def write(self) -> Sequence[str]:
        argv = super().write()
        path = self.directory / "traefik.yml"
        text = path.read_text().replace(
            "entryPoints:\n", f'entryPoints:\n  traefik:\n    address: "127.0.0.1:{self.profile}"\n'
        )
        text = text.replace("providers:\n", "providers:\n  providersThrottleDuration: 100ms\n")
        path.write_text(text + "\napi: {insecure: true, debug: true}\n")
        return argv

    def goroutines(self) -> int:
        """That run code of ours: those that Traefik itself has come and go."""
        url = f"http://127.0.0.1:{self.profile}/debug/pprof/goroutine?debug=1"
        with urllib.request.urlopen(url, timeout=5) as response:
            stacks = response.read().decode().split("\n\n")
        return sum(int(stack.strip().split(" ")[0]) for stack in stacks[1:] if "yaegi" in stack)

    def plugins(self) -> str:
        """Something that is new once a changed configuration is in force."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.profile}/api/rawdata", timeout=5) as response:
            found: str = json.load(response)["middlewares"]["authz-guard@file"]["plugin"]["authzguard"][
                "maxBody"
            ]
        return str(found)

    def reload(self) -> None:
        """Every plugin is made anew."""
        self.changes += 1
        size = str(4_194_304 + self.changes)
        path = self.directory / "dynamic.yml"
        text = path.read_text()
        before = self.plugins()
        assert f"maxBody: {before} " in text
        new = self.directory / "dynamic.new"
        new.write_text(text.replace(f"maxBody: {before} ", f"maxBody: {size} "))
        new.replace(path)
        wait_for(lambda: self.plugins() == size)


@pytest.fixture(scope="module")
def gateway(around: Around) -> Iterator[WithProfile]:
    with WithProfile(around, lambda settings: replace(settings, lease_ms=LEASE_MS)) as gateway:
        yield gateway


@pytest.fixture
def traffic(traffic: Traffic) -> Traffic:
    traffic.server.will_answer(Pieces(pieces=STREAM, content_type=EVENTS, waits_at=1))
    return traffic


class Clients:
    """Several with a response each that runs until the server goes on."""

    def __init__(self, traffic: Traffic, stack: ExitStack) -> None:
        self.traffic = traffic
        self.stack = stack
        self.connections: list[ssl.SSLSocket] = []
        self.reservations: list[str] = []

    def begin(self, count: int) -> None:
        for _ in range(count):
            self.traffic.allow()
            connection = self.stack.enter_context(leaving(self.traffic.port, self.traffic.tls, QUESTION))
            read_until(connection, b"begun")
            self.connections.append(connection)
            self.reservations.append(self.traffic.reservation)

    def finish(self) -> None:
        """All of them read theirs to its end."""
        self.traffic.server.go_on.set()
        for connection in self.connections:
            received = b""
            while not received.endswith(b"0\r\n\r\n"):
                part = connection.recv(65536)
                assert part
                received += part
            assert b"usage" in received
        self.connections.clear()

    def ended(self) -> list[str]:
        """Of which the end was reported, all with what was used."""
        mine = [item for item in self.traffic.authz.ended if item["reservation"] in self.reservations]
        assert all(item["usage"] == CHAT for item in mine)
        return [item["reservation"] for item in mine]


@pytest.fixture
def clients(traffic: Traffic) -> Iterator[Clients]:
    with ExitStack() as stack:
        yield Clients(traffic, stack)


def test_the_gateway_says_what_it_can(clients: Clients) -> None:
    clients.begin(1)
    assert clients.traffic.authz.last.values("x-authz-gateway-can") == ["edit, lease=3000"]


def test_a_response_that_runs_is_reported_until_it_ends(clients: Clients) -> None:
    authz = clients.traffic.authz
    clients.begin(3)
    wait_for(lambda: all(authz.running.count(each) >= 2 for each in clients.reservations))
    assert not clients.ended()
    assert all(len(call.items) <= 3 for call in authz.reports)
    assert {call.token for call in authz.reports} == {"gateway-token-of-the-tests"}
    clients.finish()
    wait_for(lambda: sorted(clients.ended()) == sorted(clients.reservations))
    told = [item["reservation"] for call in authz.reports for item in call.items]
    for each in clients.reservations:
        ends = [index for index, item in enumerate(told) if item == each]
        assert len(ends) >= 3


def test_reports_wait_until_authz_is_back(clients: Clients, gateway: RealGateway) -> None:
    authz = clients.traffic.authz
    clients.begin(120)
    authz.stop()
    try:
        clients.finish()
        gateway.log_with("authzguard: authz takes no reports (no answer), they wait")
    finally:
        authz.start()
    wait_for(lambda: len(clients.ended()) >= 120)
    assert sorted(clients.ended()) == sorted(clients.reservations)
    assert max(len(call.items) for call in authz.reports if "usage" in call.items[0]) == 100
    gateway.log_with("authzguard: authz takes reports again")


def test_reports_wait_where_authz_has_trouble(clients: Clients, gateway: RealGateway) -> None:
    authz = clients.traffic.authz
    clients.begin(2)
    authz.usage_status = 503
    clients.finish()
    gateway.log_with("authzguard: authz takes no reports (status 503), they wait")
    assert not clients.ended()
    authz.usage_status = 200
    wait_for(lambda: sorted(clients.ended()) == sorted(clients.reservations))


def test_what_authz_cannot_read_keeps_nobody_waiting(clients: Clients, gateway: RealGateway) -> None:
    authz = clients.traffic.authz
    clients.begin(1)
    authz.usage_status = 400
    clients.finish()
    gateway.log_with(f"authzguard: authz cannot read the report of {clients.traffic.reservation}, it is lost")
    authz.usage_status = 200
    clients.traffic.allow()
    assert clients.traffic.send().status == 200
    assert clients.traffic.told()["usage"] == CHAT
    assert not clients.ended()


def test_100_the_nonsense_of_one_costs_no_other_its_report(clients: Clients, gateway: RealGateway) -> None:
    traffic, authz = clients.traffic, clients.traffic.authz
    authz.usage_status = 503
    clients.begin(2)
    clients.finish()
    no_utf8 = b'{"usage": {"prompt_tokens": 1, "x": "\xff"}}'
    assert traffic.ask(Pieces(pieces=[no_utf8])).body == no_utf8
    nonsense = traffic.reservation
    traffic.server.will_answer(Pieces(pieces=STREAM, content_type=EVENTS, waits_at=1))
    clients.begin(2)
    clients.finish()
    authz.usage_status = 200
    wait_for(lambda: sorted(clients.ended()) == sorted(clients.reservations))
    gateway.log_with(f"authzguard: authz cannot read what {nonsense} used")
    (told,) = [item for item in authz.ended if item["reservation"] == nonsense]
    assert (told["usage"], told["status"], told["response_bytes"]) == (None, 200, len(no_utf8))


def test_a_new_configuration_loses_no_report_and_leaves_nothing_behind(
    clients: Clients, gateway: WithProfile
) -> None:
    wait_for(lambda: gateway.goroutines() == 0)  # of the tests before
    authz = clients.traffic.authz
    clients.begin(2)
    old = list(clients.reservations)
    for _ in range(5):
        gateway.reload()
        clients.begin(1)
    authz.reports.clear()
    wait_for(lambda: set(clients.reservations) <= set(authz.running))
    assert gateway.goroutines() >= 6
    clients.finish()
    wait_for(lambda: sorted(clients.ended()) == sorted(clients.reservations))
    assert set(old) <= set(clients.ended())
    wait_for(lambda: gateway.goroutines() == 0)
