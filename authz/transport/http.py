"""The decisions over HTTP: one address per gateway dialect, the list of models, and health."""

from collections.abc import Callable

from authz.decision import Deny
from authz.reason import Reason
from authz.refusal import Refusal
from authz.request import MAX_BODY, Gateway, GatewayKind
from authz.transport.auth_call import AuthCall
from authz.transport.caddy import CADDY
from authz.transport.dialect import Call, Dialect, Lines, plain_deny, refusal
from authz.transport.envoy_http import ENVOY_HTTP
from authz.transport.exchange import Head, Question
from authz.transport.gateways import UNIDENTIFIED, GatewayRegistry
from authz.transport.headers import GATEWAY_TOKEN, MOST_HEADERS, Fields, read_fields
from authz.transport.health import Health
from authz.transport.listing_call import ListingCall
from authz.transport.nginx import NGINX
from authz.transport.reply import Reply, json_reply
from authz.transport.request_id import RequestIds
from authz.transport.service import Desk
from authz.transport.traefik import TRAEFIK
from authz.transport.usage import Reject, Usages

_BY_PATH = {f"/auth/{dialect.kind.value}": dialect for dialect in (TRAEFIK, NGINX, CADDY)}
_BY_KIND = {dialect.kind: dialect for dialect in (TRAEFIK, NGINX, CADDY, ENVOY_HTTP)}
_ENVOY_PREFIX = "/auth/envoy"

_ALIVE = json_reply(200, b'{"status":"alive"}')
_NOT_FOUND = json_reply(
    404,
    b'{"error":{"message":"Nothing is served here. Gateways ask at /auth/envoy, /auth/traefik, '
    b'/auth/nginx or /auth/caddy, and tell what was used at /v1/usage.","type":"invalid_request_error",'
    b'"code":"not_found","param":null}}',
)


def _ignored(gateway: str, reason: str) -> None:
    """Nobody counts."""


class HttpTransport:
    """Answers whole requests, see `authz.transport.exchange.Answering`."""

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

    def open(self, head: Head) -> Reply | Question:
        """What asks, by its path; refused here is what needs no body to be refused."""
        target = head.target
        path = target.partition("?")[0]
        dialect = _BY_PATH.get(path)
        if dialect is not None:
            return self._auth(dialect, target, head)
        if path == _ENVOY_PREFIX or path.startswith(_ENVOY_PREFIX + "/"):
            return self._auth(ENVOY_HTTP, target[len(_ENVOY_PREFIX) :], head)
        if path == "/v1/models" and head.method == "GET":
            return self._models(head)
        if path == "/v1/usage":
            return self._report(head)
        if path == "/livez":
            return _ALIVE
        return json_reply(*self._health.readyz()) if path == "/readyz" else _NOT_FOUND

    def _auth(self, dialect: Dialect, target: str, head: Head) -> Reply | Question:
        request_id, fields = self._new_id(), read_fields(head.fields)
        gateway = self._identify(dialect.kind, fields, head)
        if gateway is None or len(head.fields) > MOST_HEADERS:
            return self._refuse_unread(dialect.deny, gateway, request_id)
        call = Call(gateway, request_id, head.method, target, fields)
        return _bounded(AuthCall(self._desk, self.gateways, dialect, call, self._max_body), fields)

    def _models(self, head: Head) -> Reply | Question:
        request_id, fields = self._new_id(), read_fields(head.fields)
        gateway = self._identify(None, fields, head)
        if gateway is None or len(head.fields) > MOST_HEADERS:
            return self._refuse_unread(plain_deny, gateway, request_id)
        call = Call(gateway, request_id, head.method, head.target, fields)
        certificate = _BY_KIND[gateway.kind].certificate
        return _bounded(ListingCall(self._desk, call, certificate, self._max_body), fields)

    def _report(self, head: Head) -> Reply | Question:
        request_id, fields = self._new_id(), read_fields(head.fields[:MOST_HEADERS])
        opened = self._usages.open(head.method, self._identify(None, fields, head), fields, request_id)
        return opened if isinstance(opened, Reply) else _bounded(opened, fields)

    def _identify(self, kind: GatewayKind | None, fields: Fields, head: Head) -> Gateway | None:
        if GATEWAY_TOKEN in fields.doubled:
            return None
        token = fields.gateway.get(GATEWAY_TOKEN)
        return self.gateways.identify(kind, token, head.peer, head.certificate)

    def _refuse_unread(
        self, spell: Callable[[Deny], Lines], gateway: Gateway | None, request_id: str
    ) -> Reply:
        """Refuse before the body is read. The connection discards it: a reset would lose our answer."""
        if gateway is None:
            refused = Refusal(Reason.GATEWAY_UNPROVEN)
            return refusal(spell, self._desk.refuse(UNIDENTIFIED, request_id, refused))
        text = f"The request has more than {MOST_HEADERS} headers."
        return refusal(spell, self._desk.refuse(gateway.name, request_id, Refusal(Reason.BAD_HEADER, text)))


def _bounded(question: Question, fields: Fields) -> Reply | Question:
    """Refused at once where the declared length is too much already."""
    declared = fields.gateway.get("content-length", "")
    if declared.isdigit() and int(declared[:19]) > question.most:
        return question.too_large()
    return question
