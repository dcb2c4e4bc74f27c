"""The table of requests that every gateway must judge alike: what is sent, what is expected, what reaches the model.

A gateway that normalises or answers by itself first has its status listed in
the row's `instead`; everything else must be the same to the byte.
"""

from dataclasses import dataclass, field
from typing import Any

from tests.support.raw_http import chunked

CHAT = b'{"model": "llama3", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 16}'
BEARER = ("Authorization", "Bearer {key}")
JSON = ("Content-Type", "application/json")
TOKEN_FROM_TESTS = "{jwt}"


@dataclass(frozen=True)
class KeySpec:
    """A key made for one row and one gateway."""

    user: str = "alice"
    fields: dict[str, Any] = field(default_factory=dict)
    quotas: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Row:
    """One request and its verdict."""

    id: str
    status: int
    code: str | None = None  # of the error body
    method: str = "POST"
    target: str = "/v1/chat/completions"
    host: str | None = "llm.test"
    headers: tuple[tuple[str, str], ...] = (BEARER, JSON)
    body: bytes = CHAT
    length: bool = True
    before: int = 0  # the same request, sent so many times first, must be allowed
    keys: dict[str, KeySpec] = field(default_factory=lambda: {"key": KeySpec()})
    user: str = "alice"
    upstream_target: str | None = None  # where it differs from what was sent
    upstream_body: bytes | None = None
    answered: bool = False  # by authz itself: GET /v1/models
    instead: dict[str, int] = field(
        default_factory=dict
    )  # gateway -> the status of its own answer, or of its repair
    facts: dict[str, str] = field(default_factory=dict)  # error headers that must be there


def with_key(**fields: Any) -> dict[str, KeySpec]:
    return {"key": KeySpec(fields=fields)}


def limited(*quotas: str) -> dict[str, KeySpec]:
    return {"key": KeySpec(quotas=quotas)}


def get(target: str) -> dict[str, Any]:
    return {"method": "GET", "target": target, "headers": (BEARER,), "body": b""}


def body(text: str | bytes) -> dict[str, Any]:
    return {"body": text.encode() if isinstance(text, str) else text}


def headers(*pairs: tuple[str, str]) -> dict[str, Any]:
    return {"headers": pairs}


