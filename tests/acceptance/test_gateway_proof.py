"""Invariant 10: upstream credentials, asserted identity and settlement need the gateway's proof, never an address alone."""

import json
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from envoy.data.accesslog.v3 import accesslog_pb2
from envoy.service.accesslog.v3 import als_pb2
from envoy.service.auth.v3 import external_auth_pb2 as auth

from authz.authenticate.key_format import MintedKey
from tests.acceptance.lab import add_key, decisions, eventually
from tests.support.ports import free_port
from tests.support.processes import Process, executable, port_answers
from tests.support.raw_grpc import METHOD, check_request
from tests.support.raw_http import RawResponse, exchange, request_bytes
from tests.support.service import AuthzService

UPSTREAM = "upstream-secret-of-the-tests"
TOKENS = {kind: f"token-of-{kind}-in-the-tests" for kind in ("envoy", "traefik", "nginx", "caddy")}
KINDS = tuple(TOKENS)
WRONG = {
    "unheard of": "token-that-nobody-has",
    "empty": "",
    "too long": "x" * 600,
    "cut": TOKENS["envoy"][:-1],
}
ALS = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"

CONFIG = """
gateways:
  envoy: {{kind: envoy, token: {envoy}}}
  second: {{kind: envoy, token: token-of-the-second-envoy}}
  traefik: {{kind: traefik, token: {traefik}}}
  nginx: {{kind: nginx, token: {nginx}}}
  caddy: {{kind: caddy, token: {caddy}}}
  elsewhere: {{kind: envoy, token: token-of-another-network, from: [10.9.0.0/16]}}
authenticators:
  keys: {{type: api_key}}
  office: {{type: network, allow: [10.1.0.0/16]}}
models:
  demo: {{}}
backends:
  model: {{url: "http://127.0.0.1:8000", models: any, bearer: {upstream}}}
routes:
  - name: models
    match: {{methods: [GET], paths: [/v1/models]}}
    authenticate: {{any_of: [keys]}}
    authorize: [{{models: allowed}}]
  - name: office
    match: {{methods: [GET], paths: [/office]}}
    authenticate: {{any_of: [office]}}
    authorize: [{{models: any}}]
  - name: plain
    match: {{methods: [GET], paths: [/plain]}}
    authenticate: {{any_of: [keys]}}
    authorize: [{{models: any}}]
  - name: single
    match: {{methods: [GET], paths: [/single]}}
    authenticate: {{any_of: [keys]}}
    authorize: [{{models: any}}]
    limits: [one-at-a-time]
limits:
  one-at-a-time: {{unit: concurrency, quota: 1, partition_by: [key]}}
"""


@dataclass
class Asked:
    """An answer of authz to a gateway."""

    status: int
    code: str | None
    upstream: dict[str, str]  # what goes to the model server
    reservation: str = ""


class Desk:
    """Asks as a gateway would, by each of the five ways."""

    def __init__(self, service: AuthzService) -> None:
        self.service = service
        self.key: MintedKey = add_key(service.registry)
        self.channel = grpc.insecure_channel(f"127.0.0.1:{service.grpc}")

    def http(
        self, kind: str, target: str, token: str | None, *, key: str | None = None, ip: str = "10.1.2.3"
    ) -> Asked:
        """A GET that a client at `ip` sent to a gateway of that kind."""
        headers: list[tuple[str | bytes, str | bytes]] = [
            ("Authorization", f"Bearer {key or self.key.key}"),
            ("X-Forwarded-For", ip),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Host", "llm.test"),
        ]
        if kind == "nginx":
            headers += [("X-Original-Method", "GET"), ("X-Original-URI", target)]
        elif kind != "envoy":
            headers += [("X-Forwarded-Method", "GET"), ("X-Forwarded-Uri", target)]
        if token is not None:
            headers.append(("X-Authz-Gateway-Token", token))
        own = f"/auth/{kind}{target}" if kind == "envoy" else f"/auth/{kind}"
        return _read(exchange(self.service.http, request_bytes("GET", own, headers)))

    def models(self, token: str | None) -> Asked:
        headers: list[tuple[str | bytes, str | bytes]] = [("Authorization", f"Bearer {self.key.key}")]
        if token is not None:
            headers.append(("X-Authz-Gateway-Token", token))
        return _read(exchange(self.service.http, request_bytes("GET", "/v1/models", headers)))

    def check(self, target: str, token: str | None, *, key: str | None = None, ip: str = "10.1.2.3") -> Asked:
        data = request_bytes("GET", target, [("Authorization", f"Bearer {key or self.key.key}")])
        request = check_request(data)
        request.attributes.source.address.socket_address.address = ip
        check = self.channel.unary_unary(
            METHOD,
            request_serializer=auth.CheckRequest.SerializeToString,
            response_deserializer=auth.CheckResponse.FromString,
        )
        answer = check(request, metadata=_metadata(token), timeout=20)
        if answer.WhichOneof("http_response") == "ok_response":
            added = {option.header.key: option.header.value for option in answer.ok_response.headers}
            told = answer.dynamic_metadata.fields
            return Asked(200, None, added, told["reservation"].string_value if "reservation" in told else "")
        denied = answer.denied_response
        return Asked(denied.status.code, json.loads(denied.body)["error"]["code"], {})

    def log(self, reservation: str, token: str | None) -> grpc.StatusCode:
        """Tell that the request of a reservation is over; how the stream ended."""
        entry = accesslog_pb2.HTTPAccessLogEntry()
        metadata = entry.common_properties.metadata.filter_metadata["envoy.filters.http.ext_authz"]
        metadata.fields["reservation"].string_value = reservation
        entry.response.response_code.value = 200
        message = als_pb2.StreamAccessLogsMessage()
        message.http_logs.log_entry.append(entry)
        stream = self.channel.stream_unary(
            ALS,
            request_serializer=als_pb2.StreamAccessLogsMessage.SerializeToString,
            response_deserializer=als_pb2.StreamAccessLogsResponse.FromString,
        )
        try:
            stream(iter([message]), metadata=_metadata(token), timeout=20)
        except grpc.RpcError as error:
            return error.code()
        return grpc.StatusCode.OK


