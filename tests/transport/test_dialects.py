"""The four HTTP dialects: what is read, what is ignored, what is answered."""

import json
from base64 import b64encode
from collections.abc import Sequence
from urllib.parse import quote

import pytest

from authz.reason import Reason
from authz.report import Report
from authz.request import BodyState, GatewayKind
from authz.transport.address import UNIX, UNKNOWN
from tests.transport.support import (
    TOKENS,
    Counted,
    FakeService,
    Headers,
    allow,
    ask,
    http_app,
    limited,
    original,
    registry,
)
from tests.transport.test_certificate import DER, PEM

KINDS = list(GatewayKind)
FORWARDED = [GatewayKind.TRAEFIK, GatewayKind.CADDY, GatewayKind.NGINX]
METHOD_FIELD = {
    GatewayKind.TRAEFIK: "x-forwarded-method",
    GatewayKind.CADDY: "x-forwarded-method",
    GatewayKind.NGINX: "x-original-method",
}
URI_FIELD = {kind: name.replace("method", "uri") for kind, name in METHOD_FIELD.items()}


def without(headers: Headers, *names: str) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers if name not in names]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_request_arrives_whole(kind: GatewayKind) -> None:
    service = FakeService()
    seen = Counted()
    body = b'{"model":"llama3"}'
    method, path, headers = original(
        kind, body=body, headers=[("Authorization", "Bearer k"), ("accept", "*/*")]
    )
    answer = await ask(http_app(service, observe=seen), path, headers, body, method=method)
    assert answer.status == 200
    request = service.last
    assert (request.gateway.name, request.gateway.proven) == (f"my-{kind.value}", True)
    assert (request.method, request.target) == ("POST", "/v1/chat/completions?a=b")
    assert (request.host, request.scheme, request.ip) == ("llm.test", "https", "203.0.113.7")
    assert request.headers == {"authorization": "Bearer k", "accept": "*/*"}
    assert (request.body, request.body_state, request.certificate) == (body, BodyState.WHOLE, None)
    assert request.request_id.startswith("req_")
    assert seen.seen == [(f"my-{kind.value}", "inference", Reason.ALLOWED)]


@pytest.mark.parametrize("kind", KINDS)
async def test_an_unproven_gateway_asserts_nothing(kind: GatewayKind) -> None:
    service = FakeService()
    proof = [
        ("x-forwarded-tls-client-cert", b64encode(DER).decode()),
        ("x-client-cert", b64encode(DER).decode()),
    ]
    proof += [("x-client-verify", "SUCCESS"), ("x-forwarded-client-cert", f'Cert="{quote(PEM)}"')]
    method, path, headers = original(kind, token=False, headers=proof)
    assert (await ask(http_app(service), path, headers, method=method)).status == 200
    assert (service.last.gateway.name, service.last.gateway.proven) == (kind.value, False)
    assert (service.last.ip, service.last.certificate) == (None, None), "attack 43"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_wrong_or_doubled_token_is_refused_unread(kind: GatewayKind) -> None:
    for extra in ([("x-authz-gateway-token", "wrong")], [("x-authz-gateway-token", TOKENS[kind])] * 2):
        service = FakeService()
        method, path, headers = original(kind, token=False, headers=extra)
        answer = await ask(http_app(service), path, headers, b"{}", method=method)
        assert answer.status == 403
        assert json.loads(answer.body)["error"]["code"] == "gateway_unproven"
        assert service.asked == []


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"attack-24-{kind.value}")
async def test_a_stranger_without_a_token_is_refused(kind: GatewayKind) -> None:
    service = FakeService()
    method, path, headers = original(kind, token=False)
    for peer in ["10.0.0.9", UNKNOWN]:
        answer = await ask(http_app(service), path, headers, method=method, peer=peer)
        assert answer.status == 403
    assert service.asked == []


async def test_a_unix_socket_is_this_machine() -> None:
    service = FakeService()
    method, path, headers = original(GatewayKind.CADDY, token=False)
    answer = await ask(http_app(service), path, headers, method=method, peer=UNIX)
    assert answer.status == 200


