import json
from hashlib import sha256

import pytest

from authz.admin.access import AdminAccess, AdminToken
from authz.admin.app import AdminApp
from authz.telemetry.metrics import CONTENT_TYPE
from authz.transport.health import Health
from tests.telemetry.asgi import ask
from tests.transport.support import Headers, health

OPS = AdminToken(name="ops", digest=sha256(b"secret").digest())
LOCAL: Headers = [("host", "127.0.0.1:9002")]
BEARER: Headers = [*LOCAL, ("authorization", "Bearer secret")]
REMOTE = ("10.0.0.9", 5)


def app(*tokens: AdminToken, hosts: tuple[str, ...] = (), state: Health | None = None) -> AdminApp:
    async def metrics() -> bytes:
        return b"a_metric 1\n"

    return AdminApp(AdminAccess(tokens, hosts), state or health(), metrics, CONTENT_TYPE)


@pytest.mark.parametrize("path", ["/api", "/api/", "/api/v1/keys", "/api/v1/../keys"])
@pytest.mark.parametrize("tokens", [(), (OPS,)], ids=["none-configured", "one-configured"])
@pytest.mark.parametrize(
    "authorization",
    [None, "Bearer wrong", "Bearer ", "Basic secret", "secret", "Bearer sécret", "bearer\tsecret"],
)
async def test_the_api_is_closed_without_a_token(
    path: str, tokens: tuple[AdminToken, ...], authorization: str | None
) -> None:
    headers = [*LOCAL, *([("authorization", authorization)] if authorization else [])]
    for method in ("GET", "POST", "DELETE", "OPTIONS"):
        answer = await ask(app(*tokens), path, headers, method=method)
        assert answer.status == 401
        assert json.loads(answer.body)["error"]["code"] == "admin_token_required"
        assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_without_any_token_configured_none_is_good() -> None:
    assert (await ask(app(), "/api/v1/keys", BEARER, method="GET")).status == 401


async def test_two_authorization_headers_are_none() -> None:
    headers = [*BEARER, ("authorization", "Bearer secret")]
    assert (await ask(app(OPS), "/api/v1/keys", headers, method="GET")).status == 401


async def test_a_token_opens_the_door() -> None:
    answer = await ask(app(OPS), "/api/v1/nothing", BEARER, method="GET", client=REMOTE)
    assert answer.status == 404
    assert AdminAccess([OPS]).who("bearer secret") is OPS


@pytest.mark.parametrize(
    ("client", "headers", "status"),
    [
        (("127.0.0.1", 5), LOCAL, 200),
        (("::1", 5), LOCAL, 200),
        (("::ffff:127.0.0.1", 5), LOCAL, 200),
        (REMOTE, LOCAL, 401),
        (REMOTE, BEARER, 200),
        (REMOTE, [*LOCAL, ("x-forwarded-for", "127.0.0.1")], 401),
        (None, LOCAL, 401),
    ],
)
async def test_metrics_are_for_this_machine_or_a_token(
    client: tuple[str, int] | None, headers: Headers, status: int
) -> None:
    answer = await ask(app(OPS), "/metrics", headers, method="GET", client=client)
    assert answer.status == status
    if status == 200:
        assert answer.body == b"a_metric 1\n"
        assert answer.headers["content-type"] == CONTENT_TYPE
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("host", "good"),
    [
        ("127.0.0.1:9002", True),
        ("localhost:9002", True),
        ("[::1]:9002", True),
        ("10.1.2.3", True),
        ("authz.lan", True),
        ("AUTHZ.lan:9002", True),
        ("evil.example", False),
        ("127.0.0.1.evil.example:9002", False),
        ("", False),
        ("localhost.evil.example", False),
        ("localhost:9002@evil", False),
        ("localhost:x", False),
    ],
    ids=lambda value: f"attack-80-{value}",
)
@pytest.mark.parametrize("path", ["/", "/metrics", "/api/v1/keys"])
async def test_a_rebound_name_is_refused(path: str, host: str, good: bool) -> None:
    answer = await ask(app(hosts=("authz.lan",)), path, [("host", host)], method="GET")
    assert (answer.status == 403) is not good
    if not good:
        assert json.loads(answer.body)["error"]["code"] == "unknown_host"


async def test_two_hosts_are_none() -> None:
    assert (await ask(app(), "/", [*LOCAL, *LOCAL], method="GET")).status == 403
    assert (await ask(app(), "/", [], method="GET")).status == 403


async def test_the_front_page_says_what_is_there() -> None:
    answer = await ask(app(), "/", LOCAL, method="GET")
    assert answer.status == 200
    assert b"/metrics" in answer.body
    assert (await ask(app(), "/x", LOCAL, method="GET")).status == 404
    refused = await ask(app(), "/metrics", LOCAL, method="POST")
    assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    ("stage", "store", "status", "code"),
    [
        ("starting", "ok", "starting", 503),
        ("ready", "ok", "ready", 200),
        ("ready", "disk full", "store_unavailable", 503),
        ("draining", "ok", "draining", 503),
        ("draining", "disk full", "draining", 503),
    ],
)
async def test_readiness(stage: str, store: str, status: str, code: int) -> None:
    state = Health(version="1.2.3", config=lambda: "abc123", store=lambda: store)
    if stage != "starting":
        state.started()
    if stage == "draining":
        state.drain()
    answer = await ask(app(state=state), "/readyz", [("host", "probe")], method="GET", client=REMOTE)
    assert answer.status == code
    assert json.loads(answer.body) == {
        "status": status,
        "config": "abc123",
        "version": "1.2.3",
        "store": store,
    }
    assert (await ask(app(state=state), "/livez", method="GET")).status == 200, "alive whatever else is wrong"


def test_no_repr_shows_a_token() -> None:
    assert "secret" not in repr(OPS)


async def test_who_has_a_token_may_use_any_name() -> None:
    """A scraper reaches the listener by a name of its own; a browser that was led astray has no token."""
    headers: Headers = [("host", "authz.monitoring.svc"), ("authorization", "Bearer secret")]
    assert (await ask(app(OPS), "/metrics", headers, method="GET")).status == 200
    assert (await ask(app(OPS), "/metrics", headers[:1], method="GET")).status == 403
