"""authz as it is measured: its configuration, keys, and the requests of a gateway in each dialect."""

import base64
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import grpc
import jwt
import msgspec
from envoy.service.auth.v3 import external_auth_pb2

from authz.authenticate.key_format import MintedKey, mint
from authz.quota import parse_quota
from authz.store.records import Key
from bench.connections import Answered, Connection, Http1, Http2
from bench.load import GRPC
from bench.machine import SERVER_CORE, pin
from bench.servers import CHECK
from tests.support.processes import Process, executable
from tests.support.raw_grpc import check_request
from tests.support.raw_http import request_bytes
from tests.support.service import AuthzService

GATEWAY = "token-of-the-bench-0123456789"
SIGN_KEY = b"0123456789abcdef0123456789abcdef"
BODY = json.dumps(
    {
        "model": "llama3",
        "messages": [{"role": "user", "content": "x" * 400}],
        "max_tokens": 64,
        "stream": True,
    }
).encode()
CHAT = "/v1/chat/completions"
EIGHT = ", ".join(f"l{number}" for number in range(8))
CONFIG = f"""
gateways:
  ngx: {{kind: nginx, token: {GATEWAY}}}
  edge: {{kind: envoy, token: {GATEWAY}-grpc}}
authenticators:
  keys: {{type: api_key}}
  sso: {{type: jwt, issuers: [i], audiences: [a], algorithms: [HS256], sign_key: {base64.b64encode(SIGN_KEY).decode()}, subject: {{models: models}}}}
models: {{llama3: {{context: 8192, max_output: 2048}}}}
routes:
  - {{name: one, match: {{paths: [/one]}}, authenticate: {{any_of: [keys]}}, authorize: [{{models: allowed}}], limits: [l0]}}
  - {{name: eight, match: {{paths: [/eight]}}, authenticate: {{any_of: [keys]}}, authorize: [{{models: allowed}}], limits: [{EIGHT}]}}
  - {{name: three, match: {{paths: [/three]}}, authenticate: {{any_of: [keys, sso]}}, authorize: [{{models: allowed}}], limits: [l0, l1, l2]}}
  - {{name: inference, match: {{api: [openai]}}, authenticate: {{any_of: [keys]}}, authorize: [{{models: allowed}}], limits: [key-minute, user-day, team-week]}}
limits:
  key-minute: {{unit: requests, quota: 1G, window: 1m, partition_by: [key]}}
  user-day: {{unit: tokens, quota: 1000G, window: day, partition_by: [user]}}
  team-week: {{unit: requests, quota: 1G, window: week, partition_by: [team]}}
""" + "".join(
    f"  l{number}: {{unit: requests, quota: 1G, window: {number + 1}h, partition_by: [user]}}\n"
    for number in range(8)
)


class Credentials:
    """Keys of a service that does not run yet. Each may have a quota of its own."""

    def __init__(self) -> None:
        self.records: list[Key] = []

    def key(self, user: str = "alice", quota: str = "") -> MintedKey:
        minted = mint()
        record = Key(
            id=minted.id, digest=minted.digest, display=minted.display, user=user, team="nlp",
            quotas=(parse_quota(quota),) if quota else (), created_at=0,
        )  # fmt: skip
        self.records.append(record)
        return minted


def token(subject: str) -> str:
    """A JWT of its own for everybody."""
    claims = {"iss": "i", "aud": "a", "sub": subject, "exp": int(time.time()) + 3600, "models": ["llama3"]}
    return jwt.encode(claims, SIGN_KEY, algorithm="HS256")


class Ours(AuthzService):
    """`authz serve` on the server's core. With `memory://` it runs inside `bench.servers`, which knows the keys."""

    def __init__(
        self,
        directory: Path,
        credentials: Credentials,
        store: str = "",
        options: Sequence[str] = (),
        config: str = CONFIG,
    ) -> None:
        super().__init__(directory, config, store=store, options=options)
        self.credentials = credentials

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        if self.store != "memory://":
            for key in self.credentials.records:
                self.registry.add_key(key)
            super().start()
        else:
            keys = self.directory / "keys.json"
            keys.write_bytes(msgspec.json.encode(self.credentials.records))
            argv = [
                sys.executable,
                "-m",
                "bench.servers",
                "ours",
                str(keys),
                "serve",
                "--config",
                str(self.config),
            ]
            argv += self._options
            self.process = Process(argv, log=self.directory / "authz.log")
            self.process.wait_until(self.ready, seconds=120)
        pin(self.pid, SERVER_CORE)

    def connect(self, streams: int) -> Callable[[Answered], Connection]:
        """For the bench's own client, over gRPC."""
        headers = {**GRPC, "x-authz-gateway-token": f"{GATEWAY}-grpc"}
        return partial(Http2, self.grpc, CHECK, headers, streams)

    def connect_http(self) -> Callable[[Answered], Connection]:
        return partial(Http1, self.http)


def serve_help() -> str:
    """What `authz serve` can be told."""
    return subprocess.run(
        [executable("authz"), "serve", "--help"], capture_output=True, text=True, check=True
    ).stdout


def message(credential: str, path: str = CHAT, body: bytes = BODY) -> bytes:
    """The CheckRequest of a client's request."""
    fields: list[tuple[str | bytes, str | bytes]] = [
        ("authorization", f"Bearer {credential}"), ("content-type", "application/json"), ("user-agent", "bench"),
        ("accept", "*/*"),
    ]  # fmt: skip
    return check_request(request_bytes("POST", path, fields, body)).SerializeToString()


def answer(service: AuthzService, asked: bytes) -> bytes:
    """What authz answers to a CheckRequest."""
    with grpc.insecure_channel(f"127.0.0.1:{service.grpc}") as channel:
        call = channel.unary_unary(CHECK)
        told: bytes = call(asked, metadata=[("x-authz-gateway-token", f"{GATEWAY}-grpc")], timeout=10)
    return told


def admitted(answer: bytes) -> bool:
    """Whether a CheckResponse lets the request through. A call that failed did not."""
    return bool(answer) and external_auth_pb2.CheckResponse.FromString(answer).status.code == 0


def http_headers(credential: str, path: str = CHAT) -> Mapping[str, str]:
    """What nginx asks with."""
    return {
        "x-authz-gateway-token": GATEWAY, "x-original-method": "POST", "x-original-uri": path,
        "x-forwarded-host": "llm.test", "x-forwarded-proto": "https", "x-forwarded-for": "192.0.2.7",
        "x-original-content-length": str(len(BODY)), "content-type": "application/json",
        "authorization": f"Bearer {credential}",
    }  # fmt: skip


def http_request(credential: str, path: str = CHAT) -> bytes:
    """The same as bytes."""
    lines = ["POST /auth/nginx HTTP/1.1", "host: 127.0.0.1", f"content-length: {len(BODY)}"]
    lines += [f"{name}: {value}" for name, value in http_headers(credential, path).items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + BODY
