"""The way of one request, end to end in memory."""

import json

import pytest

from authz.decision import Allow, Deny
from authz.reason import ANSWERS, Reason
from authz.report import Report
from authz.request import BodyState, Gateway, GatewayKind
from tests.support.lab import CHAT, EDGE, Lab, step

CONFIG = """
store: memory://
gateways: {edge: {kind: envoy, token: "edge-token-of-the-tests", request_id: gateway}}
authenticators:
  keys: {type: api_key}
models:
  llama3: {context: 8192, max_output: 2048}
  big: {access: {roles: [senior]}}
backends:
  vllm: {url: "http://10.0.0.5:8000", models: [llama3, big], bearer: upstream-secret}
routes:
  - name: models
    match: {methods: [GET], paths: [/v1/models]}
    authenticate: {any_of: [keys]}
    authorize: [{models: any}]
  - name: inference
    match: {api: [openai, anthropic]}
    authenticate: {any_of: [keys]}
    authorize: [{models: allowed}]
    limits: [rpm, tried]
  - name: deployments
    match: {methods: [POST], paths: ["/deploy/{model}/chat"]}
    authenticate: {any_of: [keys]}
    authorize: [{models: allowed}]
  - name: open-body
    match: {methods: [GET, POST], paths: [/generate]}
    authenticate: {any_of: [keys]}
    authorize: [{models: any}]
limits:
  rpm: {unit: requests, quota: 3, window: 1m, partition_by: [key]}
  tried: {unit: requests, quota: 1, window: 1m, partition_by: [key], mode: shadow}
"""


@pytest.fixture
def lab() -> Lab:
    return Lab(CONFIG)


def allowed(decision: object) -> Allow:
    assert isinstance(decision, Allow), decision
    return decision


def denied(decision: object, reason: Reason) -> Deny:
    assert isinstance(decision, Deny), decision
    assert decision.reason is reason, decision.message
    answer = ANSWERS[reason]
    assert decision.status == answer.http
    error = json.loads(decision.body)["error"]
    assert set(error) == {"message", "type", "code", "param"}
    assert error["code"] == answer.code
    return decision


def test_a_good_request_goes_through(lab: Lab) -> None:
    key = lab.key("alice", team="nlp")
    decision = allowed(lab.decide(lab.request(key=key)))
    upstream = dict(decision.upstream)
    assert upstream["x-authz-user"] == "alice"
    assert upstream["x-authz-team"] == "nlp"
    assert upstream["x-authz-key"] == key.id
    assert upstream["x-authz-model"] == "llama3"
    assert upstream["x-authz-request-id"] == "req_1"
    assert upstream["authorization"] == "Bearer upstream-secret"
    assert "x-api-key" in decision.remove
    assert not set(upstream) & set(decision.remove)
    client = dict(decision.client)
    assert client["x-ratelimit-limit-requests"] == "3"
    assert client["x-ratelimit-remaining-requests"] == "2"
    assert "tried" not in client["ratelimit"]


def test_every_identity_header_is_set_or_removed(lab: Lab) -> None:
    decision = allowed(lab.decide(lab.request("GET", "/generate", key=lab.key(), body=b"")))
    named = {name for name, _ in decision.upstream} | set(decision.remove)
    for name in ("user", "team", "key", "model", "reservation", "request-id"):
        assert f"x-authz-{name}" in named


def test_an_unproven_gateway_gets_no_upstream_credential(lab: Lab) -> None:
    nearby = Gateway(name="envoy", kind=GatewayKind.ENVOY, proven=False)
    decision = allowed(lab.decide(lab.request(key=lab.key(), gateway=nearby)))
    assert "authorization" not in dict(decision.upstream)
    assert "authorization" in decision.remove