ALLOWED = [
    Row(id="chat", status=200),
    Row(id="completions", status=200, target="/v1/completions", **body('{"model": "llama3", "prompt": "a"}')),
    Row(id="embeddings", status=200, target="/v1/embeddings", **body('{"model": "llama3", "input": ["a", "b"]}')),
    Row(id="responses", status=200, target="/v1/responses", **body('{"model": "llama3", "input": "a"}')),
    Row(
        id="anthropic messages by x-api-key",
        status=200,
        target="/v1/messages",
        **headers(("x-api-key", "{key}"), JSON),
        **body('{"model": "llama3", "max_tokens": 9, "messages": [{"role": "user", "content": "a"}]}'),
    ),
    Row(id="list of models", status=200, answered=True, **get("/v1/models")),
    Row(id="lower-case bearer", status=200, **headers(("authorization", "bearer {key}"), JSON)),
    Row(id="query kept", status=200, target="/v1/chat/completions?trace=1&a=%20b"),
    Row(id="json with charset", status=200, **headers(BEARER, ("Content-Type", "application/json; charset=utf-8"))),
    Row(
        id="chunked body",
        status=200,
        **headers(BEARER, JSON, ("Transfer-Encoding", "chunked")),
        body=chunked(CHAT[:20], CHAT[20:]),
        length=False,
        upstream_body=CHAT,
    ),
    Row(
        id="stream-with-usage",  # asked for by itself, so nothing is added
        status=200,
        **body('{"model": "llama3", "messages": [], "stream": true, "stream_options": {"include_usage": true}}'),
    ),
    Row(id="big body", status=200, **body(b'{"model": "llama3", "messages": [{"content": "' + b"x" * 300_000 + b'"}]}')),
    Row(id="jwt", status=200, user="sso:carol", **headers(("Authorization", "Bearer {jwt}"), JSON)),
    Row(
        id="jwt in the query",
        status=200,
        user="sso:carol",
        target="/v1/chat/completions?access_token={jwt}&q=1",
        upstream_target="/v1/chat/completions?q=1",
        **headers(JSON),
    ),
    Row(id="jwt in a header of its own", status=200, user="sso:carol", **headers(("X-Api-Token", "{jwt}"), JSON)),
    Row(id="jwt in a cookie", status=200, user="sso:carol", **headers(("Cookie", "a=1; user_session={jwt}; b=2"), JSON)),
    Row(id="a second source after a bad first", status=200, user="sso:carol",
        target="/v1/chat/completions?access_token=junk", upstream_target="/v1/chat/completions",
        **headers(("Authorization", "Bearer {jwt}"), JSON)),
    Row(id="explicit model list", status=200, keys=with_key(models=frozenset({"big"})), **body('{"model": "big"}')),
    Row(id="model open to a role", status=200, keys=with_key(roles=frozenset({"senior"})), **body('{"model": "big"}')),
    Row(id="no body needed", status=200, **get("/echo/status")),
    Row(id="opaque body", status=200, target="/echo/generate", **headers(BEARER, ("Content-Type", "text/plain")), **body("hi")),
    Row(id="22 spoofed forwarding headers", status=200,
        **headers(BEARER, JSON, ("X-Forwarded-Uri", "/admin"), ("X-Forwarded-Method", "DELETE"), ("X-Original-URI", "/admin"))),
    Row(id="22 spoofed original method", status=200, **headers(BEARER, JSON, ("X-Original-Method", "GET"))),
    Row(id="29 spoofed identity", status=200,
        **headers(BEARER, JSON, ("X-Authz-User", "admin"), ("X-Authz-Team", "root"), ("x-authz-model", "big"))),
    Row(id="28 spoofed identity with dots", status=200, **headers(BEARER, JSON, ("X.Authz.User", "admin")), instead={"traefik": 400}),
    Row(id="27 spoofed identity with underscores", status=200, **headers(BEARER, JSON, ("X_Authz_User", "admin")), instead={"envoy": 400, "traefik": 400}),
    Row(id="30 connection names an identity header", status=200,
        **headers(BEARER, JSON, ("Connection", "close, X-Authz-User"))),
    Row(id="106 fixed request id", status=200, **headers(BEARER, JSON, ("X-Request-Id", "fixed"))),
    Row(id="spoofed gateway token", status=200, **headers(BEARER, JSON, ("X-Authz-Gateway-Token", "guess"))),
]  # fmt: skip

UNAUTHENTICATED = [
    Row(id="no credential", status=401, code="missing_credentials", **headers(JSON)),
    Row(id="malformed key", status=401, code="invalid_api_key", **headers(("Authorization", "Bearer sk-az-nonsense"), JSON)),
    Row(id="unknown key", status=401, code="invalid_api_key", **headers(("Authorization", "Bearer {unknown}"), JSON)),
    Row(id="one character changed", status=401, code="invalid_api_key", **headers(("Authorization", "Bearer {key}x"), JSON)),
    Row(id="revoked key", status=401, code="revoked_api_key", keys=with_key(revoked_at=1)),
    Row(id="expired key", status=401, code="expired_api_key", keys=with_key(expires_at=1)),
    Row(id="another scheme", status=401, code="missing_credentials", **headers(("Authorization", "Basic dTpw"), JSON)),
    Row(id="71 non-ascii key", status=401, code="invalid_api_key", **headers(("Authorization", "Bearer sk-az-\xe4\xf6"), JSON)),
    Row(id="69 two spaces", status=401, code="invalid_api_key", **headers(("Authorization", "Bearer  {key}"), JSON)),
    Row(id="72 hash used as key", status=401, code="invalid_api_key", **headers(("Authorization", "Bearer {digest}"), JSON)),
    Row(id="46 alg none", status=401, code="invalid_token", **headers(("Authorization", "Bearer {jwt_none}"), JSON)),
    Row(id="one bit of a signature", status=401, code="invalid_token", **headers(("Authorization", "Bearer {jwt_forged}"), JSON)),
    Row(id="expired token", status=401, code="expired_token", **headers(("Authorization", "Bearer {jwt_expired}"), JSON)),
    Row(id="token of another issuer", status=401, code="invalid_token", **headers(("Authorization", "Bearer {jwt_issuer}"), JSON)),
    Row(id="token for another audience", status=401, code="invalid_token", **headers(("Authorization", "Bearer {jwt_audience}"), JSON)),
    Row(id="35 a bad key on any route", status=401, code="invalid_api_key", method="GET", target="/echo/status",
        **headers(("Authorization", "Bearer sk-az-nonsense")), body=b""),
    Row(id="list without a key", status=401, code="missing_credentials", method="GET", target="/v1/models", headers=(), body=b"", answered=True),
]  # fmt: skip

