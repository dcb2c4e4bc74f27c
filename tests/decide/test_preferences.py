"""What a client may wish for one request: validated to the letter, clamped to its route, never beyond it."""

import json

import pytest

from authz.decision import Allow, Deny
from authz.preference import origin_of
from authz.report import Report
from authz.request import Gateway, GatewayKind
from tests.support.lab import CHAT, EDGE, Lab, step

CONFIG = """
store: memory://
gateways: {edge: {kind: envoy, token: "edge-token-of-the-tests"}}
authenticators: {keys: {type: api_key}}
models: {llama3: {max_output: 64}, big: {max_output: 64}}
backends:
  one: {url: "http://10.0.0.1:8000", models: [llama3], bearer: key-of-one}
  two: {url: "http://10.0.0.2:8000", models: [llama3], bearer: key-of-two}
routes:
  - name: all
    match: {methods: [POST], paths: [/v1/chat/completions, /predict]}
    authenticate: {any_of: [keys]}
    authorize: [{models: any}]
    request_id: {header: x-own-id}
    preferences:
      header: x-wishes
      model_header: x-model
      target_header: x-target-host
      timeout: 60s
      max_retries: 3
      hedge_delay: 200ms
      max_concurrent_requests: 2
      targets: {"https://two.example.com": two}
      ignored: [batch_size]
  - name: few
    match: {methods: [POST], paths: [/few]}
    authenticate: {any_of: [keys]}
    authorize: [{models: any}]
    preferences: {header: x-wishes, timeout: 60s}
"""


@pytest.fixture
def lab() -> Lab:
    return Lab(CONFIG)


def ask(
    lab: Lab, wishes: object = None, *, path: str = "/v1/chat/completions", body: bytes = CHAT, **headers: str
) -> Allow | Deny:
    carried = {name.replace("_", "-"): value for name, value in headers.items()}
    if wishes is not None:
        carried["x-wishes"] = wishes if isinstance(wishes, str) else json.dumps(wishes)
    return lab.decide(lab.request(target=path, key=lab.key(), headers=carried, body=body))


def envoy(allow: Allow | Deny) -> dict[str, str]:
    assert isinstance(allow, Allow), allow
    return {n.removeprefix("x-envoy-"): v for n, v in allow.upstream if n.startswith("x-envoy-")}


UP, TRY = "upstream-rq-timeout-ms", "upstream-rq-per-try-timeout-ms"
GRANTED = [
    ({}, {}),
    ({"timeout_s": 30}, {UP: "30000"}),
    ({"timeout_s": 0.25}, {UP: "250"}),
    ({"timeout_s": 1e-9}, {UP: "1"}),
    ({"timeout_s": 60.001}, {UP: "60000"}),
    ({"timeout_s": 1e9}, {UP: "60000"}),
    ({"max_retries": 2}, {"retry-on": "5xx", "max-retries": "2"}),
    ({"max_retries": 10**30}, {"retry-on": "5xx", "max-retries": "3"}),
    ({"max_retries": 0}, {}),
    ({"hedge_delay": 0.5}, {"retry-on": "5xx", "max-retries": "1", "hedge-on-per-try-timeout": "true", TRY: "500"}),
    ({"hedge_delay": 0.01, "max_retries": 2}, {"retry-on": "5xx", "max-retries": "2", "hedge-on-per-try-timeout": "true", TRY: "200"}),
    ({"batch_size": "anything"}, {}),
]  # fmt: skip


@pytest.mark.parametrize(("wishes", "granted"), GRANTED, ids=range(len(GRANTED)))
def test_what_is_granted(lab: Lab, wishes: object, granted: dict[str, str]) -> None:
    allow = ask(lab, wishes)
    assert envoy(allow) == granted
    assert isinstance(allow, Allow)
    assert {"x-wishes", "x-model", "x-target-host"} <= set(allow.remove)