@pytest.mark.parametrize(
    ("method", "target", "body", "headers", "reason"),
    [
        ("POST", "/admin", CHAT, {}, Reason.NO_ROUTE),
        ("GET", "/v1/chat/completions", b"", {}, Reason.NO_ROUTE),
        ("OPTIONS", "/v1/chat/completions", b"", {}, Reason.NO_ROUTE),
        ("POST", "//v1/chat/completions", CHAT, {}, Reason.BAD_PATH),
        ("POST", "/v1/chat/completions", b"", {}, Reason.BODY_REQUIRED),
        ("POST", "/v1/chat/completions", b"{}", {}, Reason.MODEL_REQUIRED),
        ("POST", "/v1/chat/completions", b'{"model": "ghost"}', {}, Reason.MODEL_UNKNOWN),
        ("POST", "/v1/chat/completions", b'{"model": "big"}', {}, Reason.MODEL_NOT_ALLOWED),
        ("POST", "/v1/chat/completions", b'{"model": "llama3", "max_tokens": 2049}', {}, Reason.TOO_MANY_OUTPUT_TOKENS),
        ("POST", "/v1/chat/completions", b"{", {}, Reason.BAD_BODY),
        ("POST", "/v1/chat/completions", CHAT, {"content-type": "text/plain"}, Reason.UNSUPPORTED_MEDIA_TYPE),
        ("POST", "/v1/chat/completions?model=big", CHAT, {}, Reason.MODEL_CONFLICT),
        ("POST", "/v1/chat/completions?mod%65l=big", CHAT, {}, Reason.MODEL_CONFLICT),
        ("POST", "/v1/chat/completions?model=llama3&model=big", CHAT, {}, Reason.MODEL_CONFLICT),
        ("POST", "/deploy/big/chat", CHAT, {}, Reason.MODEL_CONFLICT),
        ("POST", "/generate?model=ghost", b"", {}, Reason.MODEL_UNKNOWN),
    ],
)  # fmt: skip
def test_refusals_charge_nothing(
    lab: Lab, method: str, target: str, body: bytes, headers: dict[str, str], reason: Reason
) -> None:
    key = lab.key()
    for _ in range(5):
        denied(lab.decide(lab.request(method, target, key=key, body=body, headers=headers)), reason)
    assert dict(allowed(lab.decide(lab.request(key=key))).client)["x-ratelimit-remaining-requests"] == "2"


def test_attack_108_a_refusal_repeats_no_long_path(lab: Lab) -> None:
    refusal = denied(lab.decide(lab.request("GET", "/" + "a" * 5_000, body=b"")), Reason.NO_ROUTE)
    assert len(refusal.message) < 250


def test_the_models_of_path_and_body_may_agree(lab: Lab) -> None:
    key = lab.key()
    assert allowed(lab.decide(lab.request("POST", "/deploy/llama3/chat", key=key))).model == "llama3"
    assert (
        allowed(lab.decide(lab.request("POST", "/deploy/llama3/chat", key=key, body=b""))).model == "llama3"
    )
    assert (
        allowed(lab.decide(lab.request("POST", "/v1/chat/completions?model=llama3", key=key))).model
        == "llama3"
    )


@pytest.mark.parametrize(
    ("state", "reason"),
    [(BodyState.PARTIAL, Reason.BODY_INCOMPLETE), (BodyState.WITHHELD, Reason.BODY_REQUIRED)],
)
def test_attacks_94_and_99_a_body_that_did_not_come_whole(lab: Lab, state: BodyState, reason: Reason) -> None:
    denied(lab.decide(lab.request(key=lab.key(), body_state=state)), reason)


def test_nobody_is_told_of_the_body_before_saying_who_they_are(lab: Lab) -> None:
    denied(lab.decide(lab.request(body=b"{")), Reason.CREDENTIAL_MISSING)


def test_a_401_is_not_charged_and_challenges(lab: Lab) -> None:
    refusal = denied(lab.decide(lab.request()), Reason.CREDENTIAL_MISSING)
    assert dict(refusal.headers)["www-authenticate"].startswith("Bearer")
    assert "ratelimit" not in dict(refusal.headers)


