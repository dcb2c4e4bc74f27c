"""A stand-in for authz: records what a gateway asks and answers as the test says, in every dialect.

It decides nothing. Gateway configurations are tested against it alone, so that a test can make any answer
happen: an allowance with any header, a refusal of any status, a slow answer, a dead service.
"""

import asyncio
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
import uvicorn
from envoy.config.core.v3.base_pb2 import HeaderValue
from envoy.service.accesslog.v3 import als_pb2
from envoy.service.auth.v3 import external_auth_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from authz.demo.exact import ExactTargetProtocol, exact_target
from tests.support.ports import free_port

IDENTITY = {
    "x-authz-user": "alice",
    "x-authz-team": "ml",
    "x-authz-key": "key-1",
    "x-authz-model": "demo",
    "x-authz-reservation": "res-1",
    "x-authz-request-id": "req-1",
}
CLIENT = (
    ("ratelimit-policy", '"key-rpm";q=60;w=60'),
    ("ratelimit", '"key-rpm";r=59;t=1'),
    ("x-ratelimit-limit-requests", "60"),
    ("x-ratelimit-remaining-requests", "59"),
    ("x-ratelimit-reset-requests", "1s"),
    ("x-request-id", "req-1"),
)

_CHECK = "/envoy.service.auth.v3.Authorization/Check"
_LOG = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"
LISTING = b'{"object":"list","data":[{"id":"from-authz","object":"model","created":0}]}'

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Allowing:
    """An allowance. `upstream` and `remove` concern the request's headers, `client` the response's."""

    upstream: Pairs = tuple(IDENTITY.items())
    client: Pairs = CLIENT
    remove: tuple[str, ...] = ("authorization", "x-api-key")
    target: str | None = None  # path and rewritten query
    cookie: str | None = None  # rewritten Cookie
    edit: str | None = None  # change of the body: HTTP header `x-authz-edit`, Envoy's metadata field `edit`
    delay: float = 0.0  # seconds


def error_body(code: str, message: str = "Refused by the stub.") -> bytes:
    return json.dumps(
        {"error": {"message": message, "type": "invalid_request_error", "code": code, "param": None}}
    ).encode()


@dataclass(frozen=True, kw_only=True)
class Denying:
    """A refusal."""

    status: int
    headers: Pairs = (("content-type", "application/json"), ("x-request-id", "req-1"))
    body: bytes = error_body("refused")
    delay: float = 0.0  # seconds