@pytest.mark.parametrize("kind", FORWARDED, ids=lambda kind: f"attack-22-{kind.value}")
async def test_each_dialect_reads_its_own_fields_only(kind: GatewayKind) -> None:
    service = FakeService()
    spoofed = [("x-original-uri", "/public"), ("x-original-method", "GET"), ("x-original-url", "/public")]
    spoofed += [
        ("x-forwarded-uri", "/public"),
        ("x-forwarded-method", "GET"),
        ("x-forwarded-prefix", "/public"),
    ]
    spoofed += [
        ("x-envoy-original-path", "/public"),
        ("x_forwarded_uri", "/public"),
        ("x-rewrite-url", "/public"),
    ]
    own = (METHOD_FIELD[kind], URI_FIELD[kind])
    method, path, headers = original(kind, headers=without(spoofed, *own))
    assert (await ask(http_app(service), path, headers, method=method)).status == 200
    assert (service.last.method, service.last.target) == ("POST", "/v1/chat/completions?a=b")
    assert set(service.last.headers) == {"x_forwarded_uri", "x-rewrite-url"}


async def test_envoy_itself_is_asked_by_its_own_line_only() -> None:
    service = FakeService()
    spoofed = [
        ("x-forwarded-uri", "/public"),
        ("x-original-uri", "/public"),
        ("x-envoy-original-path", "/public"),
    ]
    method, path, headers = original(GatewayKind.ENVOY, headers=[*spoofed, ("x-forwarded-host", "evil")])
    assert (await ask(http_app(service), path, headers, method=method)).status == 200
    assert (service.last.target, service.last.host) == ("/v1/chat/completions?a=b", "llm.test"), "attack 23"


@pytest.mark.parametrize("kind", FORWARDED)
@pytest.mark.parametrize(
    ("field", "code"), [("method", "invalid_method"), ("uri", "invalid_path"), ("host", "invalid_host")]
)
@pytest.mark.parametrize("how", ["missing", "empty", "twice"])
async def test_a_misconfigured_gateway_is_told_so(kind: GatewayKind, field: str, code: str, how: str) -> None:
    service = FakeService()
    seen = Counted()
    name = {"method": METHOD_FIELD[kind], "uri": URI_FIELD[kind], "host": "x-forwarded-host"}[field]
    method, path, headers = original(kind)
    value = dict(headers)[name]
    headers = without(headers, name)
    headers += {"missing": [], "empty": [(name, "")], "twice": [(name, value), (name, value)]}[how]
    answer = await ask(http_app(service, observe=seen), path, headers, method=method)
    assert answer.status == 400
    error = json.loads(answer.body)["error"]
    assert error["code"] == code
    assert name in error["message"]
    assert service.asked == []
    assert seen.seen[0][0] == f"my-{kind.value}"


async def test_two_host_headers_are_refused() -> None:
    method, path, headers = original(GatewayKind.ENVOY, headers=[("host", "llm.test")])
    answer = await ask(http_app(FakeService()), path, headers, method=method)
    assert json.loads(answer.body)["error"]["code"] == "invalid_host", "attack 18"


ODD_TARGETS = [
    "//admin",
    "/pub/../admin",
    "/%2e%2e/x",
    "/v1/x%00",
    "/a;b",
    "/?",
    "/x?a=%zz",
    "/x#f",
    "/",
]


@pytest.mark.parametrize(
    ("kind", "target"),
    [(kind, target) for kind in KINDS for target in ODD_TARGETS]
    + [(kind, target) for kind in FORWARDED for target in ("http://evil/", "*", "x", "/é")],
    ids=lambda value: f"attack-1-14-{value}",
)
async def test_targets_reach_the_core_untouched(kind: GatewayKind, target: str) -> None:
    service = FakeService()
    method, path, headers = original(kind, target=target)
    await ask(http_app(service), path, headers, method=method)
    assert service.last.target == target


@pytest.mark.parametrize("kind", KINDS)
async def test_repeated_fields_are_marked(kind: GatewayKind) -> None:
    service = FakeService()
    method, path, headers = original(kind, headers=[("x-api-key", "a"), ("x-api-key", "b")])
    await ask(http_app(service), path, headers, method=method)
    assert service.last.repeated == {"x-api-key"}, "attack 37"
    assert service.last.headers["x-api-key"] == "a, b"


