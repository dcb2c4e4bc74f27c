"""A client's wishes for one request, through real gateways: Baseten's headers, and what comes of them."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event

import pytest

from tests.acceptance.lab import eventually
from tests.support.backends import Reply
from tests.support.certificates import Certificates
from tests.upstream.scene import GATEWAYS, Scene, scene

ROUTES = """
routes:
  - name: inference
    match: {methods: [POST], paths: [/v1/chat/completions, /predict]}
    authenticate: {any_of: [keys]}
    authorize: [{models: any}]
    limits: [tokens]
    request_id: {header: x-baseten-customer-request-id}
    preferences:
      header: x-baseten-request-preferences
      model_header: x-baseten-model
      target_header: x-target-host
      timeout: 1500ms
      max_retries: 3
      hedge_delay: 300ms
      max_concurrent_requests: 4
      targets: {"https://gpu-two.example.com": two}
      ignored: [batch_size]
  - name: others
    match: {methods: [GET], paths: [/plain, /v1/models]}
    authenticate: {any_of: [keys]}
    authorize: [{models: any}]
limits:
  tokens: {unit: tokens, quota: 1M, window: 1h, partition_by: [key]}
"""
PREFERENCES, MODEL, TARGET = "X-Baseten-Request-Preferences", "X-Baseten-Model", "X-Target-Host"
CUSTOMER = "X-Baseten-Customer-Request-Id"
TWO = "https://gpu-two.example.com"


def wishes(**fields: object) -> dict[str, str]:
    return {PREFERENCES: json.dumps(fields)}


@pytest.fixture(scope="module", params=GATEWAYS)
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificates: Certificates
) -> Iterator[Scene]:
    with scene(request.param, tmp_path_factory.mktemp(request.param), certificates, ROUTES) as running:
        yield running


@pytest.fixture
def lab(running: Scene) -> Scene:
    running.one.will()
    running.two.will()
    return running


def test_what_a_client_wishes_never_reaches_the_model(lab: Scene) -> None:
    headers = wishes(timeout_s=1, max_retries=2, hedge_delay=1, max_concurrent_requests=2, batch_size=9)
    assert lab.ask(headers={**headers, MODEL: "small"}).status == 200
    assert (
        lab.ask(path="/plain", method="GET", headers={**headers, MODEL: "small", TARGET: TWO}).status == 200
    )
    for received in (*lab.one.received, *lab.two.received):
        names = set(received.headers)
        assert not {name for name in names if "baseten" in name} - {CUSTOMER.lower()}
        assert "x-target-host" not in names
        assert {name for name in names if name.startswith("x-envoy")} <= {"x-envoy-external-address"}


TARGETS = [
    ({TARGET: TWO}, 200, "two"),
    ({TARGET: "https://GPU-two.example.com:443/"}, 200, "two"),
    (wishes(target_host=TWO), 200, "two"),
    ({}, 200, "one"),
    ({TARGET: "https://evil.example.com"}, 400, None),
    ({TARGET: "http://169.254.169.254"}, 400, None),
    ({TARGET: f"{TWO}@evil.example.com"}, 400, None),
    ({TARGET: f"{TWO}/internal"}, 400, None),
    ({TARGET: "two"}, 400, None),
    (wishes(target_host="http://127.0.0.1:9"), 400, None),
    ({TARGET: TWO, **wishes(target_host="https://evil.example.com")}, 400, None),
]


@pytest.mark.parametrize(("headers", "status", "reached"), TARGETS, ids=range(len(TARGETS)))
def test_only_a_target_on_the_list(
    lab: Scene, headers: dict[str, str], status: int, reached: str | None
) -> None:
    answer = lab.ask(headers=headers)
    assert answer.status == status
    got = {"one": len(lab.one.received), "two": len(lab.two.received)}
    assert got == {"one": int(reached == "one"), "two": int(reached == "two")}
    if status == 400:
        assert answer.json()["error"]["code"] == "target_not_allowed"
    elif reached == "two":
        assert lab.two.received[0].headers["x-model-key"] == "key-of-two"
        assert "key-of-one" not in repr(lab.two.received)


def test_the_model_of_the_header(lab: Scene) -> None:
    assert lab.ask(path="/predict", model=None, headers={MODEL: "large"}).status == 200
    assert lab.two.received[0].headers["x-authz-model"] == "large"
    assert lab.ask(model="small", headers={MODEL: "small"}).status == 200
    conflict = lab.ask(model="small", headers={MODEL: "large"})
    assert (conflict.status, conflict.json()["error"]["code"]) == (400, "model_conflict")
    assert lab.ask(path="/predict", model=None, headers={MODEL: "ghost"}).status == 403
    assert len(lab.one.received) + len(lab.two.received) == 2


def test_the_request_id_of_the_client(lab: Scene) -> None:
    """Upstream, in the ledger, in the log of refusals and in the gateway's own; never charged once for two (attack 106)."""
    for _ in range(2):
        assert lab.ask(headers={CUSTOMER: "order-17"}).status == 200
    assert [each.headers[CUSTOMER.lower()] for each in lab.one.received] == ["order-17", "order-17"]
    reservations = [each.headers["x-authz-reservation"] for each in lab.one.received]
    assert len(set(reservations)) == 2
    for each in reservations:
        assert lab.entry_of(each).facts.client_request_id == "order-17"
    assert "order-17" in lab.gateway.log_with("order-17")
    lab.one.will()
    made = lab.ask()
    assert lab.one.received[0].headers[CUSTOMER.lower()] == made.header("x-request-id")
    refused = lab.ask(model="ghost", headers={CUSTOMER: "order-18"})
    assert lab.refusal(refused)["client_request_id"] == "order-18"
    assert lab.ask(headers={CUSTOMER: "two words"}).status == 400


