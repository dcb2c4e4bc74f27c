"""Limits that go by anything of a request, count by anything of it, and refuse in words of their own."""

import base64
import json
from typing import Any

import jwt
import pytest

from authz.decision import Allow, Deny
from tests.support.lab import Lab

SECRET = bytes(range(32))
HEAD = f"""
store: memory://
gateways: {{edge: {{kind: envoy, token: "edge-token-of-the-tests"}}}}
authenticators:
  sso:
    type: jwt
    algorithms: [HS256]
    sign_key: {base64.b64encode(SECRET).decode()}
    map_users: true
routes:
  - name: all
    match: {{paths: ["/*"]}}
    authenticate: {{any_of: [sso]}}
    authorize: [{{models: any}}]
    limits: [it]
limits:
  it: """


def token(**claims: Any) -> str:
    return jwt.encode({"sub": "alice", "exp": 4_000_000_000, **claims}, SECRET, algorithm="HS256")


def lab(limit: str) -> Lab:
    return Lab(HEAD + limit)


def ask(
    lab: Lab,
    target: str = "/generate",
    *,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    ip: str | None = "10.1.2.3",
    **claims: Any,
) -> Allow | Deny:
    request = lab.request(method, target, key=token(**claims), headers=headers, body=b"", ip=ip)
    return lab.decide(request)


PARTITIONS = [
    ("method", {}, {"method": "DELETE"}),
    ("path", {}, {"target": "/other"}),
    ("query:tier", {"target": "/generate?tier=a"}, {"target": "/generate?tier=b"}),
    ("header:x-tier", {"headers": {"x-tier": "a"}}, {"headers": {"x-tier": "b"}}),
    ("cookie:tier", {"headers": {"cookie": "tier=a"}}, {"headers": {"cookie": "tier=b; other=a"}}),
    ("ip", {"ip": "10.1.2.3"}, {"ip": "10.1.2.4"}),
    ("ip_prefix", {"ip": "10.1.2.3"}, {"ip": "10.1.3.3"}),
    ("claim:org.plan", {"org": {"plan": "a"}}, {"org": {"plan": "b"}}),
    ("claim:paying", {"paying": True}, {"paying": False}),
    ("user", {"sub": "alice"}, {"sub": "bob"}),
]


@pytest.mark.parametrize(("key", "one", "other"), PARTITIONS, ids=[row[0] for row in PARTITIONS])
def test_what_is_counted_apart(key: str, one: dict[str, Any], other: dict[str, Any]) -> None:
    made = lab(f'{{quota: 2r/m, partition_by: ["{key}"]}}')
    for asked in (one, other):
        outcomes = [ask(made, **asked) for _ in range(3)]
        assert [isinstance(each, Allow) for each in outcomes] == [True, True, False]


WHEN = [
    ("headers: {X-Tier: free}", {"headers": {"x-tier": "free"}}, {"headers": {"x-tier": "Free"}}),
    ('headers: {x-tier: "*"}', {"headers": {"x-tier": "any"}}, {}),
    ("query: {tier: free}", {"target": "/generate?tier=fr%65e"}, {"target": "/generate?tier=paid"}),
    ("cookies: {tier: free}", {"headers": {"cookie": "a=b; tier=free"}}, {"headers": {"cookie": "a=b"}}),
    ("ips: [10.0.0.0/8, 2001:db8::/32]", {"ip": "10.9.9.9"}, {"ip": "11.0.0.1"}),
    ("ips: [10.0.0.0/8, 2001:db8::/32]", {"ip": "2001:db8::7"}, {"ip": None}),
    ("claims: {org.plan: free}", {"org": {"plan": "free"}}, {"org": "free"}),
    ("claims: {groups: students}", {"groups": ["staff", "students"]}, {"groups": ["staff"]}),
    ('claims: {beta: "true"}', {"beta": True}, {"beta": False}),
    ('claims: {org: "*"}', {"org": "x"}, {}),
    ("methods: [POST], headers: {x-tier: free}", {"method": "POST", "headers": {"x-tier": "free"}}, {"headers": {"x-tier": "free"}}),
]  # fmt: skip