REFUSED: list[tuple[object, str | None]] = [
    ("", "x-wishes"),
    ("{", "x-wishes"),
    ("[]", "x-wishes"),
    ("null", "x-wishes"),
    ('{"timeout_s": 1, "timeout_s": 2}', "x-wishes"),
    ('{"timeout_s": NaN}', "x-wishes"),
    ('{"timeout_s": Infinity}', "x-wishes"),
    ('{"timeout_s": 1e999}', "x-wishes"),
    ('{"a": ' * 40 + "1" + "}" * 40, "x-wishes"),
    ('{"batch_size": "' + "x" * 5000 + '"}', "x-wishes"),
    ({"timeout_s": "30"}, "timeout_s"),
    ({"timeout_s": True}, "timeout_s"),
    ({"timeout_s": None}, "timeout_s"),
    ({"timeout_s": 0}, "timeout_s"),
    ({"timeout_s": -1}, "timeout_s"),
    ({"timeout_s": 1e10}, "timeout_s"),
    ({"timeout_s": [1]}, "timeout_s"),
    ({"max_retries": 1.0}, "max_retries"),
    ({"max_retries": -1}, "max_retries"),
    ({"max_retries": True}, "max_retries"),
    ({"hedge_delay": 0}, "hedge_delay"),
    ({"hedge_delay": "1s"}, "hedge_delay"),
    ({"max_concurrent_requests": 0}, "max_concurrent_requests"),
    ({"max_concurrent_requests": 1.5}, "max_concurrent_requests"),
    ({"target_host": 5}, "target_host"),
    ({"target_host": None}, "target_host"),
    ({"retry_budget_pct": 0.1}, None),
    ({"Timeout_s": 1}, None),
    ({"timeout_s\u0000": 1}, None),
]


@pytest.mark.parametrize(("wishes", "param"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_refused(lab: Lab, wishes: object, param: str | None) -> None:
    denied = ask(lab, wishes)
    assert isinstance(denied, Deny)
    error = json.loads(denied.body)["error"]
    assert (denied.status, error["code"], error["param"]) == (400, "invalid_preference", param)


def test_what_a_route_does_not_offer_is_refused(lab: Lab) -> None:
    assert envoy(ask(lab, {"timeout_s": 5}, path="/few")) == {UP: "5000"}
    for field in ("max_retries", "hedge_delay", "max_concurrent_requests", "target_host", "batch_size"):
        denied = ask(lab, {field: 1}, path="/few")
        assert isinstance(denied, Deny)
        assert "There are timeout_s." in denied.message
    # Headers that only another route reads count for nothing here, and go nowhere.
    allow = ask(lab, path="/few", x_target_host="https://evil.example.com", x_model="big")
    assert isinstance(allow, Allow)
    assert allow.model == "llama3"  # the body's, not the header's
    assert {"x-target-host", "x-model"} <= set(allow.remove)


@pytest.mark.parametrize("header", ["x-wishes", "x-model", "x-target-host", "x-own-id"])
def test_attack_37_a_header_that_came_twice(lab: Lab, header: str) -> None:
    request = lab.request(key=lab.key(), headers={header: "a, a"}, repeated=frozenset({header}))
    denied = lab.decide(request)
    assert isinstance(denied, Deny)
    assert (denied.status, json.loads(denied.body)["error"]["param"]) == (400, header)


ORIGINS = [
    ("https://two.example.com", "https://two.example.com:443"),
    ("HTTPS://Two.Example.com:443/", "https://two.example.com:443"),
    ("http://[2001:DB8::1]", "http://[2001:db8::1]:80"),
    ("https://two.example.com.", "https://two.example.com.:443"),
    ("https://two.example.com@evil.com", None),
    ("https://evil.com/@two.example.com", None),
    ("https://two.example.com\\@evil.com", None),
    ("https://two.example.com/x", None),
    ("https://two.example.com?", None),
    ("https://two.example.com#", None),
    ("https://two.example.com:0x1bb", None),
    ("https://two.example.com:99999", None),
    (" https://two.example.com", None),
    ("https://two.example.com\t", None),
    ("//two.example.com", None),
    ("file:///etc/passwd", None),
    ("https://tw\u00f6.example.com", None),
    ("https://[::1", None),
    ("", None),
]


@pytest.mark.parametrize(("url", "origin"), ORIGINS, ids=range(len(ORIGINS)))
def test_one_spelling_for_each_target(lab: Lab, url: str, origin: str | None) -> None:
    assert origin_of(url) == origin
    outcome = ask(lab, x_target_host=url)
    if origin == "https://two.example.com:443":
        assert isinstance(outcome, Allow)
        assert outcome.backend == "two"
        assert dict(outcome.upstream)["authorization"] == "Bearer key-of-two"
    else:
        assert isinstance(outcome, Deny)
        assert json.loads(outcome.body)["error"]["code"] == "target_not_allowed"
        assert "evil" not in outcome.message


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("https://169.254.169.254/", "https://169.254.169.254:443"),
        ("https://me:hunter2@two.example.com", "something that is no origin"),
        ("https://two.example.com/?key=hunter2", "something that is no origin"),
    ],
)
def test_the_operator_is_told_which_target_and_which_are_offered(lab: Lab, url: str, named: str) -> None:
    """Nothing of a URL that may hold a secret (82)."""
    denied = ask(lab, x_target_host=url)
    assert isinstance(denied, Deny)
    assert denied.detail == f"It names {named}; the route offers https://two.example.com:443."
    assert b"example" not in denied.body


