"""Wishes that only Envoy can grant: a timeout, further tries, a second request beside a slow one."""

import time
from collections.abc import Iterator

import pytest

from authz.store.records import Source
from tests.acceptance.lab import eventually
from tests.support.backends import Reply
from tests.support.certificates import Certificates
from tests.upstream.scene import Scene, scene
from tests.upstream.test_preferences import ROUTES, wishes


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Scene]:
    with scene("envoy", tmp_path_factory.mktemp("envoy-alone"), certificates, ROUTES) as running:
        yield running


@pytest.fixture
def lab(running: Scene) -> Scene:
    running.one.will()
    running.two.will()
    return running


@pytest.mark.parametrize("wished", [0.4, 60])
def test_a_timeout_is_clamped_and_kept(lab: Scene, wished: float) -> None:
    lab.one.will(Reply(delay=4))
    begun = time.monotonic()
    answer = lab.ask(headers=wishes(timeout_s=wished))
    took = time.monotonic() - begun
    assert (answer.status, answer.json()["error"]["code"]) == (504, "upstream_timeout")
    clamped = min(wished, 1.5)
    assert clamped - 0.05 <= took < 4  # before the model server answers
    eventually(lambda: bool(lab.one.received))  # Envoy's clock runs, whether the server has read it or not
    [received] = lab.one.received
    entry = lab.entry_of(received.headers["x-authz-reservation"])
    assert (entry.note.source, entry.note.status) == (Source.ESTIMATED, 504)  # it may well have worked on it


def test_retries_rescue_a_flaky_model_server(lab: Scene) -> None:
    lab.one.will(Reply(status=503), Reply(status=500))
    answer = lab.ask(headers=wishes(max_retries=9))
    assert answer.status == 200
    assert len(lab.one.received) == 3
    assert not lab.two.received  # never to a server with another secret
    assert {each.headers["authorization"] for each in lab.one.received} == {"Bearer key-of-one"}
    [reservation] = {each.headers["x-authz-reservation"] for each in lab.one.received}
    entry = lab.entry_of(reservation)
    assert (entry.note.source, entry.note.usage.output) == (Source.REPORTED, 5)  # charged once


def test_retries_are_clamped_and_off_unless_wished(lab: Scene) -> None:
    lab.one.will(*[Reply(status=503)] * 8)
    assert lab.ask(headers=wishes(max_retries=9)).status == 503
    assert len(lab.one.received) == 4
    for headers in ({}, wishes(max_retries=0)):
        lab.one.will(Reply(status=503))
        assert lab.ask(headers=headers).status == 503
        assert len(lab.one.received) == 1


def test_a_second_request_overtakes_a_slow_one(lab: Scene) -> None:
    lab.one.will(Reply(delay=4, body=b'{"slow": true}'))
    begun = time.monotonic()
    answer = lab.ask(headers=wishes(hedge_delay=0.01))
    took = time.monotonic() - begun
    assert (answer.status, answer.json().get("slow")) == (200, None)
    assert 0.25 <= took < 4
    assert len(lab.one.received) == 2


def test_clients_do_not_steer_envoy_themselves(lab: Scene) -> None:
    lab.one.will(Reply(status=503))
    spoofed = {
        "X-Envoy-Retry-On": "5xx",
        "X-Envoy-Max-Retries": "3",
        "X-Envoy-Upstream-Rq-Timeout-Ms": "1",
    }
    assert lab.ask(headers=spoofed).status == 503
    assert len(lab.one.received) == 1