@pytest.mark.parametrize(("when", "fits", "differs"), WHEN, ids=range(len(WHEN)))
def test_when_a_limit_applies(when: str, fits: dict[str, Any], differs: dict[str, Any]) -> None:
    made = lab(f"{{quota: 1r/m, when: {{{when}}}}}")
    assert isinstance(ask(made, **fits), Allow)
    assert isinstance(ask(made, **fits), Deny)
    for _ in range(3):
        outcome = ask(made, **differs)
        assert isinstance(outcome, Allow)
        assert not outcome.limits


TWICE = [
    ("headers: {x-tier: free}", "/x", {"x-tier": "paid, free"}, {"x-tier"}),
    ('headers: {x-tier: "*"}', "/x", {"x-tier": ", "}, {"x-tier"}),
    ("query: {tier: free}", "/x?tier=paid&tier=free", {}, set()),
    ("cookies: {tier: free}", "/x", {"cookie": "tier=paid; tier=free"}, set()),
]


@pytest.mark.parametrize(
    ("when", "target", "headers", "repeated"), TWICE, ids=["header", "any", "query", "cookie"]
)
def test_attack_37_nobody_is_out_of_a_limit_by_sending_twice(
    when: str, target: str, headers: dict[str, str], repeated: set[str]
) -> None:
    """The model server may take the one or the other."""
    made = lab(f"{{quota: 1r/m, when: {{{when}}}}}")
    twice = frozenset(repeated)
    asked = [
        made.request("GET", target, key=token(), headers=headers, body=b"", repeated=twice) for _ in range(2)
    ]
    assert isinstance(made.decide(asked[0]), Allow)
    assert isinstance(made.decide(asked[1]), Deny)


@pytest.mark.parametrize("status", [402, 403, 429, 503])
def test_a_refusal_in_words_of_its_own(status: int) -> None:
    text = "The free tier is used up: see https://example.com/plans."
    made = lab(f'{{quota: 1r/m, refusal: {{status: {status}, message: "{text}"}}}}')
    assert isinstance(ask(made), Allow)
    denied = ask(made)
    assert isinstance(denied, Deny)
    assert denied.status == status
    error = json.loads(denied.body)["error"]
    assert (error["message"], error["code"]) == (text, "rate_limit_exceeded")
    headers = dict(denied.headers)
    assert headers["retry-after"] == "60"
    assert headers["ratelimit"].startswith('"it";r=0')
    kept = made.store.denial_log.show(denied.request_id)
    assert kept is not None
    assert (kept.status, kept.limits[0]["policy"]) == (status, "it")


def test_a_status_alone_keeps_the_figures() -> None:
    made = lab("{quota: 1r/m, refusal: {status: 503}}")
    ask(made)
    denied = ask(made)
    assert isinstance(denied, Deny)
    assert (denied.status, "'it' of everybody is used up" in denied.message) == (503, True)


def test_the_words_are_those_of_the_limit_that_refuses() -> None:
    made = Lab(
        (HEAD + "{quota: 1r/m, refusal: {message: minute}}\n  day: {quota: 1r/day, refusal: {message: day}}\n")
        .replace("limits: [it]", "limits: [it, day]")
    )  # fmt: skip
    ask(made)
    denied = ask(made)
    assert isinstance(denied, Deny)
    assert denied.message == "day"  # which frees later


@pytest.mark.parametrize(
    ("rate", "seconds"), [("2r/m", 60), ("1r/s", 1), ("5r/h", 3600), ("10r/ day", 86_400)]
)
def test_a_rate_as_one_word(rate: str, seconds: int) -> None:
    allowed = ask(lab(f"{{quota: {rate}, partition_by: [method]}}"))
    assert isinstance(allowed, Allow)
    (state,) = allowed.limits
    assert (state.limit.quota, state.limit.window_seconds) == (int(rate.split("r")[0]), seconds)