async def test_what_envoy_joined_counts_as_repeated() -> None:
    service = FakeService()
    method, path, headers = original(GatewayKind.ENVOY, headers=[("x-api-key", "a,b"), ("accept", "a, b")])
    await ask(http_app(service), path, headers, method=method)
    assert service.last.repeated == {"x-api-key"}, "attack 37"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("forwarded", "ip"),
    [("10.0.0.1, 203.0.113.7", "203.0.113.7"), ("::ffff:10.0.0.1", "10.0.0.1"), ("unknown", None)],
)
async def test_the_address_is_what_the_gateway_saw(kind: GatewayKind, forwarded: str, ip: str | None) -> None:
    service = FakeService()
    method, path, headers = original(
        kind, ip=forwarded, headers=[("forwarded", "for=1.1.1.1"), ("x-real-ip", "1.1.1.1")]
    )
    await ask(http_app(service), path, headers, method=method)
    assert service.last.ip == ip, "attack 40"


async def test_a_second_forwarded_for_field_counts_as_its_tail() -> None:
    service = FakeService()
    method, path, headers = original(GatewayKind.TRAEFIK, headers=[("x-forwarded-for", "1.1.1.1")])
    await ask(http_app(service), path, headers, method=method)
    assert service.last.ip == "203.0.113.7"


@pytest.mark.parametrize(
    ("proto", "scheme"),
    [("https", "https"), ("wss", "https"), ("ws", "http"), ("http", "http"), ("x, https", "http")],
)
async def test_schemes(proto: str, scheme: str) -> None:
    service = FakeService()
    method, path, headers = original(GatewayKind.TRAEFIK, scheme=proto)
    await ask(http_app(service), path, headers, method=method)
    assert service.last.scheme == scheme


CERTIFICATES: list[tuple[GatewayKind, list[tuple[str, str]], bool]] = [
    (GatewayKind.TRAEFIK, [("x-forwarded-tls-client-cert", b64encode(DER).decode())], True),
    (GatewayKind.TRAEFIK, [("x-forwarded-tls-client-cert", b64encode(DER).decode())] * 2, False),
    (
        GatewayKind.TRAEFIK,
        [("x-client-cert", b64encode(DER).decode()), ("x-client-verify", "SUCCESS")],
        False,
    ),
    (GatewayKind.CADDY, [("x-client-cert", b64encode(DER).decode())], True),
    (GatewayKind.CADDY, [("x-client-cert", "{http.request.tls.client.certificate_der_base64}")], False),
    (GatewayKind.CADDY, [("x-forwarded-tls-client-cert", b64encode(DER).decode())], False),
    (GatewayKind.NGINX, [("x-client-cert", quote(PEM)), ("x-client-verify", "SUCCESS")], True),
    (GatewayKind.NGINX, [("x-client-cert", quote(PEM)), ("x-client-verify", "FAILED:expired")], False),
    (GatewayKind.NGINX, [("x-client-cert", quote(PEM)), ("x-client-verify", "NONE")], False),
    (GatewayKind.NGINX, [("x-client-cert", quote(PEM))], False),
    (GatewayKind.NGINX, [("x-client-verify", "SUCCESS"), ("x-client-cert", "")], False),
    (GatewayKind.ENVOY, [("x-forwarded-client-cert", f'Hash=0;Cert="{quote(PEM, safe="")}"')], True),
    (GatewayKind.ENVOY, [("x-forwarded-client-cert", "Hash=0"), ("x-client-cert", quote(PEM))], False),
]


@pytest.mark.parametrize(
    ("kind", "sent", "known"),
    CERTIFICATES,
    ids=[f"attack-43-45-{n}-{c[0].value}" for n, c in enumerate(CERTIFICATES)],
)
async def test_certificates(kind: GatewayKind, sent: Headers, known: bool) -> None:
    service = FakeService()
    method, path, headers = original(kind, headers=sent)
    await ask(http_app(service), path, headers, method=method)
    assert service.last.certificate == (PEM if known else None)