MALFORMED = [
    Row(id="37 two x-api-key", status=400, code="duplicate_credential",
        **headers(("X-Api-Key", "{key}"), ("X-Api-Key", "{key}"), JSON)),
    Row(id="37 two authorization", status=400, code="duplicate_credential",
        **headers(BEARER, BEARER, JSON), instead={"nginx": 400}),
    Row(id="36 two keys of two users", status=400, code="conflicting_credentials",
        keys={"key": KeySpec(), "other": KeySpec("bob")}, **headers(BEARER, ("x-api-key", "{other}"), JSON)),
    Row(id="1 dot segments", status=400, code="invalid_path", **get("/v1/../admin")),
    Row(id="2 encoded dots", status=400, code="invalid_path", **get("/v1/%2e%2e/admin"), instead={"traefik": 400}),
    Row(id="3 encoded slash", status=400, code="invalid_path", **get("/v1%2Fmodels"), instead={"envoy": 400, "traefik": 400}),
    Row(id="4 double slash", status=400, code="invalid_path", **get("//echo/status")),
    Row(id="5 path parameters", status=400, code="invalid_path", **get("/echo/status;x=1")),
    Row(id="6 fragment", status=400, code="invalid_path", **get("/echo/status#x"), instead={"envoy": 400, "traefik": 400}),
    Row(id="7 backslash", status=400, code="invalid_path", **get("/v1\\..\\admin"), instead={"traefik": 400}),
    Row(id="8 encoded nul", status=400, code="invalid_path", **get("/echo/status%00"), instead={"traefik": 400, "nginx": 400}),
    Row(id="8 bad escape", status=400, code="invalid_path", **get("/echo/status%zz"), instead={"traefik": 400, "nginx": 400, "caddy": 400}),
    Row(id="9 double encoding", status=400, code="invalid_path", **get("/%252e%252e/admin"), instead={"traefik": 400}),
    Row(id="13 absolute form", status=400, code="invalid_path", **get("http://other.test/echo/status"), instead={"envoy": 400, "traefik": 400, "raw http": 404}),
    Row(id="17 odd host", status=400, code="invalid_host", host="ok/public?", **get("/echo/status"), instead={"envoy": 400, "traefik": 400, "nginx": 400, "caddy": 400}),
    Row(id="19 method override", status=400, code="invalid_header", **headers(BEARER, JSON, ("X-HTTP-Method-Override", "DELETE")), instead={"envoy": 200, "traefik": 200}),  # they take it off first
    Row(id="20 query names another model", status=400, code="model_conflict", target="/v1/chat/completions?model=big"),
    Row(id="21 no model", status=400, code="model_required", **body('{"messages": []}')),
    Row(id="no body", status=400, code="body_required", body=b""),
    Row(id="empty object", status=400, code="model_required", **body("{}")),
    Row(id="not json", status=400, code="invalid_json", **body("hello")),
    Row(id="84 model twice", status=400, code="duplicate_field", **body('{"model": "llama3", "model": "big"}')),
    Row(id="85 model twice, escaped", status=400, code="duplicate_field", **body('{"model": "llama3", "\\u006dodel": "big"}')),
    Row(id="85 case twin", status=400, code="duplicate_field", **body('{"model": "llama3", "Model": "big"}')),
    Row(id="86 utf-16", status=400, code="invalid_json", **body('{"model": "llama3"}'.encode("utf-16"))),
    Row(id="86 bom", status=400, code="invalid_json", **body(b'\xef\xbb\xbf{"model": "llama3"}')),
    Row(id="87 nan", status=400, code="invalid_json", **body('{"model": "llama3", "temperature": NaN}')),
    Row(id="88 5000 digits", status=400, code="invalid_value", **body('{"model": "llama3", "seed": ' + "9" * 5000 + "}")),
    Row(id="89 negative", status=400, code="invalid_value", **body('{"model": "llama3", "max_tokens": -1}')),
    Row(id="89 text", status=400, code="invalid_value", **body('{"model": "llama3", "max_tokens": "10"}')),
    Row(id="89 true", status=400, code="invalid_value", **body('{"model": "llama3", "max_tokens": true}')),
    Row(id="89 2^63", status=400, code="invalid_value", **body('{"model": "llama3", "max_tokens": 9223372036854775808}')),
    Row(id="89 1.0", status=400, code="invalid_value", **body('{"model": "llama3", "max_tokens": 1.0}')),
    Row(id="more than the model writes", status=400, code="max_tokens_too_large", **body('{"model": "llama3", "max_tokens": 4096}')),
    Row(id="93 gzip", status=415, code="unsupported_encoding", **headers(BEARER, JSON, ("Content-Encoding", "gzip"))),
    Row(id="98 text/plain", status=415, code="unsupported_media_type", **headers(BEARER, ("Content-Type", "text/plain"))),
    Row(id="98 no content type", status=415, code="unsupported_media_type", **headers(BEARER)),
    Row(id="92 over the body limit", status=413, code="request_too_large",
        **body(b'{"model": "llama3", "x": "' + b"x" * (9 << 19) + b'"}'), instead={"envoy": 413, "traefik": 413, "nginx": 413, "caddy": 413}),
]  # fmt: skip

