"""Limits as people spell them, through each gateway: counted by anything, refused in words of their own."""

from collections.abc import Iterator

import pytest

from tests.support.certificates import Certificates
from tests.upstream.scene import GATEWAYS, Scene, scene

ROUTES = """
routes:
  - name: models
    match: {methods: [GET], paths: [/v1/models]}
    authenticate: {any_of: [keys]}
    authorize: [{models: any}]
  - name: all
    match: {paths: ["/*"]}
    authenticate: {any_of: [keys]}
    authorize: [{models: any}]
    limits: [by-cookie, free, paid, guests]
limits:
  by-cookie: {quota: 2r/m, partition_by: [key, method, "cookie:tenant"], when: {cookies: {tenant: "*"}}}
  free: {quota: 1r/m, partition_by: [key], when: {headers: {X-Tier: free}}, refusal: {status: 402, message: "The free tier is used up: see https://example.com/plans."}}
  paid: {quota: 1r/m, partition_by: [key], when: {query: {tier: paid}}, refusal: {status: 503}}
  guests: {quota: 1r/h, partition_by: [key, ip_prefix], when: {ips: [127.0.0.0/8], methods: [DELETE]}, refusal: {status: 403}}
"""


@pytest.fixture(scope="module", params=GATEWAYS)
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificates: Certificates
) -> Iterator[Scene]:
    with scene(request.param, tmp_path_factory.mktemp(request.param), certificates, ROUTES) as running:
        yield running


def test_each_limit_counts_and_refuses_as_it_says(running: Scene) -> None:
    key = running.another_key()

    def asks(times: int, method: str = "GET", path: str = "/x", **headers: str) -> list[int]:
        return [running.ask(method=method, path=path, key=key, headers=headers).status for _ in range(times)]

    assert asks(3, Cookie="tenant=a") == [200, 200, 429]
    assert asks(3, Cookie="tenant=b") == [200, 200, 429]
    assert asks(2, "POST", Cookie="tenant=a") == [200, 200]
    assert asks(2, **{"X-Tier": "free"}) == [200, 402]
    assert asks(2, **{"X-Tier": "gold"}) == [200, 200]
    assert asks(2, path="/x?tier=paid") == [200, 503]
    assert asks(2, "DELETE") == [200, 403]
    refused = running.ask(method="GET", path="/x", key=key, headers={"X-Tier": "free"})
    error = refused.json()["error"]
    assert error["message"] == "The free tier is used up: see https://example.com/plans."
    assert error["code"] == "rate_limit_exceeded"
    assert refused.header("retry-after") is not None
    assert (refused.header("ratelimit") or "").startswith('"free";r=0')
