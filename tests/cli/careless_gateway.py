"""A small gateway that does what it must, or does one thing wrong: for whoever has to find that out.

It asks authz as Traefik does, and has no config to get right. One fault at a time, so that a test can tell which probe
finds which.
"""

import json
import re
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from posixpath import normpath
from types import TracebackType
from typing import Any, Self

from tests.support.edits import apply
from tests.support.gateway import Around

MAX_BODY = 4 << 20
_UNWANTED = re.compile(r"x.authz.|x-forwarded-|x-original-|x-rewrite-|x-real-ip|forwarded$|x-client-", re.I)
_HOP = frozenset({"host", "connection", "content-length", "transfer-encoding"})
_SECRETS = frozenset({"authorization", "x-api-key"})
_TOO_LARGE = b'{"error": {"message": "Too large.", "code": "request_too_large", "type": "x", "param": null}}'

Pairs = list[tuple[str, str]]


@dataclass(frozen=True)
class Faults:
    """What it does wrong."""

    passes_identity: bool = False  # hands the client's x-authz-* to the model server
    passes_aliases: bool = False  # the same, spelled x_authz_user
    passes_token: bool = False  # hands the client's x-authz-gateway-token to authz
    passes_key: bool = False  # hands the client's key to the model server
    trusts_path: bool = False  # lets the client say which path is judged
    trusts_address: bool = False  # lets the client say where it comes from
    normalises: bool = False  # judges and forwards a path that nobody sent
    first_authorization: bool = False  # drops all but the first
    asks_nobody: bool = False  # lets everything through
    shows_no_token: bool = False  # does not prove itself
    buffers: bool = False  # keeps a stream until it is whole
    turns_429: bool = False  # makes 500 of 429
    bare_429: bool = False  # drops the headers and the body of a refusal
    any_size: bool = False  # takes every body, and shows authz no more of it than authz reads
    does_not_settle: bool = False
    no_request_id: bool = False
    no_body: bool = False  # asks without the body


class CarelessGateway:
    """A context manager."""

    def __init__(self, around: Around, faults: Faults) -> None:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.around, self._server.faults = around, faults
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


