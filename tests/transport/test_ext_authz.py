"""Envoy's gRPC dialect, without a network."""

import asyncio
import json
from typing import Any
from urllib.parse import quote

import pytest
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse

from authz.reason import Reason
from authz.report import Report
from authz.request import BodyState, GatewayKind
from authz.transport.check import writing
from tests.transport.support import TOKENS, Counted, FakeService, allow, check, grpc_app, limited, registry
from tests.transport.test_certificate import PEM

TOKEN = TOKENS[GatewayKind.ENVOY]


async def ask(
    service: FakeService,
    message: CheckRequest | bytes,
    *,
    token: str | None = TOKEN,
    peer: str = "127.0.0.1",
    **options: Any,
) -> CheckResponse:
    raw = message if isinstance(message, bytes) else message.SerializeToString()
    return CheckResponse.FromString(await grpc_app(service, **options).answer(raw, token, peer))


def headers(options: Any) -> dict[str, str]:
    return {o.header.key: o.header.value or o.header.raw_value.decode("latin-1") for o in options}


@pytest.mark.parametrize("raw", [True, False], ids=["header_map", "headers"])
async def test_a_request_arrives_whole(raw: bool) -> None:
    service = FakeService()
    seen = Counted()
    sent = [
        ("authorization", "Bearer k"),
        ("accept", "*/*"),
        ("x-forwarded-proto", "http"),
        ("x-request-id", "1"),
    ]
    body = b'{"model":"llama3"}'
    answer = await ask(service, check(headers=sent, body=body, raw=raw), observe=seen)
    assert answer.status.code == 0
    request = service.last
    assert (request.gateway.name, request.gateway.proven) == ("my-envoy", True)
    assert (request.method, request.target) == ("POST", "/v1/chat/completions?a=b")
    assert (request.host, request.scheme, request.ip) == ("llm.test", "https", "203.0.113.7")
    assert request.headers == {"authorization": "Bearer k", "accept": "*/*"}
    assert (request.body, request.body_state) == (body, BodyState.WHOLE)
    assert request.request_id.startswith("req_")
    assert seen.seen == [("my-envoy", "inference", Reason.ALLOWED)]


async def test_an_allow_as_envoy_takes_it() -> None:
    decision = allow(
        query="b=2",
        upstream=(("x-authz-user", "zoë"), ("authorization", "Bearer up"), ("cookie", "n=\xc3\xa9")),
        remove=("x-api-key", "x-authz-team"),
    )
    sent = [("x.authz.team", "a"), ("x-authz-user", "admin"), ("x-authz-admin", "1")]
    answer = await ask(FakeService(decision), check(target="/v1/x?token=t&b=2", headers=sent))
    ok = answer.ok_response
    assert all(option.append_action == 2 for option in (*ok.headers, *ok.response_headers_to_add))
    assert [(o.header.key, o.header.value, o.header.raw_value) for o in ok.headers] == [
        ("x-authz-user", "zoë", b""),
        ("authorization", "Bearer up", b""),
        ("cookie", "n=é", b""),
        (":path", "/v1/x?b=2", b""),
    ]
    assert list(ok.headers_to_remove) == ["x-api-key", "x-authz-team", "x.authz.team", "x-authz-admin"]
    assert headers(ok.response_headers_to_add) == {"x-request-id": "req_1", "ratelimit": '"rpm";r=59;t=1'}
    told = {name: value.string_value for name, value in answer.dynamic_metadata.fields.items()}
    assert told == {
        "request_id": "req_1",
        "reason": "allowed",
        "route": "inference",
        "model": "llama3",
        "user": "alice",
        "team": "nlp",
        "key": "key_1",
        "reservation": "rsv_1",
    }


@pytest.mark.parametrize("raw", [True, False], ids=["header_map", "headers"])
async def test_28_what_is_decided_is_decided_in_every_spelling(raw: bool) -> None:
    decision = allow(upstream=(("x-is-admin", "no"), ("x_org", "o")), remove=("x-plan", "x.tenant"))
    respelled = ["X.Is.Admin", "x_is_admin", "X-Is.Admin", "x.org", "X.Plan", "x_plan", "x_tenant"]
    kept = ["x-is-admin", "x_org", "x-plan", "x.tenant", "x.is", "x.is.administrator", "xplan"]
    message = check(headers=[(name, "1") for name in (*respelled, *kept)], raw=raw)
    ok = (await ask(FakeService(decision), message)).ok_response
    assert sorted(ok.headers_to_remove) == sorted(["x-plan", "x.tenant", *map(str.lower, respelled)])