def _metadata(token: str | None) -> tuple[tuple[str, str | bytes], ...]:
    return () if token is None else (("x-authz-gateway-token", token),)


def _read(response: RawResponse) -> Asked:
    code = response.json()["error"]["code"] if response.status >= 400 else None
    return Asked(response.status, code, dict(response.headers))


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    service = AuthzService(tmp_path_factory.mktemp("proof"), CONFIG.format(**TOKENS, upstream=UPSTREAM))
    desk = Desk(service)
    with service:
        yield desk
        desk.channel.close()


Way = Callable[[Desk, str, str | None], Asked]
WAYS: dict[str, Way] = {
    **{kind: (lambda desk, target, token, kind=kind: desk.http(kind, target, token)) for kind in KINDS},  # type: ignore[misc]
    "grpc": lambda desk, target, token: desk.check(target, token),
}
OWN = {**TOKENS, "grpc": TOKENS["envoy"]}


@pytest.mark.parametrize("way", WAYS)
class TestEachWay:
    def test_with_its_token_a_gateway_gets_the_upstream_credential(self, desk: Desk, way: str) -> None:
        answer = WAYS[way](desk, "/plain", OWN[way])
        assert answer.status == 200
        assert answer.upstream["authorization"] == f"Bearer {UPSTREAM}"

    def test_without_a_token_this_machine_gets_the_decision_alone(self, desk: Desk, way: str) -> None:
        answer = WAYS[way](desk, "/plain", None)
        assert answer.status == 200
        assert answer.upstream["x-authz-user"] == "alice"
        assert UPSTREAM not in repr(answer.upstream)

    @pytest.mark.parametrize("wrong", WRONG)
    def test_a_wrong_token_is_refused(self, desk: Desk, way: str, wrong: str) -> None:
        answer = WAYS[way](desk, "/plain", WRONG[wrong])
        assert (answer.status, answer.code) == (403, "gateway_unproven")

    def test_the_token_of_another_kind_is_refused(self, desk: Desk, way: str) -> None:
        other = TOKENS["caddy" if way != "caddy" else "nginx"]
        answer = WAYS[way](desk, "/plain", other)
        assert (answer.status, answer.code) == (403, "gateway_unproven")

    def test_addresses_count_only_when_a_gateway_tells_them(self, desk: Desk, way: str) -> None:
        assert WAYS[way](desk, "/office", OWN[way]).status == 200
        answer = WAYS[way](desk, "/office", None)
        assert answer.status in (401, 403)
        assert not answer.upstream.get("x-authz-user")


@pytest.mark.parametrize("way", ["envoy", "grpc"])
def test_a_token_is_good_only_from_its_networks(desk: Desk, way: str) -> None:
    answer = WAYS[way](desk, "/plain", "token-of-another-network")
    assert (answer.status, answer.code) == (403, "gateway_unproven")


def test_the_list_of_models_asks_for_proof_alike(desk: Desk) -> None:
    assert desk.models(TOKENS["nginx"]).status == 200
    assert desk.models(None).status == 200
    wrong = desk.models("token-that-nobody-has")
    assert (wrong.status, wrong.code) == (403, "gateway_unproven")


def test_a_token_sent_twice_proves_nothing(desk: Desk) -> None:
    token = ("X-Authz-Gateway-Token", TOKENS["envoy"])
    authorization = ("Authorization", f"Bearer {desk.key.key}")
    data = request_bytes("GET", "/auth/envoy/plain", [authorization, token, token])
    answer = exchange(desk.service.http, data)
    assert (answer.status, answer.json()["error"]["code"]) == (403, "gateway_unproven")