Answer = Allowing | Denying


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One question. `kind`: traefik, nginx, caddy, envoy, models (GET /v1/models) or check (gRPC)."""

    kind: str
    method: str
    target: str  # of the call itself; of the original request for `check`
    headers: Pairs  # names in lower case
    body: bytes
    token: str | None
    check: Any = None  # the CheckRequest

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    def header(self, name: str) -> str | None:
        """The only value of that name; None if there is none."""
        values = self.values(name)
        assert len(values) < 2, f"{name} came {len(values)} times"
        return values[0] if values else None


@dataclass(frozen=True, kw_only=True)
class Reported:
    """One call of `POST /v1/usage` that was taken."""

    items: tuple[dict[str, Any], ...]
    token: str | None


@dataclass
class StubAuthz:
    """HTTP and gRPC on two ports. A context manager. `answer` is what everything is answered with."""

    http_port: int = field(default_factory=free_port)
    grpc_port: int = field(default_factory=free_port)
    answer: Answer = field(default_factory=Allowing)
    asked: list[Asked] = field(default_factory=list)
    reports: list[Reported] = field(default_factory=list)
    usage_status: int = 200  # what POST /v1/usage is answered with
    usage_delay: float = 0.0  # seconds until then
    usage_unread: str = ""  # a reservation; a body that holds a report of it is answered with 400
    access_log: list[Any] = field(default_factory=list)  # HTTPAccessLogEntry
    access_log_tokens: list[str | None] = field(default_factory=list)
    broken: bool = False  # every call over gRPC ends with UNAVAILABLE, except health checks
    _http: uvicorn.Server | None = None
    _thread: threading.Thread | None = None
    _grpc: grpc.Server | None = None
    _health: Any = None
    _stopped: threading.Event = field(default_factory=threading.Event)

    def reset(self) -> None:
        """Forget what was asked; allow everything."""
        self.answer = Allowing()
        self.asked.clear()
        self.reports.clear()
        self.usage_status = 200
        self.usage_delay = 0.0
        self.usage_unread = ""

    @property
    def ended(self) -> list[dict[str, Any]]:
        """What was reported of responses that ended, in order."""
        return [item for call in self.reports for item in call.items if not item.get("running")]

    @property
    def running(self) -> list[str]:
        """The reservations of which it was reported that their response runs."""
        return [item["reservation"] for call in self.reports for item in call.items if item.get("running")]

    @property
    def last(self) -> Asked:
        assert self.asked, "authz was not asked"
        return self.asked[-1]

    def look_unwell(self) -> None:
        """Health checks over gRPC say so from now on; everything else is answered as before."""
        self._health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)

    def start(self) -> None:
        """Both ports answer when this returns. After `stop`, on the same ports again."""
        self._stopped.clear()
        config = uvicorn.Config(
            self._app,
            host="127.0.0.1",
            port=self.http_port,
            http=ExactTargetProtocol,
            ws="none",
            interface="asgi3",
            lifespan="off",
            access_log=False,
            log_level="critical",
            server_header=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=1,
        )
        self._http = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._http.run, daemon=True)
        self._thread.start()
        self._grpc = grpc.server(
            ThreadPoolExecutor(16),
            handlers=[self._handlers()],
            options=(("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 64 << 20)),
        )
        self._health = health.HealthServicer()
        self._health.set("", health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._grpc)
        assert self._grpc.add_insecure_port(f"127.0.0.1:{self.grpc_port}") == self.grpc_port
        self._grpc.start()
        deadline = time.monotonic() + 10
        while not self._http.started:
            assert self._thread.is_alive(), "the stub's HTTP side did not start"
            assert time.monotonic() < deadline, "the stub's HTTP side does not answer"
            time.sleep(0.01)

    def stop(self) -> None:
        """Dead: connections are refused from now on."""
        if self._http is not None and self._thread is not None:
            self._http.should_exit = True
            self._thread.join(10)
            self._http = None
        if self._grpc is not None:
            self._grpc.stop(0.2).wait()
            self._grpc = None
        self._stopped.set()  # only now, or what waits for its answer would have it

    def __enter__(self) -> "StubAuthz":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # HTTP

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        target = exact_target(scope)
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        path = target.partition("?")[0]
        kind = path.removeprefix("/auth/").partition("/")[0] if path.startswith("/auth/") else "models"
        if path in ("/livez", "/readyz"):
            await _send(send, 200, (("content-type", "application/json"),), b'{"status":"alive"}')
            return
        headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
        tokens = [value for name, value in headers if name == "x-authz-gateway-token"]
        if path == "/v1/usage" and scope["method"] == "POST":
            await self._take_reports(body, ", ".join(tokens) or None, send)
            return
        self.asked.append(
            Asked(
                kind=kind,
                method=scope["method"],
                target=target,
                headers=headers,
                body=body,
                token=", ".join(tokens) if tokens else None,
            )
        )
        answer = self.answer
        if answer.delay:
            await asyncio.sleep(answer.delay)
        if isinstance(answer, Denying):
            extra: Pairs = ()
            if kind == "nginx":
                extra = (("x-authz-body", answer.body.decode()), ("x-authz-status", str(answer.status)))
            await _send(send, answer.status, answer.headers + extra, answer.body)
        elif kind == "models":
            await _send(send, 200, (("content-type", "application/json"), *answer.client), LISTING)
        else:
            await _send(send, 200, _allow_headers(kind, answer), b"")

    async def _take_reports(self, body: bytes, token: str | None, send: Any) -> None:
        try:
            given = json.loads(body)
        except ValueError:  # also what is no UTF-8
            await _send(send, 400, (("content-type", "application/json"),), error_body("invalid_request"))
            return
        items = given if isinstance(given, list) else [given]
        if self.usage_status == 200 and self.usage_unread in [item["reservation"] for item in items]:
            await _send(send, 400, (("content-type", "application/json"),), error_body("invalid_request"))
            return
        results = []
        if self.usage_status == 200:
            self.reports.append(Reported(items=tuple(items), token=token))
            results = [
                {
                    "reservation": item["reservation"],
                    "outcome": "extended" if item.get("running") else "settled",
                }
                for item in items
            ]
        content = (("content-type", "application/json"),)
        await asyncio.sleep(self.usage_delay)
        await _send(send, self.usage_status, content, json.dumps({"results": results}).encode())

    # gRPC

    def _handlers(self) -> grpc.GenericRpcHandler:
        def check(request: Any, context: Any) -> Any:
            http = request.attributes.request.http
            pairs = tuple(
                (header.key, (header.raw_value or header.value.encode()).decode("latin-1"))
                for header in http.header_map.headers
            ) or tuple(http.headers.items())
            self.asked.append(
                Asked(
                    kind="check",
                    method=http.method,
                    target=http.path,
                    headers=pairs,
                    body=http.raw_body or http.body.encode(),
                    token=_token(context),
                    check=request,
                )
            )
            if self.broken:
                context.abort(grpc.StatusCode.UNAVAILABLE, "broken")
            answer = self.answer
            if answer.delay:
                self._stopped.wait(answer.delay)
            return _check_response(answer)

        def log(messages: Any, context: Any) -> Any:
            if self.broken:
                context.abort(grpc.StatusCode.UNAVAILABLE, "broken")
            token = _token(context)
            for message in messages:
                for entry in message.http_logs.log_entry:
                    self.access_log.append(entry)
                    self.access_log_tokens.append(token)
            return als_pb2.StreamAccessLogsResponse()

        methods = {
            _CHECK: grpc.unary_unary_rpc_method_handler(
                check,
                request_deserializer=external_auth_pb2.CheckRequest.FromString,
                response_serializer=external_auth_pb2.CheckResponse.SerializeToString,
            ),
            _LOG: grpc.stream_unary_rpc_method_handler(
                log,
                request_deserializer=als_pb2.StreamAccessLogsMessage.FromString,
                response_serializer=als_pb2.StreamAccessLogsResponse.SerializeToString,
            ),
        }

        class Handler(grpc.GenericRpcHandler):
            def service(self, details: Any) -> Any:
                return methods.get(details.method)

        return Handler()


def _token(context: Any) -> str | None:
    tokens = [str(value) for name, value in context.invocation_metadata() if name == "x-authz-gateway-token"]
    return ", ".join(tokens) if tokens else None


def _allow_headers(kind: str, answer: Allowing) -> Pairs:
    headers = list(answer.upstream)
    if kind == "traefik":
        headers += [(f"x-authz-client-{name}", value) for name, value in answer.client]
    else:
        headers += answer.client
    if kind == "envoy":
        headers.append(("x-envoy-auth-headers-to-remove", ",".join(answer.remove)))
    else:
        headers.append(("x-authz-remove", ",".join(answer.remove)))
    if answer.target is not None:
        headers.append(("x-authz-uri", answer.target))
    if answer.cookie is not None:
        headers.append(("x-authz-cookie", answer.cookie))
    if answer.edit is not None:
        headers.append(("x-authz-edit", answer.edit))
    return tuple(headers)


def _check_response(answer: Answer) -> Any:
    response = external_auth_pb2.CheckResponse()
    if isinstance(answer, Denying):
        response.status.code = 7
        denied = response.denied_response
        denied.status.code = answer.status
        denied.body = answer.body.decode()
        for name, value in answer.headers:
            denied.headers.add(append_action=2).header.MergeFrom(_header(name, value))
    else:
        ok = response.ok_response
        upstream = list(answer.upstream)
        if answer.target is not None:
            upstream.append((":path", answer.target))
        if answer.cookie is not None:
            upstream.append(("cookie", answer.cookie))
        for name, value in upstream:
            ok.headers.add(append_action=2).header.MergeFrom(_header(name, value))
        replaced = {name for name, _ in upstream}
        ok.headers_to_remove.extend(name for name in answer.remove if name not in replaced)
        for name, value in answer.client:
            ok.response_headers_to_add.add(append_action=2).header.MergeFrom(_header(name, value))
        for name, value in answer.upstream:
            if name.startswith("x-authz-"):
                key = name.removeprefix("x-authz-").replace("-", "_")
                response.dynamic_metadata.fields[key].string_value = value
        if answer.edit is not None:
            response.dynamic_metadata.fields["edit"].string_value = answer.edit
    return response


def _header(name: str, value: str) -> Any:
    return HeaderValue(key=name, value=value.encode("latin-1").decode("utf-8"))


async def _send(send: Any, status: int, headers: Pairs, body: bytes) -> None:
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    raw.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