async def test_a_denial_as_envoy_takes_it() -> None:
    answer = await ask(FakeService(limited()), check())
    assert answer.status.code == 8
    assert answer.denied_response.status.code == 429
    assert answer.denied_response.body.encode() == limited().body
    assert headers(answer.denied_response.headers) == dict(limited().headers)
    told = answer.dynamic_metadata.fields
    assert (told["reason"].string_value, told["user"].string_value) == ("rate_limited", "alice")
    assert "reservation" not in told


@pytest.mark.parametrize(
    ("token", "peer"),
    [
        ("wrong", "127.0.0.1"),
        ("", "127.0.0.1"),
        (TOKENS[GatewayKind.CADDY], "127.0.0.1"),
        (None, "10.0.0.1"),
        (None, ""),
    ],
    ids=lambda value: f"attack-24-{value}",
)
async def test_who_did_not_prove_itself_is_refused_undecoded(token: str | None, peer: str) -> None:
    service = FakeService()
    answer = await ask(service, b"\xff\xff", token=token, peer=peer)
    assert (answer.status.code, answer.denied_response.status.code) == (7, 403)
    assert json.loads(answer.denied_response.body)["error"]["code"] == "gateway_unproven"
    assert service.asked == []


async def test_an_unproven_gateway_asserts_nothing() -> None:
    service = FakeService()
    sent = [("x-request-id", "fixed")]
    await ask(
        service,
        check(headers=sent, certificate=quote(PEM)),
        token=None,
        gateways=registry(request_id_is_ours=True),
    )
    request = service.last
    assert (request.gateway.name, request.gateway.proven) == ("envoy", False)
    assert (request.ip, request.certificate) == (None, None)
    assert request.request_id.startswith("req_")


@pytest.mark.parametrize(
    ("sent", "ours", "taken"),
    [
        ([("x-request-id", "0f8fad5b-d9cb")], True, True),
        ([("x-request-id", "0f8fad5b-d9cb")], False, False),
        ([("x-request-id", "0f8fad5b-d9cb")] * 2, True, False),
        ([("x-request-id", "a b")], True, False),
        ([], True, False),
    ],
)
async def test_envoys_request_id(sent: list[tuple[str, str]], ours: bool, taken: bool) -> None:
    service = FakeService()
    await ask(service, check(headers=sent), gateways=registry(request_id_is_ours=ours))
    assert (service.last.request_id == "0f8fad5b-d9cb") is taken, "attack 106"


async def test_the_certificate_of_a_proven_gateway() -> None:
    service = FakeService()
    await ask(service, check(certificate=quote(PEM)))
    assert service.last.certificate == PEM
    await ask(
        service, check(certificate="junk", headers=[("x-forwarded-client-cert", f'Cert="{quote(PEM)}"')])
    )
    assert service.last.certificate is None, "attack 43"


@pytest.mark.parametrize(
    ("ip", "known"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("", None),
        ("/run/sock", None),
        ("fe80::1%e", None),
    ],
)
async def test_addresses(ip: str, known: str | None) -> None:
    service = FakeService()
    await ask(service, check(ip=ip, headers=[("x-forwarded-for", "1.1.1.1"), ("forwarded", "for=1.1.1.1")]))
    assert service.last.ip == known, "attacks 40-42"


