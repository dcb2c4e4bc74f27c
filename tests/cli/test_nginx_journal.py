"""`authz ledger replay` with the access log of nginx. What nginx really writes is in tests/gateways/test_nginx_usage.py."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from authz.cli.envoy_journal import Skipped
from authz.cli.nginx_journal import read_report
from tests.cli.conftest import Authz
from tests.support.ports import free_port
from tests.support.stub_authz import StubAuthz

TOKEN = "token-of-the-edge-in-the-tests"
REPORT: dict[str, Any] = {
    "reservation": "rsv_1",
    "status": 200,
    "reached": True,
    "aborted": False,
    "streamed": True,
    "response_bytes": 4321,
    "duration_ms": 532,
}
USAGE = {"prompt_tokens": 12, "completion_tokens": 34}
LINE = {"time": "2026-11-21T12:30:11+00:00", "gateway": "edge", **REPORT, "usage": json.dumps(USAGE)}


def line(**changed: Any) -> bytes:
    return json.dumps({**LINE, **changed}).encode()


@pytest.mark.parametrize(
    ("changed", "read"),
    [
        ({}, {**REPORT, "usage": USAGE}),
        ({"gateway": "-"}, {**REPORT, "usage": USAGE}),
        ({"usage": ""}, {**REPORT, "usage": None}),
        ({"gateway": "other"}, Skipped.OTHER_GATEWAY),
        ({"reservation": ""}, Skipped.NOTHING_HELD),
        ({"usage": "{]"}, Skipped.UNREADABLE),
        ({"usage": "[]"}, Skipped.UNREADABLE),
        ({"status": "many"}, Skipped.UNREADABLE),
        ({"reservation": "r" * 257}, Skipped.UNREADABLE),
    ],
    ids=["whole", "no-name", "no-usage", "other", "nothing", "broken", "list", "status", "long"],
)
def test_a_line_is_read(changed: dict[str, Any], read: dict[str, Any] | Skipped) -> None:
    told = read_report(line(**changed), "edge")
    if isinstance(told, dict):
        told = json.loads(msgspec.json.encode(told))
    assert told == read


@pytest.mark.parametrize(
    ("gateways", "named"),
    [
        (f"{{edge: {{kind: nginx, token: {TOKEN}}}}}", ()),
        (
            f"{{edge: {{kind: nginx, token: {TOKEN}}}, e: {{kind: envoy, token: of-another-one}}}}",
            ("--gateway", "edge"),
        ),
    ],
    ids=["the-only-one", "beside-envoy"],
)
def test_the_log_is_told(
    authz: Authz, config: Path, tmp_path: Path, gateways: str, named: tuple[str, ...]
) -> None:
    with StubAuthz() as stub:
        text = f"store: memory://\ndecisions: {{http: 127.0.0.1:{stub.http_port}, grpc: 127.0.0.1:{free_port()}}}\n"
        config.write_text(f"{text}gateways: {gateways}\n")
        log = tmp_path / "access.log"
        log.write_bytes(line() + b"\n2026/11/21 12:00:00 [notice] reopened\n" + line(reservation="") + b"\n")
        ran = authz("ledger", "replay", str(log), *named, "--json")
        assert ran.code == 0, ran.err
        assert json.loads(ran.out)["settled"] == 1
        assert stub.ended == [{**REPORT, "usage": USAGE}]
        assert stub.reports[0].token == TOKEN
