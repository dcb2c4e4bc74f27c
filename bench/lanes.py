"""Decisions per second and CPU per decision: HTTP and gRPC, ours beside null, interleaved round by round.

Needs `wrk` and `h2load` (Debian: wrk, nghttp2-client) and two cores: the server
runs on core 0, the load on core 1. Loopback only.
"""

import base64
import json
import os
import re
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import jwt

from authz.authenticate.key_format import mint
from authz.store.records import Key
from tests.support.ports import free_port
from tests.support.processes import Process, port_answers
from tests.support.raw_grpc import METHOD, check_request
from tests.support.raw_http import request_bytes
from tests.support.service import AuthzService

ROUNDS = 5
SECONDS = 3
CONNECTIONS = 8
TOKEN = "token-of-the-bench-0123456789"
SIGN_KEY = b"0123456789abcdef0123456789abcdef"
BODY = json.dumps(
    {
        "model": "llama3",
        "messages": [{"role": "user", "content": "x" * 400}],
        "max_tokens": 64,
        "stream": True,
    }
).encode()
CONFIG = f"""
gateways:
  ngx: {{kind: nginx, token: {TOKEN}}}
  edge: {{kind: envoy, token: {TOKEN}-grpc}}
authenticators:
  keys: {{type: api_key}}
  sso: {{type: jwt, issuers: [i], audiences: [a], algorithms: [HS256], sign_key: {base64.b64encode(SIGN_KEY).decode()}, subject: {{models: models}}}}
models: {{llama3: {{context: 8192, max_output: 2048}}}}
routes:
  - name: inference
    match: {{api: [openai]}}
    authenticate: {{any_of: [keys, sso]}}
    authorize: [{{models: allowed}}]
    limits: [key-minute, user-day, team-week]
limits:
  key-minute: {{unit: requests, quota: 1G, window: 1m, partition_by: [key]}}
  user-day: {{unit: requests, quota: 1G, window: day, partition_by: [user]}}
  team-week: {{unit: requests, quota: 1G, window: week, partition_by: [team]}}
"""


@dataclass(frozen=True)
class Lane:
    """One server under one load."""

    name: str
    null: str  # the lane that it is compared with
    pid: int
    load: Callable[[], float]  # runs it, returns decisions per second


