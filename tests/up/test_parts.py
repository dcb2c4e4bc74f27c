"""Ports, probes, the demo key, and a gateway's settings from the config."""

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from authz.config import loads
from authz.gateway import demo_key
from authz.gateway.backoff import Backoff
from authz.gateway.child import Command, start
from authz.gateway.from_config import entry_name, settings_for
from authz.gateway.managed import envoy_command
from authz.gateway.ports import free_port, holder, is_free
from authz.gateway.probe import Answer, NoAnswer, get, served_models
from authz.gateway.settings import Address, TokenSource, UnusableSettings
from authz.store.open import open_store
from tests.support.scripted_server import ScriptedServer


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_a_taken_port_and_who_has_it(taken: int) -> None:
    assert not is_free("127.0.0.1", taken)
    assert not is_free("0.0.0.0", taken)
    told = holder(taken)
    assert told is not None
    assert told.endswith(f"(process {os.getpid()})")
    assert free_port(prefer=taken) != taken


def test_a_port_that_many_may_share_is_taken_too() -> None:
    """Envoy listens with SO_REUSEPORT: a second one would take half of its connections."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert not is_free("127.0.0.1", other.getsockname()[1])


def test_a_free_port() -> None:
    port = free_port()
    assert is_free("127.0.0.1", port)
    assert holder(port) is None
    assert free_port(prefer=port) == port


def test_the_pauses_grow_and_have_an_end() -> None:
    backoff = Backoff(shortest=0.1, longest=10)
    assert [backoff.delay(deaths) for deaths in (1, 2, 3, 7, 8, 10_000)] == [0.1, 0.2, 0.4, 6.4, 10, 10]


def test_each_run_has_a_new_key_and_only_that(tmp_path: Path) -> None:
    store = open_store(f"sqlite://{tmp_path}/authz.db")
    first = demo_key.renew(store.registry, 1000)
    second = demo_key.renew(store.registry, 2000)
    assert first != second
    assert [key.revoked_at for key in store.registry.keys(user="demo")] == [2000, None]


def test_other_keys_of_the_demo_user_are_left_alone(tmp_path: Path) -> None:
    store = open_store(f"sqlite://{tmp_path}/authz.db")
    demo_key.renew(store.registry, 1000)
    (key,) = store.registry.keys(user="demo")
    store.registry.put_key(replace(key, name="mine"))
    demo_key.renew(store.registry, 2000)
    assert [key.revoked_at for key in store.registry.keys(user="demo")] == [None, None]


async def test_nobody_answers(taken: int) -> None:
    assert await get("127.0.0.1", free_port(), "/") == Answer()


def _http(status: str, body: str) -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n{body}".encode()


async def test_the_answer_of_a_server() -> None:
    with ScriptedServer(_http("403 Forbidden", "no")) as server:
        answer = await get("127.0.0.1", server.port, "/x", key="k")
    assert answer.status == 403
    assert answer.text.endswith("\r\n\r\nno")


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH\r\n", b"\xff\xfe\x00"])
async def test_what_is_no_http_is_no_answer(answer: bytes) -> None:
    with ScriptedServer(answer) as server:
        assert (await get("127.0.0.1", server.port, "/")).status == 0


async def test_the_models_of_a_server() -> None:
    listed = (
        '{"data": [{"id": "a"}, {"id": "org/b:7b", "max_model_len": 8192}, {"id": "/models/x.gguf"}, '
        '{"id": "a", "max_model_len": "many"}, {"id": ""}]}'
    )
    with ScriptedServer(_http("200 OK", listed)) as server:
        served = await served_models(f"http://127.0.0.1:{server.port}")
    assert served.models == ("a", "org/b:7b")
    assert served.unusable == ("/models/x.gguf", "")
    assert served.contexts == {"org/b:7b": 8192}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (_http("404 Not Found", ""), "HTTP 404"),
        (_http("200 OK", "hello"), "not a list of models"),
        (_http("200 OK", '{"data": [1]}'), "not a list of models"),
        (_http("200 OK", "[]"), "not a list of models"),
        (b"SSH-2.0-OpenSSH\r\n", "disconnected"),
    ],
)
async def test_a_server_that_does_not_tell(answer: bytes, message: str) -> None:
    with ScriptedServer(answer) as server, pytest.raises(NoAnswer, match=message):
        await served_models(f"http://127.0.0.1:{server.port}")


async def test_a_server_that_is_not_there() -> None:
    with pytest.raises(NoAnswer, match="nothing accepts connections"):
        await served_models(f"http://127.0.0.1:{free_port()}")


def test_envoy_is_found_beside_this_python(tmp_path: Path) -> None:
    command = envoy_command(tmp_path / "envoy.yaml", tmp_path / "envoy.log", concurrency=3)
    assert Path(command.arguments[0]).is_absolute()
    assert command.arguments[1:5] == ("--config-path", str(tmp_path / "envoy.yaml"), "--concurrency", "3")


CONFIG = """
decisions: {http: 0.0.0.0:9000, grpc: "[::1]:9001"}
gateways:
  edge:
    kind: envoy
    token: {file: edge.token}
    listen: {http: 127.0.0.1:8081}
    max_body: 64KiB
    lease: 30s
    request_id: gateway
    server_name: llm.lab
  tls:
    kind: caddy
    token: {env: TLS_TOKEN}
    listen: {http: 127.0.0.1:8080, https: 127.0.0.1:8443}
    tls: {cert: a.crt, key: a.key}