BODIES: list[tuple[str, GatewayKind, list[tuple[str, str]], bytes, BodyState]] = [
    ("nothing", GatewayKind.TRAEFIK, [], b"", BodyState.NONE),
    ("a length of zero", GatewayKind.TRAEFIK, [("content-length", "0")], b"", BodyState.NONE),
    (
        "declared and withheld",
        GatewayKind.NGINX,
        [("x-original-content-length", "9")],
        b"",
        BodyState.WITHHELD,
    ),
    (
        "chunked and withheld",
        GatewayKind.NGINX,
        [("x-original-transfer-encoding", "chunked")],
        b"",
        BodyState.WITHHELD,
    ),
    (
        "chunked and sent",
        GatewayKind.NGINX,
        [("x-original-transfer-encoding", "chunked")],
        b"{}",
        BodyState.WHOLE,
    ),
    ("cut", GatewayKind.NGINX, [("x-original-content-length", "9")], b"{}", BodyState.PARTIAL),
    (
        "above max_size",
        GatewayKind.CADDY,
        [("x-original-content-length", "9000000")],
        b"",
        BodyState.WITHHELD,
    ),
    ("told and sent", GatewayKind.CADDY, [("x-original-content-length", "2")], b"{}", BodyState.WHOLE),
    (
        "another dialect's field",
        GatewayKind.TRAEFIK,
        [("x-original-content-length", "9")],
        b"{}",
        BodyState.WHOLE,
    ),
    ("flagged", GatewayKind.ENVOY, [("x-envoy-auth-partial-body", "true")], b"{}", BodyState.PARTIAL),
    ("flag is false", GatewayKind.ENVOY, [("x-envoy-auth-partial-body", "false")], b"{}", BodyState.WHOLE),
    (
        "flag is doubled",
        GatewayKind.ENVOY,
        [("x-envoy-auth-partial-body", "false")] * 2,
        b"{}",
        BodyState.PARTIAL,
    ),
]


@pytest.mark.parametrize(
    ("kind", "sent", "body", "state"),
    [case[1:] for case in BODIES],
    ids=[f"attack-94-99-{case[0]}" for case in BODIES],
)
async def test_how_much_of_the_body_came(
    kind: GatewayKind, sent: Headers, body: bytes, state: BodyState
) -> None:
    service = FakeService()
    method, path, headers = original(kind, body=body, headers=sent)
    names = {name for name, _ in sent}
    headers = [*sent, *without(headers, *names)]
    if kind is GatewayKind.NGINX and "x-original-transfer-encoding" in names:
        headers = without(headers, "x-original-content-length")
    await ask(http_app(service), path, headers, body, method=method)
    assert service.last.body_state is state
    assert service.last.body == body


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chunks", [None, [b"x" * 60, b"x" * 60, b"never read"]], ids=["declared", "chunked"])
async def test_a_large_body_is_refused_while_it_comes(
    kind: GatewayKind, chunks: Sequence[bytes] | None
) -> None:
    service = FakeService()
    method, path, headers = original(kind)
    pieces = list(chunks) if chunks else None
    answer = await ask(
        http_app(service, max_body=100), path, headers, b"x" * 101, method=method, chunks=pieces
    )
    assert answer.status == 413
    assert json.loads(answer.body)["error"]["code"] == "request_too_large"
    assert service.asked == []


@pytest.mark.parametrize("chunks", [[b"x" * 100], [b"x" * 50, b"x" * 50], [b"x" * 100, b""], [b""]])
async def test_the_largest_body_is_read(chunks: list[bytes]) -> None:
    service = FakeService()
    method, path, headers = original(GatewayKind.CADDY)
    answer = await ask(http_app(service, max_body=100), path, headers, method=method, chunks=chunks)
    assert answer.status == 200
    assert service.last.body == b"".join(chunks)


@pytest.mark.parametrize("chunks", [[b"x" * 101], [b"x" * 100, b"x"]])
async def test_one_byte_more_is_too_large(chunks: list[bytes]) -> None:
    method, path, headers = original(GatewayKind.CADDY)
    answer = await ask(http_app(FakeService(), max_body=100), path, headers, method=method, chunks=chunks)
    assert answer.status == 413


async def test_too_many_headers_are_refused() -> None:
    method, path, headers = original(GatewayKind.CADDY, headers=[(f"x-{n}", "1") for n in range(300)])
    answer = await ask(http_app(FakeService()), path, headers, method=method)
    assert (answer.status, json.loads(answer.body)["error"]["code"]) == (400, "invalid_header"), "attack 110"


async def test_trailers_are_refused_where_the_gateway_passes_them_on() -> None:
    method, path, headers = original(GatewayKind.CADDY, headers=[("Trailer", "X-Authz-User")])
    answer = await ask(http_app(FakeService()), path, headers, method=method)
    assert (answer.status, json.loads(answer.body)["error"]["code"]) == (400, "invalid_header"), "attack 96"


async def test_a_control_character_in_a_header_is_refused() -> None:
    method, path, headers = original(GatewayKind.CADDY, headers=[("authorization", "Bearer a\x00b")])
    answer = await ask(http_app(FakeService()), path, headers, method=method)
    assert (answer.status, json.loads(answer.body)["error"]["code"]) == (400, "invalid_header"), "attack 39"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ours", [True, False])
