"""The decisions over HTTP: one address per gateway dialect, the list of models, and health."""

from collections.abc import Callable

from authz.decision import Allow, Deny
from authz.reason import Reason
from authz.refusal import Refusal
from authz.request import MAX_BODY, BodyState, Gateway, GatewayKind, Request
from authz.transport.asgi import (
    CERTIFICATE,
    RAW_TARGET,
    Gone,
    Receive,
    Scope,
    Send,
    TooLarge,
    peer_of,
    read_body,
    respond,
    respond_json,
)
from authz.transport.caddy import CADDY
from authz.transport.dialect import Call, Dialect, RawHeaders, only, plain_deny, raw, request_of
from authz.transport.envoy_http import ENVOY_HTTP
from authz.transport.gateways import UNIDENTIFIED, GatewayRegistry
from authz.transport.headers import GATEWAY_TOKEN, MOST_HEADERS, Fields, read_fields
from authz.transport.health import Health
from authz.transport.listing import listing_body
from authz.transport.nginx import NGINX
from authz.transport.request_id import RequestIds
from authz.transport.service import Desk
from authz.transport.traefik import TRAEFIK
from authz.transport.usage import Reject, Usages

Response = tuple[int, RawHeaders, bytes]

_BY_PATH = {f"/auth/{dialect.kind.value}": dialect for dialect in (TRAEFIK, NGINX, CADDY)}
_BY_KIND = {dialect.kind: dialect for dialect in (TRAEFIK, NGINX, CADDY, ENVOY_HTTP)}
_ENVOY_PREFIX = "/auth/envoy"

SEAL = b"x-authz-seal"
"""Goes into the gateway's log beside the reservation, and nowhere else."""

NOT_FOUND = (
    b'{"error":{"message":"Nothing is served here. Gateways ask at /auth/envoy, /auth/traefik, '
    b'/auth/nginx or /auth/caddy, and tell what was used at /v1/usage.","type":"invalid_request_error",'
    b'"code":"not_found","param":null}}'
)


def _ignored(gateway: str, reason: str) -> None:
    """Nobody counts."""


