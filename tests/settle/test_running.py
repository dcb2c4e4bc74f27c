"""The service as a process: asked by raw gRPC, told by raw HTTP and raw gRPC, read by a command."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from envoy.service.accesslog.v3.als_pb2 import StreamAccessLogsResponse
from envoy.service.auth.v3 import external_auth_pb2 as auth

from tests.support.raw_grpc import METHOD, check_request
from tests.support.raw_http import RawResponse, exchange, request_bytes
from tests.support.service import AuthzService
from tests.transport.test_access_log import STREAM, entry, message

TOKENS = {"edge": "token-of-the-edge-gateway", "other": "token-of-another-gateway"}
CONFIG = f"""
gateways:
  edge: {{kind: envoy, token: {TOKENS["edge"]}, request_id: gateway}}
  other: {{kind: traefik, token: {TOKENS["other"]}}}
authenticators: {{keys: {{type: api_key}}}}
models: {{llama3: {{context: 8192, max_output: 2048}}}}
routes:
  - name: inference
    match: {{api: [openai]}}
    authenticate: {{any_of: [keys]}}
    authorize: [{{models: allowed}}]
    limits: [tokens]
limits:
  tokens: {{unit: tokens, quota: 1000, window: month, partition_by: [user]}}
"""
BODY = b'{"model": "llama3", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 16}'


class Running:
    """A started service with one key, made before: one made beside it would be in force within a second."""

    def __init__(self, service: AuthzService, key: str) -> None:
        self.service = service
        self.key = key
        self._channel = grpc.insecure_channel(f"127.0.0.1:{service.grpc}")

    def check(self, request_id: str) -> auth.CheckResponse:
        fields = [
            ("authorization", f"Bearer {self.key}"),
            ("content-type", "application/json"),
            ("x-request-id", request_id),
        ]
        asked = check_request(request_bytes("POST", "/v1/chat/completions", fields, BODY))
        call = self._channel.unary_unary(METHOD, response_deserializer=auth.CheckResponse.FromString)
        return call(asked.SerializeToString(), metadata=self._proof(), timeout=10)

    def reserve(self, request_id: str) -> str:
        answer = self.check(request_id)
        assert answer.status.code == 0, answer
        return str(answer.dynamic_metadata["reservation"])

    def log(self, *entries: Any) -> None:
        call = self._channel.stream_unary(STREAM, response_deserializer=StreamAccessLogsResponse.FromString)
        call(iter([message(*entries)]), metadata=self._proof(), timeout=10)

    def post(self, told: object, gateway: str = "edge") -> RawResponse:
        headers = [("x-authz-gateway-token", TOKENS[gateway]), ("content-type", "application/json")]
        data = request_bytes("POST", "/v1/usage", headers, json.dumps(told).encode())
        return exchange(self.service.http, data, method="POST")

    def outcomes(self, told: object, gateway: str = "edge") -> list[str]:
        answer = self.post(told, gateway)
        assert answer.status == 200, answer
        return [each["outcome"] for each in answer.json()["results"]]

    def ledger(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.service.run("usage", "--since", "1d", "--by", "user")
        return rows

    def close(self) -> None:
        self._channel.close()

    def _proof(self) -> list[tuple[str, str]]:
        return [("x-authz-gateway-token", TOKENS["edge"])]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    service = AuthzService(tmp_path, CONFIG)
    key = service.run("keys", "create", "--user", "alice")["key"]
    with service:
        made = Running(service, key)
        yield made
        made.close()


def until(condition: Callable[[], bool]) -> None:
    """Wait for what is true soon."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_is_told_is_charged_once_and_stands_in_the_ledger(running: Running) -> None:
    told, logged, forged = (running.reserve(f"id-{number}") for number in range(3))
    usage = {"prompt_tokens": 11, "completion_tokens": 4}
    report = {"reservation": told, "usage": usage, "status": 200}
    assert running.outcomes(report) == ["settled"]
    assert running.outcomes([report, report]) == ["already", "already"], "attack 105: replayed"
    assert running.outcomes({"reservation": forged, "reached": False}, "other") == ["foreign"]
    assert running.outcomes({"reservation": "rsv_forged"}) == ["unknown"]
    assert running.outcomes({"reservation": forged, "running": True}) == ["extended"]
    bad = {"prompt_tokens": -(10**15), "completion_tokens": -1}
    assert running.outcomes({"reservation": forged, "usage": bad, "status": 500}) == ["settled"]
    running.log(entry(logged, usage={"input": 20, "output": 5}))
    left = entry(reached=False, status=0, request_id="id-3", flags=("downstream_connection_termination",))
    running.log(left)
    assert running.check("id-3").status.code == 0
    until(lambda: running.ledger()[0]["requests"] >= 3)
    [row] = running.ledger()
    assert (row["input_tokens"], row["output_tokens"]) == (31, 9)
    metrics = exchange(
        running.service.admin, request_bytes(target="/metrics", host="localhost")
    ).body.decode()
    assert 'authz_usage_rejected_total{gateway="edge",reason="negative"} 1.0' in metrics
    assert 'authz_settlements_total{gateway="other",outcome="foreign",source=""} 1.0' in metrics
    assert 'authz_tokens_total{kind="input",source="reported"} 31.0' in metrics


def test_a_budget_that_is_nearly_used_up_is_told(running: Running) -> None:
    allowed = 0
    for number in range(60):
        answer = running.check(f"id-{number}")
        if answer.status.code != 0:
            break
        allowed += 1
        reservation = str(answer.dynamic_metadata["reservation"])
        usage = {"prompt_tokens": 86, "completion_tokens": 16}
        assert running.outcomes({"reservation": reservation, "usage": usage}) == ["settled"]
    assert allowed < 12, "never over: 1,000 tokens"
    until(lambda: "budget threshold" in running.service.log)
    [line] = [line for line in running.service.log.splitlines() if "budget threshold" in line]
    event = json.loads(line)
    assert (event["policy"], event["partition"], event["percent"], event["quota"]) == (
        "tokens",
        "user=alice",
        80,
        1000,
    )