BAD: list[tuple[str, bytes, str]] = [
    ("110-no-attributes", b"", "invalid_method"),
    (
        "110-empty-http",
        CheckRequest(attributes={"request": {"http": {}}}).SerializeToString(),
        "invalid_method",
    ),
    ("110-not-protobuf", b"\xff\xff\xff", "invalid_method"),
    ("110-invalid-utf8", b"\x0a\x08\x22\x06\x12\x04\x12\x02\xff\xfe", "invalid_method"),
    ("no-path", check(target="").SerializeToString(), "invalid_method"),
    (
        "110-many-headers",
        check(headers=[(f"x-{n}", "1") for n in range(300)]).SerializeToString(),
        "invalid_header",
    ),
    (
        "110-many-headers-map",
        check(headers=[(f"x-{n}", "1") for n in range(300)], raw=False).SerializeToString(),
        "invalid_header",
    ),
    ("39-nul", check(headers=[("authorization", "Bearer a\0b")]).SerializeToString(), "invalid_header"),
    (
        "39-obs-fold",
        check(headers=[("authorization", "Bearer a\r\n b")]).SerializeToString(),
        "invalid_header",
    ),
    ("18-two-hosts", check(headers=[(":authority", "evil")]).SerializeToString(), "invalid_host"),
    ("two-paths", check(headers=[(":path", "/public")]).SerializeToString(), "invalid_path"),
    ("two-methods", check(headers=[(":method", "GET")]).SerializeToString(), "invalid_path"),
    ("too-large", check(body=b"x" * 101, most=None).SerializeToString(), "request_too_large"),
]


@pytest.mark.parametrize(
    ("raw", "code"), [case[1:] for case in BAD], ids=[f"attack-{case[0]}" for case in BAD]
)
async def test_what_cannot_be_a_request_is_refused(raw: bytes, code: str) -> None:
    service = FakeService()
    answer = await ask(service, raw, max_body=100)
    assert answer.WhichOneof("http_response") == "denied_response"
    assert answer.status.code == 3
    assert json.loads(answer.denied_response.body)["error"]["code"] == code
    assert service.asked == []


async def test_no_input_of_any_kind_crashes_the_handler() -> None:
    good = check(headers=[("authorization", "Bearer k")], body=b"{}").SerializeToString()
    app = grpc_app(FakeService())
    for at in range(len(good)):
        for flipped in (good[:at], good[:at] + bytes([good[at] ^ 0xFF]) + good[at + 1 :]):
            answer = CheckResponse.FromString(await app.answer(flipped, TOKEN, "127.0.0.1"))
            assert answer.WhichOneof("http_response") is not None
            assert answer.denied_response.status.code != 503


async def test_raw_bytes_are_judged_not_their_replacement() -> None:
    service = FakeService()
    message = check(headers=[("authorization", b"Bearer \xff")])
    message.attributes.request.http.path = "/v1/x!"
    message.attributes.request.http.header_map.headers[1].raw_value = b"/v1/x\xff"
    await ask(service, message)
    assert service.last.target == "/v1/x\xff", (
        "attack 38: Envoy's text form shows `!` for a byte that the backend gets"
    )
    assert service.last.headers["authorization"] == "Bearer \xff"
    message = check(headers=[("authorization", "Bearer \xc3\xa9".encode("latin-1"))], raw=False)
    await ask(service, message)
    assert service.last.headers["authorization"].encode("latin-1") == b"Bearer \xc3\xa9"


async def test_repeated_fields_are_marked() -> None:
    service = FakeService()
    await ask(service, check(headers=[("x-api-key", "a"), ("x-api-key", "b")]))
    assert service.last.repeated == {"x-api-key"}, "attack 37"


N, W, P, H = BodyState.NONE, BodyState.WHOLE, BodyState.PARTIAL, BodyState.WITHHELD
BODIES: list[tuple[str, dict[str, Any], BodyState]] = [
    ("none", {}, N),
    ("whole", {"body": b"{}"}, W),
    ("undeclared-and-short", {"body": b"x" * 99, "declare": False, "most": 100}, W),
    ("94-exactly-the-buffer", {"body": b"x" * 100, "declare": False, "most": 100}, P),
    ("declared-and-exactly-the-buffer", {"body": b"x" * 100, "most": 100}, W),
    ("undeclared-and-no-max-known", {"body": b"{}", "declare": False, "most": None}, P),
    ("cut", {"body": b"{}", "declare": False, "headers": [("content-length", "9")]}, P),
    ("99-withheld", {"headers": [("content-length", "9")]}, H),
    ("99-chunked-withheld", {"headers": [("transfer-encoding", "chunked")]}, H),
    ("chunked", {"body": b"{}", "declare": False, "headers": [("transfer-encoding", "chunked")]}, W),
    ("96-both", {"body": b"{}", "headers": [("transfer-encoding", "chunked")]}, P),
    ("two-lengths", {"body": b"{}", "headers": [("content-length", "2")]}, P),
    ("94-flag-lies-false", {"body": b"x" * 100, "declare": False, "most": 100, "flag": "false"}, P),
    ("94-flag-spoofed-true", {"body": b"{}", "declare": False, "flag": "true"}, P),
    (
        "94-flag-spoofed-false-on-cut",
        {"body": b"{}", "declare": False, "headers": [("content-length", "9")], "flag": "false"},
        P,
    ),
    ("flag-true-but-complete", {"body": b"{}", "flag": "true"}, W),
    ("http2-withheld", {"protocol": "HTTP/2", "most": None}, H),
    ("http2-empty", {"protocol": "HTTP/2", "most": 100}, N),
    ("http2-get", {"protocol": "HTTP/2", "most": None, "method": "GET"}, N),
]


