"""`authz ledger replay`: Envoy's journal, told again."""

import gzip
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from authz.cli.envoy_journal import LONGEST_LINE, Skipped, read_lines, read_report
from tests.cli.conftest import Authz
from tests.support.ports import free_port
from tests.support.stub_authz import StubAuthz

TOKEN = "token-of-the-edge-in-the-tests"

LINE: dict[str, Any] = {
    "type": "DownstreamEnd",
    "time": "2026-11-21T12:30:11.854Z",
    "gateway": "edge",
    "reservation": "rsv_1",
    "usage": {"input": 12, "output": 34, "total": 46},
    "content_type": "text/event-stream; charset=utf-8",
    "status": 200,
    "flags": "-",
    "sent_bytes": 4321,
    "milliseconds": 532,
    "upstream": "10.0.0.5:8000",
    "path": "/v1/chat/completions",
}
REPORT: dict[str, Any] = {
    "reservation": "rsv_1",
    "usage": {"prompt_tokens": 12, "completion_tokens": 34, "total_tokens": 46},
    "status": 200,
    "reached": True,
    "aborted": False,
    "streamed": True,
    "response_bytes": 4321,
    "duration_ms": 532,
}


def line(**changed: Any) -> bytes:
    return json.dumps({**LINE, **changed}).encode()


def lines(content: bytes) -> list[bytes | Skipped]:
    return list(read_lines(io.BufferedReader(io.BytesIO(content))))


READ: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "as-it-is": ({}, {}),
    "without-a-name": ({"gateway": "-"}, {}),
    "no-usage": ({"usage": None}, {"usage": None}),
    "empty-usage": ({"usage": {}}, {"usage": None}),
    "details": (
        {"usage": {"input": 1, "output": 2, "cached": 1, "reasoning": 2}},
        {
            "usage": {
                "prompt_tokens": 1,
                "completion_tokens": 2,
                "prompt_tokens_details": {"cached_tokens": 1},
                "completion_tokens_details": {"reasoning_tokens": 2},
            }
        },
    ),
    "anthropic": (
        {"usage": {"input": 1, "output": 2, "cache_read": 3, "cache_creation": 0}},
        {
            "usage": {
                "input_tokens": 1,
                "output_tokens": 2,
                "cache_read_input_tokens": 3,
                "cache_creation_input_tokens": 0,
            }
        },
    ),
    "rerank": ({"usage": {"total": 9}}, {"usage": {"total_tokens": 9}}),
    "100-no-number": ({"usage": {"input": "many"}}, {"usage": {"prompt_tokens": "many"}}),
    "client-left": ({"flags": "DC"}, {"aborted": True}),
    "stream-reset": ({"flags": "DR"}, {"aborted": True}),
    "connection-refused": ({"flags": "UF,URX", "status": 502}, {"reached": False, "status": 502}),
    "never-sent": ({"upstream": None, "status": 503}, {"reached": False, "status": 503}),
    "whole": ({"content_type": "application/json"}, {"streamed": False}),
    "type-unknown": ({"content_type": None}, {"streamed": None}),
}


@pytest.mark.parametrize("case", READ)
def test_a_line_becomes_a_report(case: str) -> None:
    changed, expected = READ[case]
    assert read_report(line(**changed), "edge") == {**REPORT, **expected}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (line(reservation=None), Skipped.NOTHING_HELD),
        (line(reservation=""), Skipped.NOTHING_HELD),
        (line(type="DownstreamPeriodic"), Skipped.NOTHING_HELD),
        (line(gateway="other"), Skipped.OTHER_GATEWAY),
        (line(reservation="r" * 300), Skipped.UNREADABLE),
        (line(status="200"), Skipped.UNREADABLE),
        (line()[:-20], Skipped.UNREADABLE),
        (b'{"status": 200}', Skipped.UNREADABLE),
        (b'{"\xff": 1}', Skipped.UNREADABLE),
        (b'{"usage":' + b"[" * 100_000, Skipped.UNREADABLE),
    ],
    ids=[
        "refused",
        "nothing-held",
        "still-runs",
        "of-another",
        "long-id",
        "wrong-type",
        "cut",
        "other-json",
        "bytes",
        "61-deep",
    ],
)
def test_a_line_that_makes_no_report_says_why(text: bytes, why: Skipped) -> None:
    assert read_report(text, "edge") is why


def test_what_stands_between_the_lines_is_passed_over() -> None:
    content = b"[2026-11-21][warning] started\n" + line() + b"\r\n\n" + line(status=500)
    assert lines(content) == [line() + b"\r", line(status=500)]


def test_a_line_without_end_spoils_only_itself() -> None:
    content = b'{"' + b"x" * (3 * LONGEST_LINE) + b"\n" + line() + b"\n"
    assert lines(content) == [Skipped.UNREADABLE, line()]


def test_compressed_files_are_read() -> None:
    content = b"".join(line(reservation=f"rsv_{number}") + b"\n" for number in range(3000))
    assert len(lines(gzip.compress(content))) == 3000
    assert lines(gzip.compress(content)) == lines(content)