async def test_the_gateways_own_request_id_counts_only_where_it_vouches(
    kind: GatewayKind, ours: bool
) -> None:
    service = FakeService()
    method, path, headers = original(kind, headers=[("x-request-id", "fixed-by-someone")])
    await ask(http_app(service, gateways=registry(request_id_is_ours=ours)), path, headers, method=method)
    assert (service.last.request_id == "fixed-by-someone") is ours, "attack 106"
    method, path, headers = original(kind, token=False, headers=[("x-request-id", "fixed-by-someone")])
    await ask(http_app(service, gateways=registry(request_id_is_ours=True)), path, headers, method=method)
    assert service.last.request_id.startswith("req_")


REWRITTEN = allow(
    query="a=b",
    upstream=(("x-authz-user", "alice"), ("cookie", "theme=dark; n=\xe9")),
    remove=("x-token", "x-authz-team"),
)


@pytest.mark.parametrize("kind", FORWARDED)
async def test_what_goes_upstream(kind: GatewayKind) -> None:
    method, path, headers = original(
        kind, target="/v1/x?access_token=t&a=b", headers=[("x.authz.user", "admin")]
    )
    answer = await ask(http_app(FakeService(REWRITTEN)), path, headers, method=method)
    assert answer.status == 200
    assert answer.headers["x-authz-user"] == "alice"
    assert answer.headers["x-authz-cookie"] == "theme=dark; n=\xe9"
    assert answer.headers["x-authz-uri"] == "/v1/x?a=b"
    assert answer.headers["x-authz-remove"] == "x-token,x.authz.user"
    assert answer.headers["content-length"] == "0"
    assert answer.body == b""
    assert "cookie" not in answer.headers
    client = "x-authz-client-ratelimit" if kind is GatewayKind.TRAEFIK else "ratelimit"
    assert answer.headers[client] == '"rpm";r=59;t=1'
    assert ("ratelimit" in answer.headers) is (kind is not GatewayKind.TRAEFIK)


async def test_what_goes_upstream_through_envoy() -> None:
    method, path, headers = original(
        GatewayKind.ENVOY,
        target="/v1/x?access_token=t",
        headers=[("x-authz-user", "admin"), ("x.authz.key", "1"), ("x-authz-role", "admin")],
    )
    answer = await ask(
        http_app(FakeService(allow(query="", remove=("x-authz-team",)))), path, headers, method=method
    )
    assert answer.headers["x-authz-user"] == "alice"
    assert answer.headers["authorization"] == "Bearer upstream"
    assert answer.headers["x-authz-uri"] == "/v1/x"
    removed = answer.headers["x-envoy-auth-headers-to-remove"].split(",")
    assert removed == ["x-authz-team", "x.authz.key", "x-authz-role"], "what is set is not removed again"


async def test_28_envoy_over_http_removes_every_spelling() -> None:
    decision = allow(upstream=(("x-is-admin", "no"),), remove=("x-plan",))
    method, path, headers = original(
        GatewayKind.ENVOY, headers=[("X.Is.Admin", "1"), ("x_plan", "1"), ("x.plain", "1")]
    )
    answer = await ask(http_app(FakeService(decision)), path, headers, method=method)
    assert answer.headers["x-envoy-auth-headers-to-remove"] == "x-plan,x.is.admin,x_plan"
    assert answer.headers["ratelimit"] == '"rpm";r=59;t=1'


async def test_nginx_also_gets_the_denial_in_headers() -> None:
    method, path, headers = original(GatewayKind.NGINX)
    answer = await ask(http_app(FakeService(limited())), path, headers, method=method)
    assert answer.status == 429, "attack 111"
    assert answer.headers["x-authz-status"] == "429"
    assert answer.headers["x-authz-body"].encode("latin-1") == answer.body
    assert answer.headers["retry-after"] == "2"


