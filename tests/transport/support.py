"""What the transport tests share: a fake service, a driver for ASGI, a builder of CheckRequests."""

from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha256
from ipaddress import ip_network
from typing import Any

from envoy.service.auth.v3.external_auth_pb2 import CheckRequest

from authz.decision import Allow, Decision, Deny, ListedModel, ModelList
from authz.denial import deny
from authz.reason import Reason
from authz.report import Report
from authz.request import Gateway, GatewayKind, Request
from authz.store.protocols import Outcome
from authz.subject import Subject
from authz.transport.access_log import AccessLog
from authz.transport.exchange import Answering
from authz.transport.ext_authz import ExtAuthz
from authz.transport.gateways import GatewayEntry, GatewayRegistry
from authz.transport.grpc_services import GrpcServices
from authz.transport.health import Health
from authz.transport.http import HttpTransport
from authz.transport.ratelimit import RateLimits
from authz.transport.serve_grpcio import GrpcioServer, start_grpcio
from authz.transport.serve_lane import LaneServer, start_lane
from authz.transport.service import Desk
from tests.transport.wire import Wire

TOKENS = {kind: f"token-of-{kind.value}" for kind in GatewayKind}
ALICE = Subject(user="alice", authenticator="keys", team="nlp", key="key_1")
Headers = Sequence[tuple[str, str]]


def registry(**changes: Any) -> GatewayRegistry:
    """One proven gateway of each kind."""
    return GatewayRegistry(
        GatewayEntry(
            name=f"my-{kind.value}", kind=kind, token_digest=sha256(TOKENS[kind].encode()).digest(), **changes
        )
        for kind in GatewayKind
    )


def allow(**changes: Any) -> Allow:
    values: dict[str, Any] = {
        "request_id": "req_1",
        "route": "inference",
        "subject": ALICE,
        "model": "llama3",
        "backend": None,
        "reservation": "rsv_1",
        "upstream": (
            ("x-authz-user", "alice"),
            ("x-authz-model", "llama3"),
            ("authorization", "Bearer upstream"),
        ),
        "remove": ("x-api-key", "x-authz-team"),
        "client": (("x-request-id", "req_1"), ("ratelimit", '"rpm";r=59;t=1')),
    }
    return Allow(**values | changes)


def limited() -> Deny:
    return deny(
        "req_1",
        Reason.RATE_LIMITED,
        message='The limit "rpm" of kéy is used up.',
        route="inference",
        subject=ALICE,
        model="llama3",
        wait_ms=1500,
        headers=(("ratelimit", '"rpm";r=0;t=2'),),
    )


class FakeService:
    """Answers what it was told to, and keeps what it was asked."""

    def __init__(
        self, answer: Decision | Exception | Callable[[Request], Awaitable[Decision]] | None = None
    ) -> None:
        self.answer = answer if answer is not None else allow()
        self.asked: list[Request] = []
        self.settled: list[tuple[Report, str]] = []  # report, gateway
        self.matched: list[tuple[str, Report, str]] = []  # the gateway's request id, report, gateway
        self.extended: list[tuple[str, str]] = []  # reservation, gateway
        self.outcome: Outcome | Exception = Outcome.SETTLED
        self.made_durable = 0

    async def decide(self, request: Request) -> Decision:
        self.asked.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        if isinstance(self.answer, Allow | Deny):
            return self.answer
        return await self.answer(request)

    async def list_models(self, request: Request) -> ModelList | Deny:
        self.asked.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        if isinstance(self.answer, Deny):
            return self.answer
        return ModelList(
            request_id=request.request_id,
            route="models",
            subject=ALICE,
            models=(ListedModel("llama3", 1_700_000_000_000), ListedModel("mistral")),
            client=(("x-request-id", request.request_id),),
        )

    async def settle(self, report: Report, gateway: Gateway) -> Outcome:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        self.settled.append((report, gateway.name))
        return self.outcome

    async def settle_by_request_id(
        self, gateway: Gateway, gateway_request_id: str, report: Report
    ) -> Outcome:
        self.matched.append((gateway_request_id, report, gateway.name))
        return Outcome.UNKNOWN

    async def extend(self, reservation: str, gateway: Gateway) -> bool:
        self.extended.append((reservation, gateway.name))
        return self.outcome is Outcome.SETTLED

    async def durable(self) -> None:
        self.made_durable += 1

    @property
    def reports(self) -> list[Report]:
        return [report for report, _ in self.settled]

    @property
    def last(self) -> Request:
        return self.asked[-1]