class HttpTransport:
    """An ASGI application. Runs without a framework and makes no task."""

    def __init__(
        self,
        desk: Desk,
        gateways: GatewayRegistry,
        health: Health,
        *,
        max_body: int = MAX_BODY,
        reject: Reject = _ignored,
    ) -> None:
        """A body above `max_body` bytes is refused before the rest of it is read.

        `gateways` may be replaced when the configuration changes. `reject` is told of reports of usage
        that were not believed.
        """
        self.gateways = gateways
        self._desk = desk
        self._health = health
        self._max_body = max_body
        self._new_id = RequestIds()
        self._usages = Usages(desk.service, reject)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        target = _target(scope)
        path = target.partition("?")[0]
        dialect = _BY_PATH.get(path)
        if dialect is None and (path == _ENVOY_PREFIX or path.startswith(_ENVOY_PREFIX + "/")):
            dialect, target = ENVOY_HTTP, target[len(_ENVOY_PREFIX) :]
        if dialect is not None:
            response = await self._answer(dialect, target, scope, receive)
            if response is not None:
                await respond(send, *response)
        elif path == "/v1/models" and scope["method"] == "GET":
            await respond(send, *await self._models(target, scope))
        elif path == "/v1/usage":
            response = await self._report(scope, receive)
            if response is not None:
                await respond(send, *response)
        elif path == "/livez":
            await respond_json(send, 200, b'{"status":"alive"}')
        elif path == "/readyz":
            status, body = self._health.readyz()
            await respond_json(send, status, body)
        else:
            await respond_json(send, 404, NOT_FOUND)

    async def _answer(self, dialect: Dialect, target: str, scope: Scope, receive: Receive) -> Response | None:
        """One auth call: who asks, for what, and what we say. None when nobody is there any more."""
        request_id = self._new_id()
        fields = read_fields(scope["headers"])
        gateway = self._identify(dialect.kind, fields, scope)
        if gateway is None or len(scope["headers"]) > MOST_HEADERS:
            return _refusal(dialect.deny, self._refuse_unread(gateway, request_id))
        try:
            body = await self._body(fields, receive)
            request = dialect.read(Call(gateway, request_id, scope["method"], target, fields, body))
            if isinstance(request, Refusal):
                denied = self._desk.refuse(gateway.name, request_id, request)
                return _refusal(dialect.deny, denied)
            decision = await self._desk.decide(request)
            if isinstance(decision, Allow):
                headers = dialect.allow(request, decision, fields.spoofed)
                if decision.reservation is not None:
                    proof = self.gateways.seal(gateway, decision.reservation)
                    if proof is not None:
                        headers.append((SEAL, proof.encode("ascii")))
                return 200, headers, b""
            return _refusal(dialect.deny, decision)
        except TooLarge:
            denied = self._desk.refuse(gateway.name, request_id, Refusal(Reason.BODY_TOO_LARGE))
            return _refusal(dialect.deny, denied)
        except Gone:
            return None
        except Exception as error:
            return _refusal(dialect.deny, self._desk.fault(gateway.name, request_id, error))

    async def _models(self, target: str, scope: Scope) -> Response:
        """`GET /v1/models`: a request to us, passed on by a gateway of any kind."""
        request_id = self._new_id()
        fields = read_fields(scope["headers"])
        gateway = self._identify(None, fields, scope)
        if gateway is None or len(scope["headers"]) > MOST_HEADERS:
            return _refusal(plain_deny, self._refuse_unread(gateway, request_id))
        try:
            request = _listing_request(Call(gateway, request_id, "GET", target, fields))
            if isinstance(request, Refusal):
                return _refusal(plain_deny, self._desk.refuse(gateway.name, request_id, request))
            answer = await self._desk.list_models(request)
        except Exception as error:
            return _refusal(plain_deny, self._desk.fault(gateway.name, request_id, error))
        if isinstance(answer, Deny):
            return _refusal(plain_deny, answer)
        body = listing_body(answer)
        length = str(len(body)).encode("ascii")
        headers = [(b"content-type", b"application/json"), (b"content-length", length), *raw(answer.client)]
        return 200, headers, body

    async def _report(self, scope: Scope, receive: Receive) -> Response | None:
        """`/v1/usage`: what responses used."""
        request_id = self._new_id()
        fields = read_fields(scope["headers"][:MOST_HEADERS])
        gateway = self._identify(None, fields, scope)
        return await self._usages.respond(scope["method"], gateway, fields, receive, request_id)

    async def _body(self, fields: Fields, receive: Receive) -> bytes:
        length = fields.gateway.get("content-length")
        if length in (None, "0") and "transfer-encoding" not in fields.gateway:
            return b""  # RFC 9112 6.3: a request without either has no body
        return await read_body(receive, length, self._max_body)

    def _identify(self, kind: GatewayKind | None, fields: Fields, scope: Scope) -> Gateway | None:
        if GATEWAY_TOKEN in fields.doubled:
            return None
        token = fields.gateway.get(GATEWAY_TOKEN)
        return self.gateways.identify(kind, token, peer_of(scope), scope.get(CERTIFICATE))

    def _refuse_unread(self, gateway: Gateway | None, request_id: str) -> Deny:
        """Refuse before the body is read. The server discards it: a reset would lose our answer."""
        if gateway is None:
            return self._desk.refuse(UNIDENTIFIED, request_id, Refusal(Reason.GATEWAY_UNPROVEN))
        text = f"The request has more than {MOST_HEADERS} headers."
        return self._desk.refuse(gateway.name, request_id, Refusal(Reason.BAD_HEADER, text))


def _refusal(spell: Callable[[Deny], RawHeaders], denied: Deny) -> Response:
    return denied.status, spell(denied), denied.body


def _target(scope: Scope) -> str:
    """The request target as it was sent; its path and query where the server does not keep it."""
    sent = scope.get(RAW_TARGET)
    if sent is None:
        query: bytes = scope["query_string"]
        sent = scope["raw_path"] + b"?" + query if query else scope["raw_path"]
    return str(sent, "latin-1")


def _listing_request(call: Call) -> Request | Refusal:
    name = "x-forwarded-host" if "x-forwarded-host" in call.fields.gateway else "host"
    host = only(call.fields, name, Reason.BAD_HOST)
    if isinstance(host, Refusal):
        return host
    certificate = _BY_KIND[call.gateway.kind].certificate
    return request_of(
        call, method=call.method, target=call.target, host=host, state=BodyState.NONE, certificate=certificate
    )