@contextmanager
def held_up(lab: Scene, count: int) -> Iterator[Event]:
    """The next so many requests are answered when it is set: at the end of the context at the latest."""
    go_on = Event()
    lab.one.will(*[Reply(go_on=go_on)] * count)
    try:
        yield go_on
    finally:
        go_on.set()


def test_at_most_so_many_at_once(lab: Scene) -> None:
    key = lab.another_key()
    with held_up(lab, 2) as go_on, ThreadPoolExecutor(2) as pool:
        slow = [pool.submit(lab.ask, key=key) for _ in range(2)]
        eventually(lambda: len(lab.one.received) == 2)
        refused = lab.ask(key=key, headers=wishes(max_concurrent_requests=1))
        go_on.set()
        statuses = [each.result().status for each in slow]
    assert statuses == [200, 200]
    assert refused.status == 200  # the two did not say that they count
    for each in lab.one.received:
        lab.entry_of(each.headers["x-authz-reservation"])  # it is over, as authz knows by now
    with held_up(lab, 1) as go_on, ThreadPoolExecutor(1) as pool:
        first = pool.submit(lab.ask, key=key, headers=wishes(max_concurrent_requests=99))
        eventually(lambda: len(lab.one.received) == 1)
        refused = lab.ask(key=key, headers=wishes(max_concurrent_requests=1))
        another = lab.ask(key=key, headers=wishes(max_concurrent_requests=2))
        go_on.set()
        assert first.result().status == 200
    assert (refused.status, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert "max_concurrent_requests" in refused.json()["error"]["message"]
    assert another.status == 200


def test_a_timeout_where_the_gateway_can_keep_it(lab: Scene) -> None:
    can = lab.gateway.name in ("rendered-envoy", "rendered-traefik")
    lab.one.will(Reply(delay=3))
    begun = time.monotonic()
    answer = lab.ask(headers=wishes(timeout_s=0.5))
    took = time.monotonic() - begun
    if can:
        assert (answer.status, answer.json()["error"]["code"]) == (504, "upstream_timeout")
        assert 0.45 <= took < 3
    else:
        assert (answer.status, took >= 3) == (200, True)
    lab.one.will()
    assert lab.ask(headers=wishes(timeout_s=1.4)).status == 200