class Counted:
    """An observer."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, Reason]] = []

    def __call__(self, gateway: str, route: str, reason: Reason, seconds: float) -> None:
        assert seconds >= 0
        self.seen.append((gateway, route, reason))


def health(store: str = "ok") -> Health:
    made = Health(version="1.2.3", config=lambda: "abc123", store=lambda: store)
    made.started()
    return made


def http_app(
    service: FakeService, *, gateways: GatewayRegistry | None = None, **options: Any
) -> HttpTransport:
    observe = options.pop("observe", Counted())
    return HttpTransport(Desk(service, observe), gateways or registry(), health(), **options)


def grpc_app(service: FakeService, *, gateways: GatewayRegistry | None = None, **options: Any) -> ExtAuthz:
    observe = options.pop("observe", Counted())
    return ExtAuthz(Desk(service, observe), gateways or registry(), **options)


GRPC_SERVERS = ("lane", "grpcio")
"""What holds of one holds of the other."""


async def start_grpc(
    kind: str,
    check: ExtAuthz,
    log: AccessLog,
    *,
    limits: RateLimits | None = None,
    listen: str = "127.0.0.1:0",
) -> LaneServer | GrpcioServer:
    """Serve over gRPC by one of `GRPC_SERVERS`."""
    services = GrpcServices(check, log, limits)
    return await (start_lane if kind == "lane" else start_grpcio)(services, listen)


class Answer:
    """An HTTP response as it went out."""

    def __init__(self, sent: bytes) -> None:
        head, _, self.body = sent.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(status.split(" ")[1])
        self.pairs = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
        self.headers = dict(self.pairs)


async def ask(
    app: Answering,
    path: str,
    headers: Headers = (),
    body: bytes = b"",
    *,
    method: str = "POST",
    peer: str = "127.0.0.1",
    chunks: Sequence[bytes] | None = None,
) -> Answer:
    """One request on a connection of its own. `chunks` are its body, without a declared length."""
    raw = [(name, value) for name, value in headers]
    if chunks is not None:
        raw.append(("transfer-encoding", "chunked"))
        parts = [b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks if chunk] + [b"0\r\n\r\n"]
    else:
        parts = [body]
        if body and "content-length" not in dict(headers):
            raw.append(("content-length", str(len(body))))
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in raw), "", ""]
    wire = Wire(app, peer=peer)
    wire.send("\r\n".join(lines).encode("latin-1"))
    for part in parts:
        wire.send(part)
    return Answer(await wire.answer(bare=method == "HEAD"))


def original(
    kind: GatewayKind,
    *,
    method: str = "POST",
    target: str = "/v1/chat/completions?a=b",
    host: str = "llm.test",
    scheme: str = "https",
    ip: str = "203.0.113.7",
    headers: Headers = (),
    body: bytes = b"",
    token: bool = True,
) -> tuple[str, str, list[tuple[str, str]]]:
    """How a gateway of that kind asks about a request over HTTP: method, path, headers."""
    sent = [*headers, ("x-forwarded-proto", scheme), ("x-forwarded-for", ip)]
    if token:
        sent.append(("x-authz-gateway-token", TOKENS[kind]))
    if kind is GatewayKind.ENVOY:
        return method, f"/auth/envoy{target}", [*sent, ("host", host)]
    sent += [("x-forwarded-host", host), ("host", "127.0.0.1:9000")]
    if kind is GatewayKind.NGINX:
        sent += [("x-original-method", method), ("x-original-uri", target)]
        sent += [("x-original-content-length", str(len(body)) if body else "")]
        return ("POST" if body else "GET"), "/auth/nginx", sent
    sent += [("x-forwarded-method", method), ("x-forwarded-uri", target)]
    return (method if kind is GatewayKind.TRAEFIK else "POST"), f"/auth/{kind.value}", sent


def check(
    *,
    method: str = "POST",
    target: str = "/v1/chat/completions?a=b",
    host: str = "llm.test",
    scheme: str = "https",
    ip: str = "203.0.113.7",
    headers: Headers | Sequence[tuple[str, bytes]] = (),
    body: bytes = b"",
    raw: bool = True,
    protocol: str = "HTTP/1.1",
    declare: bool = True,
    most: int | None = 65536,
    certificate: str = "",
) -> CheckRequest:
    """How Envoy asks over gRPC, with raw header fields or with the older map."""
    message = CheckRequest()
    attributes = message.attributes
    attributes.source.address.socket_address.address = ip
    attributes.source.address.socket_address.port_value = 50123
    attributes.source.certificate = certificate
    if most is not None:
        attributes.context_extensions["max_request_bytes"] = str(most)
    http = attributes.request.http
    http.method, http.path, http.host, http.scheme, http.protocol = method, target, host, scheme, protocol
    http.raw_body = body
    fields: list[tuple[str, str | bytes]] = [(":method", method), (":path", target), (":authority", host)]
    fields += [(":scheme", scheme), *headers]
    if body and declare:
        fields.append(("content-length", str(len(body))))
    for name, value in fields:
        octets = value if isinstance(value, bytes) else value.encode("latin-1")
        if raw:
            http.header_map.headers.add(key=name, raw_value=octets)
        else:
            earlier = http.headers.get(name)
            text = octets.decode("utf-8", "replace").replace("\ufffd", "!")
            http.headers[name] = text if earlier is None else f"{earlier},{text}"
    return message


def networks(*texts: str) -> Any:
    return tuple(ip_network(text) for text in texts)
