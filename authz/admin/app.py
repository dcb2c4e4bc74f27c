"""The admin listener's ASGI application: metrics, health, and a closed door in front of the API."""

import json
from collections.abc import Awaitable, Callable

from authz.admin.access import AdminAccess
from authz.transport.asgi import Receive, Scope, Send, peer_of, respond, respond_json
from authz.transport.health import Health

_PLAIN = b"text/plain; charset=utf-8"
_CHALLENGE = (b"www-authenticate", b'Bearer realm="authz admin"')
_ALLOW = (b"allow", b"GET, HEAD")
_NO_STORE = (b"cache-control", b"no-store")

WELCOME = b"""authz admin listener

/metrics   Prometheus metrics (from this machine, or with an admin token)
/livez     whether the process is alive
/readyz    whether it is ready, with the digest of its configuration
/api/v1/   the admin API (with an admin token)
"""


class AdminApp:
    """Serves what needs no framework. Nothing here is on the path of a decision."""

    def __init__(
        self, access: AdminAccess, health: Health, metrics: Callable[[], Awaitable[bytes]], metrics_type: str
    ) -> None:
        """`metrics` renders them as `metrics_type`. `access` may be replaced on a reload."""
        self.access = access
        self._health = health
        self._metrics = metrics
        self._metrics_type = metrics_type.encode("ascii")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        host, authorization = _header(scope, b"host"), _header(scope, b"authorization")
        path: str = scope["path"]
        if path == "/livez":
            await respond_json(send, 200, b'{"status":"alive"}')
        elif path == "/readyz":
            status, body = self._health.readyz()
            await respond_json(send, status, body)
        elif self.access.who(authorization) is None and not self.access.is_known_host(host):
            # A browser that was led here has no token; who has one may use any name.
            await _refuse(send, 403, "unknown_host", "The Host header does not name this listener.")
        elif path == "/api" or path.startswith("/api/"):
            await self._api(authorization, send)
        elif scope["method"] not in ("GET", "HEAD"):
            await _refuse(send, 405, "method_not_allowed", "Use GET.", _ALLOW)
        elif path == "/metrics":
            await self._show_metrics(scope, authorization, send)
        elif path == "/":
            await respond(send, 200, _plain(_PLAIN, WELCOME), WELCOME)
        else:
            await _refuse(send, 404, "not_found", "Nothing is served here. See / for what is.")

    async def _show_metrics(self, scope: Scope, authorization: str | None, send: Send) -> None:
        if not self.access.is_local(peer_of(scope)) and self.access.who(authorization) is None:
            await _unauthorized(send)
            return
        body = await self._metrics()
        await respond(send, 200, _plain(self._metrics_type, body), body)

    async def _api(self, authorization: str | None, send: Send) -> None:
        if self.access.who(authorization) is None:
            await _unauthorized(send)
        else:
            await _refuse(send, 404, "not_found", "The admin API has no such resource.")


def _plain(kind: bytes, body: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"content-type", kind), (b"content-length", str(len(body)).encode("ascii")), _NO_STORE]


async def _unauthorized(send: Send) -> None:
    text = "Send an admin token: `Authorization: Bearer <token>`. The config names it in `admin.token`."
    await _refuse(send, 401, "admin_token_required", text, _CHALLENGE)


async def _refuse(send: Send, status: int, code: str, message: str, *headers: tuple[bytes, bytes]) -> None:
    kind = "authentication_error" if status == 401 else "invalid_request_error"
    error = {"message": message, "type": kind, "code": code, "param": None}
    await respond_json(send, status, json.dumps({"error": error}).encode("ascii"), _NO_STORE, *headers)


def _header(scope: Scope, name: bytes) -> str | None:
    """A header's only value; none where it came twice."""
    values = [value for key, value in scope["headers"] if key == name]
    return values[0].decode("latin-1") if len(values) == 1 else None
