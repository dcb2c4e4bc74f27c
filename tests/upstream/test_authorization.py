"""Who may do what, through each gateway: roles and scopes of each path, and conditions over anything of a request."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.certificates import Certificates
from tests.upstream.scene import GATEWAYS, Scene, scene, signed

ROUTES = """
routes:
  - name: health
    match: {methods: [GET], paths: [/health, /v1/models]}
    authenticate: {any_of: [sso, keys]}
    authorize: [{models: any}]
  - name: embeddings
    match: {methods: [POST], paths: [/v1/embeddings]}
    authenticate: {any_of: [sso]}
    authorize: [{models: [small]}, {scopes: [embed]}]
    limits: [one-at-a-time]
  - name: rerank
    match: {methods: [POST], paths: [/rerank, /classify]}
    authenticate: {any_of: [sso]}
    authorize: [{models: any}, {scopes: [embed, rank]}]
  - name: predict
    match: {methods: [POST], paths: [/predict]}
    authenticate: {any_of: [sso]}
    authorize: [{models: any}, {roles: [staff, senior]}]
  - name: conditions
    match: {methods: [GET], paths: [/conditions/*]}
    authenticate: {any_of: [sso]}
    authorize:
      - when: >-
          (request.path == '/conditions/claim' && claims.org.plan == 'pro') ||
          (request.path == '/conditions/address' && in_network(ip, '127.0.0.0/8')) ||
          (request.path == '/conditions/elsewhere' && in_network(ip, '10.0.0.0/8')) ||
          (request.path == '/conditions/time' && now > timestamp('2020-01-01T00:00:00Z')) ||
          (request.path == '/conditions/past' && now < timestamp('2020-01-01T00:00:00Z')) ||
          (request.path == '/conditions/header' && request.headers['x-tier'] == 'gold') ||
          (request.path == '/conditions/query' && request.query.tier == 'gold') ||
          (request.path == '/conditions/subject' && subject.user == 'carol' && 'staff' in subject.roles)
  - name: everything-else
    match: {methods: [POST], paths: [/v1/*]}
    authenticate: {any_of: [sso]}
    authorize: [{models: any}, {scopes: [all]}, {when: "model == 'large' && request.max_tokens <= 16"}]
limits:
  one-at-a-time: {unit: concurrency, quota: 4, partition_by: [user]}
"""

ROWS: list[tuple[str, str, dict[str, Any], dict[str, Any], int]] = [
    ("GET", "/health", {}, {}, 200),
    ("POST", "/v1/embeddings", {"scope": "embed other"}, {}, 200),
    ("POST", "/v1/embeddings", {"scp": ["embed"]}, {}, 200),
    ("POST", "/v1/embeddings", {"scope": "rank"}, {}, 403),
    ("POST", "/v1/embeddings", {"scope": "embed"}, {"model": "large"}, 403),
    ("POST", "/v1/embeddings", {"scope": "embed"}, {"model": None}, 400),
    ("POST", "/rerank", {"scope": "embed rank"}, {}, 200),
    ("POST", "/classify", {"scope": "embed rank"}, {}, 200),
    ("POST", "/rerank", {"scope": "embed"}, {}, 403),
    ("POST", "/predict", {"realm_access": {"roles": ["senior"]}}, {}, 200),
    ("POST", "/predict", {"realm_access": {"roles": ["intern"]}}, {}, 403),
    ("POST", "/predict", {"roles": ["senior"]}, {}, 403),
    ("GET", "/predict", {"realm_access": {"roles": ["senior"]}}, {}, 403),
    ("POST", "/v1/anything", {"scope": "all"}, {"model": "large"}, 200),
    ("POST", "/v1/anything", {"scope": "all"}, {"model": "small"}, 403),
    ("POST", "/v1/anything", {"scope": "all"}, {"model": "large", "max_tokens": 17}, 403),
    ("POST", "/other", {"scope": "all"}, {}, 403),
    ("GET", "/conditions/claim", {"org": {"plan": "pro"}}, {}, 200),
    ("GET", "/conditions/claim", {"org": {"plan": "free"}}, {}, 403),
    ("GET", "/conditions/claim", {}, {}, 403),
    ("GET", "/conditions/claim", {"org": "pro"}, {}, 403),
    ("GET", "/conditions/address", {}, {}, 200),
    ("GET", "/conditions/address", {}, {"headers": {"X-Forwarded-For": "192.0.2.1"}}, 200),
    ("GET", "/conditions/elsewhere", {}, {"headers": {"X-Forwarded-For": "10.0.0.1"}}, 403),
    ("GET", "/conditions/time", {}, {}, 200),
    ("GET", "/conditions/past", {}, {}, 403),
    ("GET", "/conditions/header", {}, {"headers": {"X-Tier": "gold"}}, 200),
    ("GET", "/conditions/header", {}, {}, 403),
    ("GET", "/conditions/query?tier=gold", {}, {}, 200),
    ("GET", "/conditions/query?tier=lead", {}, {}, 403),
    ("GET", "/conditions/subject", {"realm_access": {"roles": ["staff"]}}, {}, 200),
    ("GET", "/conditions/subject", {"realm_access": {"roles": ["staff"]}, "sub": "mallory"}, {}, 403),
]


@pytest.fixture(scope="module", params=GATEWAYS)
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificates: Certificates
) -> Iterator[Scene]:
    with scene(request.param, tmp_path_factory.mktemp(request.param), certificates, ROUTES) as running:
        yield running


@pytest.mark.parametrize(("method", "path", "claims", "more", "status"), ROWS, ids=range(len(ROWS)))
def test_who_may(
    running: Scene, method: str, path: str, claims: dict[str, Any], more: dict[str, Any], status: int
) -> None:
    running.one.will()
    running.two.will()
    answer = running.ask(method=method, path=path, token=signed(**claims), **more)
    assert answer.status == status, answer
    assert bool(running.one.received or running.two.received) is (status == 200)
    if status == 403:
        assert answer.json()["error"]["type"] == "permission_error"
        assert b"when" not in answer.body  # the condition itself is not the client's business


def test_the_operator_is_told_which_condition(running: Scene) -> None:
    refused = running.ask(method="GET", path="/conditions/past", token=signed())
    kept = running.refusal(refused)
    assert kept["reason"] == "not_authorized"
    assert "is false." in kept["detail"] or "cannot be evaluated" in kept["detail"]
    assert "request.path == '/conditions/claim'" in kept["detail"]