@dataclass(frozen=True)
class Measure:
    per_second: float
    cpu_us: float  # of the server, per decision


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far (proc_pid_stat(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(lane: Lane) -> Measure:
    before, begun = cpu_seconds(lane.pid), time.monotonic()
    per_second = lane.load()
    spent = cpu_seconds(lane.pid) - before
    return Measure(per_second, spent / (per_second * (time.monotonic() - begun)) * 1e6)


def run(argv: list[str]) -> str:
    done = subprocess.run(["taskset", "-c", "1", *argv], capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise SystemExit(f"{argv[0]} failed: {done.stderr or done.stdout}")
    return done.stdout


def http_load(port: int, path: str, headers: dict[str, str], scratch: Path) -> Callable[[], float]:
    script = scratch / f"post-{port}-{len(list(scratch.iterdir()))}.lua"
    lines = [f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in headers.items()]
    script.write_text("\n".join(['wrk.method = "POST"', f"wrk.body = {lua(BODY.decode())}", *lines, DONE]))

    def load() -> float:
        out = run(
            [
                "wrk",
                "-t1",
                f"-c{CONNECTIONS}",
                f"-d{SECONDS}s",
                "-s",
                str(script),
                f"http://127.0.0.1:{port}{path}",
            ]
        )
        if "Non-2xx" in out:
            raise SystemExit(f"not every answer was an allow:\n{out}")
        found = re.search(r"Requests/sec:\s+([\d.]+)", out)
        assert found, out
        return float(found[1])

    return load


DONE = ""


def lua(text: str) -> str:
    return "[==[" + text + "]==]"


def grpc_load(port: int, credential: str, scratch: Path) -> Callable[[], float]:
    message = check_request(
        request_bytes(
            "POST", "/v1/chat/completions",
            [("authorization", f"Bearer {credential}"), ("content-type", "application/json"), ("user-agent", "bench"),
             ("accept", "*/*"), ("x-request-id", "0123456789")],
            BODY,
        )
    ).SerializeToString()  # fmt: skip
    body = scratch / f"check-{port}-{len(list(scratch.iterdir()))}.bin"
    body.write_bytes(b"\0" + struct.pack(">I", len(message)) + message)
    argv = ["h2load", f"-c{CONNECTIONS}", "-m8", f"-D{SECONDS}", "-d", str(body), "-H", "content-type: application/grpc",
            "-H", "te: trailers", "-H", f"x-authz-gateway-token: {TOKEN}-grpc", f"http://127.0.0.1:{port}{METHOD}"]  # fmt: skip

    def load() -> float:
        out = run(argv)
        if " 0 failed" not in out:
            raise SystemExit(out)
        found = re.search(r"([\d.]+) req/s", out)
        assert found, out
        return float(found[1])

    return load


def main() -> None:
    missing = [tool for tool in ("wrk", "h2load", "taskset") if shutil.which(tool) is None]
    if missing:
        sys.exit(
            f"the bench needs {', '.join(missing)}: install the packages wrk, nghttp2-client and util-linux"
        )
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        scratch = Path(directory)
        service = AuthzService(scratch / "authz", CONFIG)
        minted = mint()
        key = Key(
            id=minted.id, digest=minted.digest, display=minted.display, user="alice", team="nlp", created_at=0
        )
        service.registry.add_key(key)
        stack.enter_context(service)
        assert service.process is not None
        null_http, null_grpc = free_port(), free_port()
        nulls = {}
        for kind, port in (("null-http", null_http), ("null-grpc", null_grpc)):
            nulls[kind] = Process(
                [sys.executable, "-m", "bench.servers", kind, str(port)], log=scratch / f"{kind}.log"
            )
            stack.callback(nulls[kind].stop)
            nulls[kind].wait_until(lambda port=port: port_answers(port))
        for process in (service.process, *nulls.values()):
            subprocess.run(
                ["taskset", "-a", "-p", "-c", "0", str(process.pid)], check=True, capture_output=True
            )
        claims = {
            "iss": "i",
            "aud": "a",
            "sub": "carol",
            "exp": int(time.time()) + 3600,
            "models": ["llama3"],
        }
        token = jwt.encode(claims, SIGN_KEY, algorithm="HS256")
        asked = {
            "x-authz-gateway-token": TOKEN, "x-original-method": "POST", "x-original-uri": "/v1/chat/completions",
            "x-forwarded-host": "llm.test", "x-forwarded-proto": "https", "x-forwarded-for": "192.0.2.7",
            "x-original-content-length": str(len(BODY)), "content-type": "application/json",
        }  # fmt: skip
        by_key = asked | {"authorization": f"Bearer {minted.key}"}
        by_jwt = asked | {"authorization": f"Bearer {token}"}
        lanes = [
            Lane("null http", "null http", nulls["null-http"].pid, http_load(null_http, "/auth/nginx", by_key, scratch)),
            Lane("http, key, 3 limits", "null http", service.process.pid, http_load(service.http, "/auth/nginx", by_key, scratch)),
            Lane("http, jwt, 3 limits", "null http", service.process.pid, http_load(service.http, "/auth/nginx", by_jwt, scratch)),
            Lane("null grpc", "null grpc", nulls["null-grpc"].pid, grpc_load(null_grpc, minted.key, scratch)),
            Lane("grpc, key, 3 limits", "null grpc", service.process.pid, grpc_load(service.grpc, minted.key, scratch)),
        ]  # fmt: skip
        for lane in lanes:
            lane.load()  # warm
        rounds = [{lane.name: measure(lane) for lane in lanes} for _ in range(ROUNDS)]
        report(lanes, rounds)


def report(lanes: list[Lane], rounds: list[dict[str, Measure]]) -> None:
    """Medians over the rounds; ratios are taken within a round."""
    print(f"{'lane':<22} {'decisions/s':>12} {'CPU µs':>8} {'CPU / null (min-max)':>24}")
    for lane in lanes:
        ratios = [each[lane.name].cpu_us / each[lane.null].cpu_us for each in rounds]
        print(
            f"{lane.name:<22} {statistics.median(each[lane.name].per_second for each in rounds):>12,.0f} "
            f"{statistics.median(each[lane.name].cpu_us for each in rounds):>8.1f} "
            f"{statistics.median(ratios):>10.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