@pytest.mark.parametrize(("given", "state"), [c[1:] for c in BODIES], ids=[f"attack-{c[0]}" for c in BODIES])
async def test_how_much_of_the_body_came(given: dict[str, Any], state: BodyState) -> None:
    service = FakeService()
    given = dict(given)
    flag = given.pop("flag", None)
    if flag is not None:
        given["headers"] = [*given.get("headers", []), ("x-envoy-auth-partial-body", flag)]
    await ask(service, check(**given))
    assert service.last.body_state is state


async def test_a_fault_of_ours_is_a_503() -> None:
    seen = Counted()
    for fault in (RuntimeError("Bearer sk-secret"), RecursionError()):
        answer = await ask(FakeService(fault), check(), observe=seen)
        assert (answer.status.code, answer.denied_response.status.code) == (14, 503)
        assert "secret" not in answer.denied_response.body
    answer = await ask(FakeService(allow(upstream=(("x-a", "\ud800"),))), check(), observe=seen)
    assert answer.denied_response.status.code == 503
    assert {reason for _, _, reason in seen.seen} >= {Reason.INTERNAL_ERROR}


async def test_no_value_ends_a_header() -> None:
    service = FakeService(allow(upstream=(("x-name", "a\r\nx-authz-user: admin"),)))
    answer = await ask(service, check())
    assert answer.denied_response.status.code == 503, "attack 32"
    assert service.settled == [(Report(reservation="rsv_1", reached=False), "my-envoy")]


async def test_a_decision_that_does_not_suspend_is_answered_in_one_step() -> None:
    answering = grpc_app(FakeService()).answer(check().SerializeToString(), TOKEN, "127.0.0.1")
    with pytest.raises(StopIteration) as stopped:
        answering.send(None)
    assert CheckResponse.FromString(stopped.value.value).status.code == 0


async def test_a_decision_that_waits_is_waited_for() -> None:
    waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def decide(_request: Any) -> Any:
        await waiting
        return limited()

    answering = asyncio.ensure_future(ask(FakeService(decide), check()))
    await asyncio.sleep(0)
    assert not answering.done()
    waiting.set_result(None)
    assert (await answering).denied_response.status.code == 429


async def test_what_envoy_joined_counts_as_repeated() -> None:
    service = FakeService()
    doubled = [
        ("x-api-key", "a"),
        ("x-api-key", "b"),
        ("cookie", "a=1,2"),
        ("user-agent", "x (KHTML, like Gecko)"),
    ]
    await ask(service, check(headers=doubled, raw=False))
    assert service.last.headers["x-api-key"] == "a,b"
    assert service.last.repeated == {"x-api-key"}, "attack 37"


async def test_a_cookie_that_is_no_utf8_still_leaves() -> None:
    answer = await ask(FakeService(allow(upstream=(("cookie", "n=\xe9"),))), check())
    assert answer.ok_response.headers[0].header.value == "n=é"


async def test_names_that_a_client_chose_are_not_remembered() -> None:
    """They may be of any length, and there are as many as one likes."""
    decision = allow(remove=("x-api-key",))
    for number in range(3):
        named = f"x-authz-{number}-{'n' * 1000}"
        answer = await ask(FakeService(decision), check(headers=[(named, "a")]))
        assert list(answer.ok_response.headers_to_remove) == ["x-api-key", named]
        if number == 0:
            known = writing._removals.cache_info().currsize
    assert writing._removals.cache_info().currsize == known
