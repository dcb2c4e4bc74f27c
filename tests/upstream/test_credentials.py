"""Our own credentials at the model servers, through each gateway: each sees its own, and a client sees none."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from authz.store.records import Source
from tests.acceptance.lab import eventually
from tests.support.backends import Reply
from tests.support.certificates import Certificates
from tests.upstream.scene import GATEWAYS, Scene, scene

ROUTES = """
routes:
  - name: inference
    match: {api: [openai]}
    authenticate: {any_of: [keys]}
    authorize: [{models: any}]
    limits: [tokens]
limits:
  tokens: {unit: tokens, quota: 1M, window: 1h, partition_by: [key]}
"""
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="of the model server"', "X-Other": "kept"}


@pytest.fixture(scope="module", params=GATEWAYS)
def running(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    certificates: Certificates,
) -> Iterator[Scene]:
    with scene(request.param, tmp_path_factory.mktemp(request.param), certificates, ROUTES) as running:
        yield running


@pytest.fixture
def lab(running: Scene) -> Scene:
    running.one.will()
    running.two.will()
    return running


def test_each_model_server_sees_its_own_credential_alone(lab: Scene) -> None:
    spoofed = {"X-Authz-Backend": "two", "X-Model-Key": "guessed", "X-Api-Key": lab.key.key}
    assert lab.ask(headers=spoofed).status == 200
    assert lab.ask(model="large", headers=spoofed | {"X-Authz-Backend": "one"}).status == 200
    (one,), (two,) = lab.one.received, lab.two.received
    assert one.headers["authorization"] == "Bearer key-of-one"
    assert two.headers["x-model-key"] == "key-of-two"
    assert "x-model-key" not in one.headers  # a client may not try its luck with another's
    assert "authorization" not in two.headers
    for received in (one, two):
        assert "x-authz-backend" not in received.headers
        assert lab.key.key not in repr(received)
    assert "key-of-two" not in repr(one)
    assert "key-of-one" not in repr(two)


@pytest.mark.parametrize("body", [b'{"detail": "bad key"}', b""], ids=["with a body", "without"])
def test_a_401_of_the_model_server_is_our_fault(lab: Scene, body: bytes) -> None:
    lab.one.will(Reply(status=401, headers=CHALLENGE, body=body))
    answer = lab.ask()
    assert answer.status == 502
    assert answer.json()["error"]["code"] == "upstream_auth_failed"
    assert answer.header("content-type") == "application/json"
    assert answer.header("www-authenticate") is None
    assert answer.header("ratelimit") is not None
    assert b"bad key" not in answer.body
    reservation = lab.one.received[0].headers["x-authz-reservation"]
    entry = lab.entry_of(reservation)
    assert (entry.note.source, entry.note.status, entry.note.usage.output) == (Source.RELEASED, 502, 0)


@pytest.mark.parametrize("status", [400, 403, 404, 429, 500, 502, 503])
def test_every_other_answer_passes_as_it_is(lab: Scene, status: int) -> None:
    lab.one.will(Reply(status=status, headers=CHALLENGE, body=b'{"detail": "of the model"}'))
    answer = lab.ask()
    assert (answer.status, answer.body) == (status, b'{"detail": "of the model"}')
    assert answer.header("x-other") == "kept"
    assert answer.header("www-authenticate") is None


def test_a_401_of_authz_keeps_its_challenge(lab: Scene) -> None:
    answer = lab.ask(key=replace(lab.key, key=lab.key.key[:-1]))
    assert answer.status == 401
    assert (answer.header("www-authenticate") or "").startswith("Bearer")
    assert answer.json()["error"]["code"] == "invalid_api_key"
    assert not lab.one.received


def test_a_key_file_is_read_again(lab: Scene) -> None:
    path = lab.service.directory / "one.key"
    assert lab.ask().status == 200
    path.write_text("\n  another-key-of-one \n")
    try:

        def changed() -> bool:
            lab.one.will()
            assert lab.ask().status == 200
            return lab.one.received[0].headers["authorization"] == "Bearer another-key-of-one"

        eventually(changed, seconds=20)
        path.unlink()
        eventually(lambda: "config not reloaded" in lab.service.log, seconds=20)
        lab.one.will()
        assert lab.ask().status == 200
        assert lab.one.received[0].headers["authorization"] == "Bearer another-key-of-one"
    finally:
        path.write_text("key-of-one")
    eventually(lambda: _bearer(lab) == "Bearer key-of-one", seconds=20)
    for secret in ("key-of-one", "another-key-of-one", "key-of-two"):
        assert secret not in lab.service.log + lab.gateway.log


def _bearer(lab: Scene) -> str:
    lab.one.will()
    lab.ask()
    return lab.one.received[0].headers["authorization"]
