"""Envoy's journal holds what neither Envoy nor the service remembers: replayed, the ledger is complete, however often."""

import json
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from authz.store.open import open_view
from tests.acceptance.lab import add_key, eventually, in_force
from tests.support.certificates import Certificates
from tests.support.envoy import Envoy
from tests.support.gateway import Around
from tests.support.model import DemoModel
from tests.support.raw_http import exchange, request_bytes
from tests.support.service import AuthzService

TOKEN = "token-of-envoy-in-the-tests"
STREAMS = 5
TOKENS = 12
INTERVAL_MS = 300

_CONFIG = """
gateways:
  envoy: {{kind: envoy, token: {token}, request_id: gateway}}
authenticators:
  keys: {{type: api_key}}
models:
  demo: {{context: 8192, max_output: 4096}}
backends:
  model: {{url: "http://127.0.0.1:{model}", models: any}}
routes:
  - name: inference
    match: {{api: [openai]}}
    authenticate: {{any_of: [keys]}}
    authorize: [{{models: allowed}}]
    limits: [key-day]
limits:
  key-day: {{unit: tokens, quota: 10M, window: day, partition_by: [key]}}
"""


@pytest.fixture
def model(tmp_path: Path) -> Iterator[DemoModel]:
    with DemoModel(tmp_path / "model") as running:
        yield running


@pytest.fixture
def service(tmp_path: Path, model: DemoModel) -> Iterator[AuthzService]:
    with AuthzService(tmp_path / "authz", _CONFIG.format(token=TOKEN, model=model.port)) as running:
        yield running


@pytest.fixture
def envoy(
    tmp_path: Path, model: DemoModel, service: AuthzService, certificates: Certificates
) -> Iterator[Envoy]:
    around = Around(
        directory=tmp_path,
        certificates=certificates,
        authz_http=service.http,
        authz_grpc=service.grpc,
        model=model.port,
        token=TOKEN,
    )
    with Envoy(around) as running:
        yield running


def asked(key: str, *, interval_ms: int) -> bytes:
    body = {
        "model": "demo",
        "stream": True,
        "max_tokens": TOKENS,
        "messages": [{"role": "user", "content": "x"}],
    }
    headers: list[tuple[str | bytes, str | bytes]] = [
        ("Authorization", f"Bearer {key}"),
        ("Content-Type", "application/json"),
        ("X-Demo-Interval-Ms", str(interval_ms)),
    ]
    return request_bytes("POST", "/v1/chat/completions", headers, json.dumps(body).encode())


def used(service: AuthzService) -> dict[str, tuple[int, int, int]]:
    """Requests, input and output tokens by source."""
    view = open_view(service.store)
    try:
        rows = view.ledger.usage(since=0, until=1 << 42, by=("source",))
        return {row.group["source"]: (row.requests, row.input_tokens, row.output_tokens) for row in rows}
    finally:
        with suppress(StopIteration):
            view.close().send(None)


def journal(envoy: Envoy) -> list[dict[str, Any]]:
    """Its lines about chats."""
    return [json.loads(line) for line in envoy.log.splitlines() if '"path":"/v1/chat/completions"' in line]


def test_what_neither_remembers_is_replayed(
    envoy: Envoy, service: AuthzService, model: DemoModel, certificates: Certificates, tmp_path: Path
) -> None:
    key = add_key(service.registry)
    in_force(service)
    tls = certificates.trust()

    def ask(interval_ms: int) -> None:
        response = exchange(
            envoy.around.https, asked(key.key, interval_ms=interval_ms), tls=tls, method="POST"
        )
        assert response.status == 200

    ask(0)
    eventually(lambda: "reported" in used(service))
    assert used(service)["reported"][0] == 1
    model.reset()

    threads = [threading.Thread(target=ask, args=(INTERVAL_MS,)) for _ in range(STREAMS)]
    for thread in threads:
        thread.start()
    # Every answer has begun, none has ended.
    eventually(lambda: [each.finished for each in model.received()] == [None] * STREAMS)
    assert service.process is not None
    service.process.signal(signal.SIGKILL)
    for thread in threads:
        thread.join(30)
    eventually(lambda: len(journal(envoy)) == STREAMS + 1, seconds=20)
    assert envoy.process is not None
    envoy.process.signal(signal.SIGKILL)
    envoy.process.wait()
    service.process.stop()
    service.start()
    assert used(service)["reported"][0] == 1

    lines = journal(envoy)
    log = tmp_path / "envoy.log"
    log.write_text(envoy.log)
    counts = service.run("ledger", "replay", str(log))
    assert (counts["settled"], counts["settled"] + counts["already"] + counts["unknown"]) == (
        STREAMS,
        STREAMS + 1,
    )
    complete = {
        "reported": (
            STREAMS + 1,
            sum(line["usage"]["input"] for line in lines),
            sum(line["usage"]["output"] for line in lines),
        )
    }
    assert used(service) == complete
    assert complete["reported"][2] == (STREAMS + 1) * TOKENS

    again = service.run("ledger", "replay", str(log))
    assert again["settled"] + again["corrected"] == 0
    assert used(service) == complete


def test_a_client_that_left_is_replayed_as_one(
    envoy: Envoy, service: AuthzService, certificates: Certificates, tmp_path: Path
) -> None:
    key = add_key(service.registry)
    in_force(service)
    tls = certificates.trust()
    assert service.process is not None
    with (
        socket.create_connection(("127.0.0.1", envoy.around.https), timeout=20) as raw,
        tls.wrap_socket(raw, server_hostname="localhost") as connection,
    ):
        connection.sendall(asked(key.key, interval_ms=2000))
        seen = b""
        while seen.count(b"data: ") < 1:
            seen += connection.recv(65536)
        service.process.signal(signal.SIGKILL)
    eventually(lambda: len(journal(envoy)) == 1, seconds=20)
    (line,) = journal(envoy)
    assert "DC" in line["flags"]
    assert envoy.process is not None
    envoy.process.signal(signal.SIGKILL)
    envoy.process.wait()
    service.process.stop()
    service.start()
    log = tmp_path / "envoy.log"
    log.write_text(envoy.log)
    assert service.run("ledger", "replay", str(log))["settled"] == 1
    ((source, (requests, _, written)),) = used(service).items()
    assert (source, requests) == ("estimated", 1)
    assert 0 < written <= TOKENS