def test_attack_37_a_credential_sent_twice(lab: Lab) -> None:
    request = lab.request(key=lab.key(), repeated=frozenset({"authorization"}))
    denied(lab.decide(request), Reason.DUPLICATE_CREDENTIAL)


def test_attack_36_two_valid_credentials_of_two_subjects(lab: Lab) -> None:
    one, other = lab.key("alice"), lab.key("bob")
    denied(lab.decide(lab.request(key=one, headers={"x-api-key": other.key})), Reason.CONFLICTING_CREDENTIALS)
    allowed(lab.decide(lab.request(key=one, headers={"x-api-key": one.key})))


def test_the_limit_refuses_the_fourth_and_charges_it_nothing(lab: Lab) -> None:
    key = lab.key()
    for _ in range(3):
        allowed(lab.decide(lab.request(key=key)))
    for _ in range(50):
        refusal = denied(lab.decide(lab.request(key=key)), Reason.RATE_LIMITED)
    headers = dict(refusal.headers)
    assert headers["retry-after"] == "20"
    assert headers["retry-after-ms"] == "20000"
    assert "x-should-retry" not in headers
    assert headers["x-ratelimit-remaining-requests"] == "0"
    for words in ("'rpm'", "needed 1", "left 0", "reset in", refusal.request_id):
        assert words in refusal.message
    lab.clock.advance(20)
    allowed(lab.decide(lab.request(key=key)))
    denied(lab.decide(lab.request(key=key)), Reason.RATE_LIMITED)


def test_limits_of_key_user_and_team_add_to_the_routes(lab: Lab) -> None:
    key = lab.key("alice", "requests=2/day")
    allowed(lab.decide(lab.request(key=key)))
    allowed(lab.decide(lab.request("POST", "/generate", key=key)))
    refusal = denied(lab.decide(lab.request(key=key)), Reason.QUOTA_EXHAUSTED)
    assert dict(refusal.headers)["x-should-retry"] == "false"
    assert "key:requests=2/day" in refusal.message


def test_all_or_nothing(lab: Lab) -> None:
    """A request that one policy refuses is charged by none (complaint 6)."""
    key = lab.key("alice", "requests=1/day")
    allowed(lab.decide(lab.request(key=key)))
    for _ in range(10):
        denied(lab.decide(lab.request(key=key)), Reason.QUOTA_EXHAUSTED)
    states = {state.limit.policy: state.remaining for state in lab.decide(lab.request(key=key)).limits}
    assert states["rpm"] == 2


def test_a_quota_of_zero_admits_never(lab: Lab) -> None:
    refusal = denied(lab.decide(lab.request(key=lab.key("a", "requests=0/day"))), Reason.QUOTA_EXHAUSTED)
    assert "retry-after" not in dict(refusal.headers)


def test_concurrency_is_freed_by_the_end_of_the_stream(lab: Lab) -> None:
    key = lab.key("alice", "concurrency=1")
    first = allowed(lab.decide(lab.request(key=key)))
    refusal = denied(lab.decide(lab.request(key=key)), Reason.CONCURRENCY_LIMITED)
    assert "retry-after" in dict(refusal.headers)
    assert first.reservation is not None
    step(lab.service.settle(Report(reservation=first.reservation, status=200), EDGE))
    allowed(lab.decide(lab.request(key=key)))


def test_attack_95_a_gateways_own_retry_is_charged_once(lab: Lab) -> None:
    ours = Gateway(name="edge", kind=GatewayKind.ENVOY, proven=True, request_id_is_ours=True)
    key = lab.key()
    for _ in range(5):
        decision = allowed(lab.decide(lab.request(key=key, gateway=ours, request_id="same")))
        assert dict(decision.client)["x-ratelimit-remaining-requests"] == "2"
    other = lab.request(key=key, gateway=ours, request_id="same", body=CHAT.replace(b"hi", b"ho"))
    assert dict(allowed(lab.decide(other)).client)["x-ratelimit-remaining-requests"] == "1"