def test_a_target_serves_the_model_or_is_none(lab: Lab) -> None:
    big = CHAT.replace(b"llama3", b"big")
    for headers in ({"x_target_host": "https://two.example.com"}, {}):
        denied = ask(lab, body=big, **headers)
        assert isinstance(denied, Deny)
        assert json.loads(denied.body)["error"]["code"] == "target_not_allowed"


@pytest.mark.parametrize(
    ("header", "body", "outcome"),
    [
        ("llama3", CHAT, "llama3"),
        ("llama3", b"{}", "llama3"),
        ("big", CHAT, "model_conflict"),
        ("ghost", b"{}", "model_not_allowed"),
        (" ", b"{}", "invalid_preference"),
        ("a\u00e9", b"{}", "invalid_preference"),
    ],
)
def test_the_header_that_names_the_model(lab: Lab, header: str, body: bytes, outcome: str) -> None:
    decision = ask(lab, body=body, path="/predict", x_model=header)
    found = decision.model if isinstance(decision, Allow) else json.loads(decision.body)["error"]["code"]
    assert found == outcome


def test_so_many_at_once(lab: Lab) -> None:
    key = lab.key()

    def running(most: int) -> Allow | Deny:
        headers = {"x-wishes": json.dumps({"max_concurrent_requests": most})}
        return lab.decide(lab.request(key=key, headers=headers))

    first, second, third = running(2), running(99), running(99)
    assert isinstance(first, Allow)
    assert isinstance(second, Allow)
    assert isinstance(third, Deny)
    assert third.status == 429
    assert "'all:max_concurrent_requests'" in third.message
    assert isinstance(lab.decide(lab.request(key=key)), Allow)  # does not say that it counts
    assert isinstance(lab.decide(lab.request(key=lab.key(), headers={"x-wishes": '{"max_concurrent_requests": 1}'})), Allow)  # fmt: skip

    step(lab.service.settle(Report(reservation=str(first.reservation), status=200), EDGE))
    assert isinstance(running(2), Allow)


@pytest.mark.parametrize("kind", [GatewayKind.TRAEFIK, GatewayKind.NGINX, GatewayKind.CADDY])
def test_no_other_gateway_is_told_in_envoys_words(lab: Lab, kind: GatewayKind) -> None:
    gateway = Gateway(name="edge", kind=kind, proven=True)
    headers = {"x-wishes": '{"timeout_s": 1, "max_retries": 2, "hedge_delay": 1}'}
    decision = lab.decide(lab.request(key=lab.key(), headers=headers, gateway=gateway))
    assert envoy(decision) == {}
    told = dict(decision.upstream).get("x-authz-timeout-ms")
    assert told == ("1000" if kind is GatewayKind.TRAEFIK else None)


def test_nobody_is_told_what_is_offered_before_saying_who_they_are(lab: Lab) -> None:
    denied = lab.decide(lab.request(headers={"x-wishes": "{"}))
    assert isinstance(denied, Deny)
    assert denied.status == 401


@pytest.mark.parametrize("own", ["", "a" * 129, "two words", "a\u00e9", "-x", "a/b"])
def test_attack_106_an_id_of_the_clients_own_is_checked(lab: Lab, own: str) -> None:
    outcome = ask(lab, x_own_id=own)
    if own:
        assert isinstance(outcome, Deny)
        assert json.loads(outcome.body)["error"]["code"] == "invalid_header"
    else:
        assert isinstance(outcome, Allow)
        assert dict(outcome.upstream)["x-own-id"] == outcome.request_id == outcome.client_request_id


def test_attack_106_the_same_id_is_charged_each_time(lab: Lab) -> None:
    ours = Gateway(name="edge", kind=GatewayKind.ENVOY, proven=True, request_id_is_ours=True)
    key = lab.key("alice", "requests=2/day")
    for number, expected in enumerate((Allow, Allow, Deny)):
        request = lab.request(
            key=key, headers={"x-own-id": "fixed"}, gateway=ours, request_id=f"envoys-{number}"
        )
        decision = lab.decide(request)
        assert isinstance(decision, expected)
        assert decision.client_request_id == "fixed"
        assert decision.request_id != "fixed"