@pytest.mark.parametrize("harm", ["cut", "junk", "flipped"])
def test_a_broken_compressed_file_is_read_as_far_as_it_goes(harm: str) -> None:
    whole = gzip.compress(
        b"".join(line(reservation=f"rsv_{n}-{hash(n) % 97}") + b"\n" for n in range(30_000))
    )
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    content = {"cut": whole[: len(whole) // 2], "junk": whole + b"junk", "flipped": bytes(flipped)}[harm]
    found = lines(content)
    assert found[-1] is Skipped.UNREADABLE
    assert len(found) > 100


def test_an_empty_file_tells_nothing() -> None:
    assert lines(b"") == []


@pytest.fixture
def stub() -> Iterator[StubAuthz]:
    with StubAuthz() as stub:
        yield stub


@pytest.fixture
def edge(config: Path, stub: StubAuthz) -> Path:
    """A config whose Envoy and service are these."""
    return write(config, stub.http_port)


def write(config: Path, port: int, gateways: str = f"{{edge: {{kind: envoy, token: {TOKEN}}}}}") -> Path:
    text = config.read_text().partition("gateways:")[0]
    config.write_text(f"{text}decisions: {{http: 127.0.0.1:{port}}}\ngateways: {gateways}\n")
    return config


def test_a_journal_is_told(authz: Authz, edge: Path, stub: StubAuthz, tmp_path: Path) -> None:
    journal, older = tmp_path / "envoy.log", tmp_path / "envoy.log.1.gz"
    journal.write_bytes(b"started\n" + b"\n".join(line(reservation=f"rsv_{n}") for n in range(1200)) + b"\n{")
    older.write_bytes(gzip.compress(line(reservation="rsv_old") + b"\n" + line(reservation=None)))
    counted = authz("ledger", "replay", str(older), str(journal), "--json").json
    assert counted == {
        "settled": 1201,
        "corrected": 0,
        "already": 0,
        "unknown": 0,
        "foreign": 0,
        "invalid": 0,
        "nothing_held": 1,
        "other_gateway": 0,
        "unreadable": 1,
    }
    told = [item for call in stub.reports for item in call.items]
    assert [item["reservation"] for item in told] == ["rsv_old"] + [f"rsv_{n}" for n in range(1200)]
    assert told[1] == {**REPORT, "reservation": "rsv_0"}
    assert {call.token for call in stub.reports} == {TOKEN}


def test_standard_input_is_read(edge: Path, stub: StubAuthz) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "authz.cli", "ledger", "replay", "-", "--config", str(edge)],
        input=gzip.compress(line()),
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.splitlines()[0] == b"settled\t1"
    assert [call.items for call in stub.reports] == [(REPORT,)]


def test_of_several_gateways_one_is_named(
    authz: Authz, config: Path, stub: StubAuthz, tmp_path: Path
) -> None:
    both = (
        f"{{edge: {{kind: envoy, token: {TOKEN}}}, lab: {{kind: envoy, token: another-token-of-the-tests}}}}"
    )
    write(config, stub.http_port, both)
    journal = tmp_path / "envoy.log"
    journal.write_bytes(line() + b"\n" + line(gateway="lab"))
    ran = authz("ledger", "replay", str(journal))
    assert (ran.code, stub.reports) == (2, [])
    assert "edge or lab" in ran.err
    assert authz("ledger", "replay", str(journal), "--gateway", "lab", "--json").json["other_gateway"] == 1
    assert {call.token for call in stub.reports} == {"another-token-of-the-tests"}


def test_a_service_that_cannot_store_is_asked_again(
    authz: Authz, edge: Path, stub: StubAuthz, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        stub.usage_status = 503 if len(waited) < 2 else 200

    monkeypatch.setattr("authz.cli.ledger.time.sleep", wait)
    stub.usage_status = 503
    journal = tmp_path / "envoy.log"
    journal.write_bytes(line())
    assert authz("ledger", "replay", str(journal), "--json").json["settled"] == 1
    assert len(waited) == 2
    stub.usage_status = 503
    monkeypatch.setattr("authz.cli.ledger.time.sleep", waited.append)
    ran = authz("ledger", "replay", str(journal))
    assert ran.code == 1
    assert "does not take reports (HTTP 503)" in ran.err
    assert TOKEN not in ran.err


def test_nobody_there(authz: Authz, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("authz.cli.ledger.time.sleep", lambda seconds: None)
    write(config, free_port())
    journal = tmp_path / "envoy.log"
    journal.write_bytes(line())
    ran = authz("ledger", "replay", str(journal))
    assert (ran.code, ran.out) == (1, "")
    assert "nobody answers there" in ran.err
    assert "nothing is charged twice" in ran.err


@pytest.mark.parametrize(
    ("gateways", "said"),
    [
        ("{edge: {kind: caddy, token: token-of-the-edge-in-the-tests}}", "no gateway of kind envoy or nginx"),
        ("{edge: {kind: envoy}}", "has no token"),
        ("{edge: {kind: envoy, token: {file: not-there}}}", "could not be read"),
    ],
    ids=["no-envoy", "no-token", "token-missing"],
)
def test_without_proof_nothing_is_told(
    authz: Authz, config: Path, tmp_path: Path, gateways: str, said: str
) -> None:
    write(config, free_port(), gateways)
    journal = tmp_path / "envoy.log"
    journal.write_bytes(line())
    ran = authz("ledger", "replay", str(journal))
    assert ran.code == 1
    assert said in ran.err


def test_a_file_that_is_not_there(authz: Authz, edge: Path, tmp_path: Path) -> None:
    ran = authz("ledger", "replay", str(tmp_path / "nowhere.log"))
    assert ran.code == 1
    assert "nowhere.log" in ran.err