def test_attack_95_a_retry_has_the_same_credential_wherever_it_is_sent() -> None:
    lab = Lab(CONFIG.replace("{type: api_key}", "{type: api_key, headers: [x-team-key]}"))
    ours = Gateway(name="edge", kind=GatewayKind.ENVOY, proven=True, request_id_is_ours=True)
    for _ in range(2):
        request = lab.request(headers={"x-team-key": lab.key().key}, gateway=ours, request_id="same")
        assert dict(allowed(lab.decide(request)).client)["x-ratelimit-remaining-requests"] == "2"


def test_attack_106_an_id_that_a_client_may_choose_never_dedupes(lab: Lab) -> None:
    key = lab.key()
    for left in ("2", "1", "0"):
        request = lab.request(key=key, headers={"x-request-id": "fixed"})
        assert dict(allowed(lab.decide(request)).client)["x-ratelimit-remaining-requests"] == left


def test_listing_shows_exactly_what_would_be_allowed(lab: Lab) -> None:
    def names(**fields: object) -> list[str]:
        listed = step(
            lab.service.list_models(lab.request("GET", "/v1/models", key=lab.key(**fields), body=b""))
        )
        return [model.name for model in listed.models]

    assert names() == ["llama3"]
    assert names(roles=frozenset({"senior"})) == ["big", "llama3"]
    assert names(models=frozenset({"big"})) == ["big"]
    assert names(models=frozenset()) == []
    assert isinstance(step(lab.service.list_models(lab.request("GET", "/v1/models", body=b""))), Deny)


def test_listing_shows_no_model_that_no_server_has() -> None:
    lab = Lab(CONFIG.replace("models: [llama3, big], bearer", "models: [big], bearer"))
    key = lab.key(roles=frozenset({"senior"}))
    assert lab.decide(lab.request(key=key)).reason is Reason.MODEL_UNKNOWN
    listed = step(lab.service.list_models(lab.request("GET", "/v1/models", key=key, body=b"")))
    assert [model.name for model in listed.models] == ["big"]


def test_every_denial_is_kept(lab: Lab) -> None:
    key = lab.key("bob", "requests=1/day")
    lab.decide(lab.request(key=key))
    refusal = lab.decide(lab.request(key=key))
    kept = lab.store.denial_log.show(refusal.request_id)
    assert kept is not None
    assert (kept.user, kept.status, kept.reason, kept.model) == ("bob", 429, "quota_exhausted", "llama3")
    assert {limit["policy"] for limit in kept.limits} >= {"rpm", "key:requests=1/day"}


def test_no_credential_in_any_repr(lab: Lab) -> None:
    key = lab.key()
    request = lab.request(key=key, target=f"/generate?access_token={key.key}")
    texts = [repr(request), repr(lab.decide(request)), repr(key), repr(lab.rules)]
    assert not any(key.key in text or "upstream-secret" in text for text in texts)


BACKENDS = """
backends:
  one: {url: "http://127.0.0.1:8001", models: [llama3]}
  two: {url: "http://127.0.0.1:8002", models: [other]}
"""


@pytest.mark.parametrize(
    ("method", "target", "body", "reason"),
    [
        pytest.param("POST", "/v1/chat/completions", CHAT, Reason.ALLOWED, id="its-model-says-where"),
        pytest.param("GET", "/health", b"", Reason.MODEL_REQUIRED, id="nothing-says-where"),
        pytest.param("GET", "/v1/models", b"", Reason.ALLOWED, id="the-list-goes-nowhere"),
    ],
)
def test_with_several_model_servers_something_says_which(
    method: str, target: str, body: bytes, reason: Reason
) -> None:
    lab = Lab(
        """
store: memory://
authenticators: {keys: {type: api_key}}
models: {llama3: {context: 8192, max_output: 2048}, other: {}}
routes:
  - {name: all, match: {paths: [/*]}, authenticate: {any_of: [keys]}, authorize: [{models: any}]}
"""
        + BACKENDS
    )
    decided = lab.decide(lab.request(method, target, key=lab.key(), body=body))
    assert decided.reason is reason