@pytest.mark.parametrize(
    "fault",
    [RuntimeError("Bearer sk-secret"), ValueError(), RecursionError(), MemoryError()],
    ids=lambda fault: type(fault).__name__,
)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_fault_of_ours_is_a_503_in_json(kind: GatewayKind, fault: Exception) -> None:
    seen = Counted()
    method, path, headers = original(kind)
    answer = await ask(http_app(FakeService(fault), observe=seen), path, headers, method=method)
    assert answer.status == 503
    assert json.loads(answer.body)["error"]["code"] == "authz_unavailable"
    assert b"secret" not in answer.body
    assert seen.seen[-1][2] is Reason.INTERNAL_ERROR


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "value", ["a\r\nx-authz-user: admin", "a\nb", "a\x00"], ids=lambda value: f"attack-32-{value!r}"
)
@pytest.mark.parametrize("place", ["upstream", "client"])
async def test_no_value_ends_a_header(kind: GatewayKind, value: str, place: str) -> None:
    service = FakeService(allow(**{place: (("x-name", value),)}))
    method, path, headers = original(kind)
    answer = await ask(http_app(service), path, headers, method=method)
    assert answer.status == 503
    assert service.settled == [(Report(reservation="rsv_1", reached=False), f"my-{kind.value}")]


async def test_a_name_that_cannot_be_sent_is_a_fault_not_a_crash() -> None:
    method, path, headers = original(GatewayKind.CADDY)
    answer = await ask(
        http_app(FakeService(allow(upstream=(("x-näme", "1"),)))), path, headers, method=method
    )
    assert answer.status == 503


@pytest.mark.parametrize("kind", KINDS)
async def test_an_identity_beyond_ascii_leaves_as_utf8(kind: GatewayKind) -> None:
    method, path, headers = original(kind)
    answer = await ask(
        http_app(FakeService(allow(upstream=(("x-authz-user", "zoë"),)))), path, headers, method=method
    )
    assert answer.headers["x-authz-user"].encode("latin-1") == "zoë".encode()


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/", "GET", 404),
        ("/auth", "POST", 404),
        ("/auth/", "POST", 404),
        ("/auth/apache", "POST", 404),
        ("/auth/traefik/", "POST", 404),
        ("/auth/nginx/x", "POST", 404),
        ("/auth/envoyx", "POST", 404),
        ("/AUTH/caddy", "POST", 404),
        ("/auth//caddy", "POST", 404),
        ("/v1/models", "POST", 404),
        ("/v1/usage", "GET", 405),
        ("/v1/usage/", "POST", 404),
        ("/livez", "GET", 200),
        ("/readyz", "GET", 200),
        ("/auth/caddy%20", "POST", 404),
    ],
)
async def test_addresses(path: str, method: str, status: int) -> None:
    service = FakeService()
    answer = await ask(http_app(service), path, method=method)
    assert answer.status == status
    assert answer.headers["content-type"] == "application/json"
    json.loads(answer.body)
    assert service.asked == []


@pytest.mark.parametrize("token", [None, GatewayKind.TRAEFIK, GatewayKind.ENVOY])
async def test_the_list_of_models(token: GatewayKind | None) -> None:
    service = FakeService()
    headers = [
        ("host", "127.0.0.1:9000"),
        ("x-forwarded-host", "llm.test"),
        ("x-forwarded-for", "203.0.113.7"),
    ]
    headers += [("authorization", "Bearer k")]
    if token is not None:
        headers.append(("x-authz-gateway-token", TOKENS[token]))
    answer = await ask(http_app(service), "/v1/models?x=1", headers, method="GET")
    assert answer.status == 200
    listed = json.loads(answer.body)
    assert listed["object"] == "list"
    assert listed["data"][0] == {
        "id": "llama3",
        "object": "model",
        "created": 1_700_000_000,
        "owned_by": "authz",
    }
    request = service.last
    assert (request.method, request.target, request.host) == ("GET", "/v1/models?x=1", "llm.test")
    assert request.headers == {"authorization": "Bearer k"}
    assert request.ip == ("203.0.113.7" if token else None)
    assert answer.headers["x-request-id"] == request.request_id


async def test_the_list_of_models_can_be_refused() -> None:
    answer = await ask(http_app(FakeService(limited())), "/v1/models", [("host", "llm.test")], method="GET")
    assert answer.status == 429
    answer = await ask(http_app(FakeService(OSError())), "/v1/models", [("host", "llm.test")], method="GET")
    assert answer.status == 503
    answer = await ask(http_app(FakeService()), "/v1/models", [], method="GET")
    assert answer.status == 400
    answer = await ask(http_app(FakeService()), "/v1/models", [("host", "a")], method="GET", peer="10.0.0.1")
    assert answer.status == 403