FORBIDDEN = [
    Row(id="no route", status=403, code="route_not_allowed", **get("/admin")),
    Row(id="10 another case", status=403, code="route_not_allowed", target="/V1/chat/completions"),
    Row(id="11 longer than the route", status=403, code="route_not_allowed", target="/v1/chat/completionsX"),
    Row(id="wrong method", status=403, code="route_not_allowed", **get("/v1/chat/completions")),
    Row(id="19 options", status=403, code="route_not_allowed", method="OPTIONS", headers=(BEARER,), body=b""),
    Row(id="unknown model", status=403, code="model_not_allowed", **body('{"model": "ghost"}')),
    Row(id="model of a role", status=403, code="model_not_allowed", **body('{"model": "big"}')),
    Row(id="empty model list", status=403, code="model_not_allowed", keys=with_key(models=frozenset())),
    Row(id="another model list", status=403, code="model_not_allowed", keys=with_key(models=frozenset({"big"}))),
    Row(id="token without a model list", status=403, code="model_not_allowed", **headers(("Authorization", "Bearer {jwt_no_models}"), JSON)),
    Row(id="role wanted", status=403, code="not_authorized", **get("/echo/staff")),
]  # fmt: skip

LIMITED = [
    Row(id="rate limit of the key", status=429, code="rate_limit_exceeded", before=2, keys=limited("requests=2/m"),
        facts={"retry-after": "30", "x-ratelimit-remaining-requests": "0"}),
    Row(id="daily quota of the key", status=429, code="insufficient_quota", before=1, keys=limited("requests=1/day"),
        facts={"x-should-retry": "false"}),
    Row(id="quota of nothing", status=429, code="insufficient_quota", keys=limited("requests=0/day"), facts={"x-should-retry": "false"}),
    Row(id="limit of the route", status=429, code="rate_limit_exceeded", before=3, facts={"x-ratelimit-limit-requests": "3"}, **get("/echo/limited")),
]  # fmt: skip

ROWS = [*ALLOWED, *UNAUTHENTICATED, *MALFORMED, *FORBIDDEN, *LIMITED]