class _Server(ThreadingHTTPServer):
    around: Around
    faults: Faults
    daemon_threads = False


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        with suppress(ConnectionError):
            self._handle()

    do_POST = do_GET  # noqa: N815  (the name is http.server's)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""

    def _handle(self) -> None:
        around, faults = self.server.around, self.server.faults
        target = self.requestline.split()[1]
        if faults.normalises and target.startswith("/"):
            target = normpath(target).replace("//", "/")
        length = int(self.headers.get("content-length", 0))
        body = self.rfile.read(length)
        if length > MAX_BODY and not faults.any_size:
            self._answer(413, [("content-type", "application/json")], _TOO_LARGE)
            return
        headers = [(name, value) for name, value in self.headers.items() if name.lower() not in _HOP]
        clean = [pair for pair in headers if not _UNWANTED.match(pair[0])]
        if faults.first_authorization:
            seen: dict[str, tuple[str, str]] = {}
            for pair in clean:
                seen.setdefault(pair[0].lower(), pair)
            clean = list(seen.values())
        try:
            judged = self._ask(target, headers, clean, body)
        except OSError:
            self._answer(502, [], b"")
            return
        verdict = {name.lower(): value for name, value in judged.getheaders()}
        refusal = judged.read()
        if judged.status != 200 and not faults.asks_nobody:
            self._refuse(judged, refusal)
            return
        own = [(name, value) for name, value in clean if faults.passes_key or name.lower() not in _SECRETS]
        own += [(n, v) for n, v in verdict.items() if n.startswith("x-authz-") or n == "authorization"]
        own += [
            (name, value)
            for name, value in headers
            if (faults.passes_identity and name.lower().startswith("x-authz-"))
            or (faults.passes_aliases and name.lower().startswith("x_authz_"))
        ]
        extra = [(n[15:], v) for n, v in verdict.items() if n.startswith("x-authz-client-")]
        if faults.no_request_id:
            extra = [pair for pair in extra if pair[0] != "x-request-id"]
        if "x-authz-edit" in verdict:
            body = apply(verdict["x-authz-edit"], body)
        if self.command == "GET" and target == "/v1/models":
            own = [(name, value) for name, value in clean if name.lower() in _SECRETS]
            self._forward(around.authz_http, target, own, body, extra, None)
        else:
            self._forward(around.model, target, own, body, extra, verdict.get("x-authz-reservation"))

    def _ask(self, target: str, headers: Pairs, clean: Pairs, body: bytes) -> HTTPResponse:
        around, faults = self.server.around, self.server.faults
        given = {name.lower(): value for name, value in headers}
        path = given.get("x-forwarded-uri", target) if faults.trusts_path else target
        address = given.get("x-forwarded-for", "127.0.0.1") if faults.trusts_address else "127.0.0.1"
        asked = [
            *clean,
            ("x-forwarded-method", self.command),
            ("x-forwarded-uri", path),
            ("x-forwarded-host", self.headers.get("host", "")),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-for", address),
            ("x-authz-gateway-can", "edit"),
        ]
        if not faults.shows_no_token:
            asked.append(("x-authz-gateway-token", around.token))
        if faults.passes_token and "x-authz-gateway-token" in given:
            asked.append(("x-authz-gateway-token", given["x-authz-gateway-token"]))
        shown = b"" if faults.no_body else body[:MAX_BODY]
        return _send(around.authz_http, self.command, "/auth/traefik", asked, shown)

    def _refuse(self, judged: HTTPResponse, body: bytes) -> None:
        faults = self.server.faults
        kept = [pair for pair in judged.getheaders() if pair[0].lower() not in _HOP]
        if judged.status == 429 and faults.turns_429:
            self._answer(500, [], b"<html>500</html>")
        elif judged.status == 429 and faults.bare_429:
            self._answer(429, [], b"")
        else:
            self._answer(judged.status, kept, body)

    def _forward(
        self, port: int, target: str, headers: Pairs, body: bytes, extra: Pairs, reservation: str | None
    ) -> None:
        begun = time.monotonic()
        response = _send(port, self.command, target, headers, body)
        kept = [pair for pair in response.getheaders() if pair[0].lower() not in {*_HOP, "x-request-id"}]
        whole = b""
        if self.server.faults.buffers:
            whole = response.read()
            self._answer(response.status, [*kept, *extra], whole)
        else:
            self._answer(response.status, [*kept, *extra], b"")
            while piece := response.read1(65_536):
                whole += piece
                self.wfile.write(piece)
                self.wfile.flush()
        if reservation is not None and not self.server.faults.does_not_settle:
            report = {
                "reservation": reservation,
                "usage": _usage(whole),
                "status": response.status,
                "response_bytes": len(whole),
                "duration_ms": round((time.monotonic() - begun) * 1000),
            }
            token = ("x-authz-gateway-token", self.server.around.token)
            _send(
                self.server.around.authz_http, "POST", "/v1/usage", [token], json.dumps(report).encode()
            ).read()

    def _answer(self, status: int, headers: Pairs, body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()


def _send(port: int, method: str, target: str, headers: Pairs, body: bytes) -> HTTPResponse:
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    connection._validate_path = lambda url: None  # type: ignore[attr-defined]
    connection.putrequest(method, target, skip_host=False, skip_accept_encoding=True)
    for name, value in headers:
        connection.putheader(name, value)
    connection.putheader("connection", "close")
    if body or method == "POST":
        connection.putheader("content-length", str(len(body)))
    try:
        connection.endheaders(body)
        return connection.getresponse()
    except OSError:
        connection.close()
        raise


def _usage(answer: bytes) -> Any:
    found = None
    lines = [line.removeprefix(b"data: ") for line in answer.split(b"\n") if line.startswith(b"data: {")]
    for line in lines or [answer]:
        with suppress(ValueError):
            value = json.loads(line)
            found = (value.get("usage") if isinstance(value, dict) else None) or found
    return found