backends:
  one: {url: http://10.0.0.5:8000, models: [llama3]}
  two: {url: https://10.0.0.6, models: any}
models: {llama3: {}}
authenticators:
  sso:
    {type: jwt, issuers: [https://idp], audiences: [llm], algorithms: [RS256], discovery: https://idp,
     claim_headers: {admin: x-admin}}
"""


def test_settings_of_a_gateway(tmp_path: Path) -> None:
    config = loads(CONFIG, directory=tmp_path, secrets_required=False).config
    edge = settings_for(config, "edge")
    assert (edge.http, edge.plain_http, edge.server_name) == (Address("127.0.0.1", 8081), True, "llm.lab")
    assert edge.authz_http == (Address("127.0.0.1", 9000),)
    assert edge.authz_grpc == (Address("::1", 9001),)
    assert edge.token == TokenSource("file", str(tmp_path / "edge.token"))
    assert edge.max_body == 65536
    assert (edge.name, edge.lease_ms) == ("edge", 30_000)
    assert edge.claim_headers == ("x-admin",)
    assert [(up.name, up.url, up.models) for up in edge.upstreams] == [
        ("one", "http://10.0.0.5:8000", ("llama3",)),
        ("two", "https://10.0.0.6", ()),
    ]
    tls = settings_for(config, "tls")
    assert (tls.plain_http, tls.https) == (False, Address("127.0.0.1", 8443))
    assert (tls.tls.certificate, tls.tls.key) == (str(tmp_path / "a.crt"), str(tmp_path / "a.key"))
    assert tls.token == TokenSource("env", "TLS_TOKEN")
    assert (edge.own_request_ids, tls.own_request_ids) == (True, False)


def test_which_gateway_is_meant(tmp_path: Path) -> None:
    config = loads(CONFIG, directory=tmp_path, secrets_required=False).config
    assert entry_name(config, "envoy", None) == "edge"
    assert entry_name(config, "nginx", None) is None
    with pytest.raises(UnusableSettings, match="of kind envoy, not caddy"):
        entry_name(config, "caddy", "edge")


async def test_logs_are_for_the_owner_alone(tmp_path: Path) -> None:
    log = tmp_path / "log" / "echo.log"
    command = Command(name="echo", arguments=("/bin/echo", "said"), log=log, environment={})
    before = os.umask(0o022)
    try:
        assert await (await start(command)).wait() == 0
    finally:
        os.umask(before)
    assert log.read_text() == "said\n"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (log.parent, log)] == [0o700, 0o600]