def test_a_refused_gateway_is_counted_and_named_nowhere(desk: Desk) -> None:
    before = decisions(desk.service, "unidentified")
    desk.http("envoy", "/plain", "token-that-nobody-has")
    desk.check("/plain", "token-that-nobody-has")
    assert dict(decisions(desk.service, "unidentified") - before) == {"gateway_unproven": 2}
    assert not [token for token in (*TOKENS.values(), "token-that-nobody-has") if token in desk.service.log]


LIARS = {"no token": None, "a wrong token": "x" * 30, "another gateway's": "token-of-the-second-envoy"}


@pytest.mark.parametrize("liar", LIARS)
def test_only_the_gateway_that_asked_ends_a_reservation(desk: Desk, liar: str) -> None:
    key, token = add_key(desk.service.registry).key, LIARS[liar]
    answers: list[Asked] = []

    def ask() -> Asked:
        answers.append(desk.check("/single", TOKENS["envoy"], key=key))
        return answers[-1]

    eventually(lambda: ask().status == 200)  # the key is known by now, and its only slot taken
    reservation = answers[-1].reservation
    assert reservation
    assert (ask().status, answers[-1].code) == (429, "rate_limit_exceeded")
    refused = grpc.StatusCode.OK if liar == "another gateway's" else grpc.StatusCode.PERMISSION_DENIED
    assert desk.log(reservation, token) == refused
    assert ask().status == 429
    assert desk.log(reservation, TOKENS["envoy"]) == grpc.StatusCode.OK
    assert ask().status == 200


# Listening elsewhere than on loopback

GATEWAYS = "gateways: {edge: {kind: envoy, token: a-token-of-the-only-gateway}}\n"
REFUSED = {
    "no gateway": ("{http: 0.0.0.0:PORT}", "", "decisions"),
    "no gateway, IPv6": ('{http: "[::]:PORT"}', "", "decisions"),
    "no gateway, only gRPC": ("{grpc: 0.0.0.0:PORT}", "", "decisions"),
    "an address of the network": ("{http: 192.0.2.7:PORT}", "", "decisions"),
    "one gateway of two": (
        "{http: 0.0.0.0:PORT}",
        "gateways:\n  edge: {kind: envoy, token: a-token-of-the-only-gateway}\n  bare: {kind: caddy, from: [10.0.0.0/8]}\n",
        "bare",
    ),
}


def write_config(directory: Path, decisions: str, gateways: str) -> Path:
    config = directory / "authz.yaml"
    listen = decisions.replace("PORT", str(free_port()))
    for name in ("http", "grpc"):
        if name not in listen:
            listen = listen.replace("}", f", {name}: 127.0.0.1:{free_port()}}}")
    listen = listen.replace("}", ", grpc_other: none}")
    config.write_text(
        f"store: memory://\ndecisions: {listen}\nadmin: {{listen: 127.0.0.1:{free_port()}}}\n{gateways}"
    )
    return config


@pytest.mark.parametrize("case", REFUSED)
def test_it_does_not_start_where_anybody_could_ask(tmp_path: Path, case: str) -> None:
    listen, gateways, place = REFUSED[case]
    config = write_config(tmp_path, listen, gateways)
    done = subprocess.run(
        [executable("authz"), "serve", "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 1
    said = done.stderr
    line = next(number for number, text in enumerate(config.read_text().splitlines(), 1) if place in text)
    assert f"{config}:{line}:" in said
    assert "token" in said
    assert "loopback" in said
    assert "Traceback" not in said


def test_off_loopback_nothing_is_answered_without_proof(tmp_path: Path) -> None:
    """Served on every address; asked from those of this machine that are not loopback."""
    config = write_config(tmp_path, "{http: 0.0.0.0:PORT}", GATEWAYS)
    port = int(config.read_text().partition("0.0.0.0:")[2].partition(",")[0])
    service = Process(
        [executable("authz"), "serve", "--config", str(config)], log=tmp_path / "log", cwd=tmp_path
    )
    try:
        service.wait_until(lambda: port_answers(port))
        for address in own_addresses():
            for token, code in (
                (None, "gateway_unproven"),
                ("a-token-of-the-only-gateway", "route_not_allowed"),
            ):
                proof = f"X-Authz-Gateway-Token: {token}\r\n" if token else ""
                with socket.create_connection((address, port), timeout=5) as connection:
                    text = f"GET /auth/envoy/x HTTP/1.1\r\nHost: llm.test\r\nConnection: close\r\n{proof}\r\n"
                    connection.sendall(text.encode())
                    answer = connection.makefile("rb").read()
                assert answer.startswith(b"HTTP/1.1 403 ")
                assert f'"{code}"'.encode() in answer
    finally:
        assert service.stop(seconds=30) == 0


def own_addresses() -> set[str]:
    """IPv4 addresses of this machine but 127.0.0.1: that of the way out, if there is one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, suppress(OSError):
        probe.connect(("192.0.2.1", 9))  # nothing is sent
        return {probe.getsockname()[0]} - {"127.0.0.1"}
    return set()
