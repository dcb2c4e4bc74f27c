"""Shared secrets of whole classes of callers, and how often one may be wrong."""

from hashlib import sha256
from typing import Any

import pytest

from authz.authenticate.presented import AUTHORIZATION, Presented, Slot
from authz.authenticate.protocol import Refused
from authz.authenticate.shared_secret import SharedSecretAuthenticator
from authz.authenticate.throttle import EVERY_MS, TRIES, Throttle
from authz.reason import ANSWERS, Reason
from authz.subject import Subject
from tests.authenticate.fakes import Clock, at_once, present

HEADER, QUERY = Slot("header", "x-worker-secret"), Slot("query", "token")
WORKER, ADMIN = "worker-secret-of-the-tests", "admin-secret-of-the-tests"


class Scene:
    def __init__(self, *slots: Slot) -> None:
        digests = {
            name: sha256(text.encode()).digest() for name, text in (("worker", WORKER), ("ops", ADMIN))
        }
        self.clock = Clock()
        self.authenticator = SharedSecretAuthenticator(
            "machines", slots or (HEADER, QUERY), digests, Throttle(), self.clock
        )

    def ask(self, secret: str, ip: str | None = "192.0.2.1") -> Any:
        return self.judge(present({"x-worker-secret": secret}, ip=ip))

    def judge(self, presented: Presented) -> Any:
        return at_once(self.authenticator.authenticate(presented))


def reason(outcome: Any) -> Reason:
    assert isinstance(outcome, Refused), outcome
    return outcome.reason


def test_each_secret_is_its_holder() -> None:
    scene = Scene()
    assert scene.ask(WORKER) == Subject(user="machines:worker", authenticator="machines")
    assert scene.ask(ADMIN).user == "machines:ops"
    assert scene.judge(present(target=f"/v1/worker/connect?token={WORKER}")).user == "machines:worker"
    assert (
        Scene(AUTHORIZATION).judge(present({"authorization": f"Bearer {WORKER}"})).user == "machines:worker"
    )
    assert scene.judge(present()) is None


@pytest.mark.parametrize(
    "secret",
    [
        WORKER[:-1],
        WORKER + "x",
        WORKER.upper(),
        WORKER + " ",
        pytest.param("é" * 20, id="71 not ASCII"),
        pytest.param("\udcff", id="38 surrogate"),
        pytest.param("x" * 100_000, id="too long"),
        pytest.param(sha256(WORKER.encode()).hexdigest(), id="72 the stored hash"),
    ],
)
def test_a_wrong_secret(secret: str) -> None:
    outcome = Scene().ask(secret)
    assert reason(outcome) is Reason.SECRET_WRONG
    assert secret not in repr(outcome)


def test_36_two_of_them() -> None:
    scene = Scene()
    both = present({"x-worker-secret": WORKER}, target=f"/?token={ADMIN}")
    assert reason(scene.judge(both)) is Reason.CONFLICTING_CREDENTIALS
    same = present({"x-worker-secret": WORKER}, target=f"/?token={WORKER}")
    assert scene.judge(same).user == "machines:worker"
    twice = present(target=f"/?token={WORKER}&token={WORKER}")
    assert reason(scene.judge(twice)) is Reason.DUPLICATE_CREDENTIAL
    repeated = present({"x-worker-secret": f"{WORKER}, x"}, repeated=frozenset({"x-worker-secret"}))
    assert reason(scene.judge(repeated)) is Reason.DUPLICATE_CREDENTIAL


def test_who_is_wrong_too_often_is_not_asked_any_more() -> None:
    scene = Scene()
    for number in range(TRIES):
        assert reason(scene.ask(f"guess {number}")) is Reason.SECRET_WRONG
    assert reason(scene.ask("another guess")) is Reason.TOO_MANY_TRIES
    assert reason(scene.ask(WORKER)) is Reason.TOO_MANY_TRIES, "else guesses would cost nothing"
    assert isinstance(scene.ask(WORKER, ip="192.0.2.2"), Subject), "others are not concerned"
    wait_ms = ANSWERS[Reason.TOO_MANY_TRIES].wait_ms
    assert wait_ms == EVERY_MS
    scene.clock.forward(wait_ms / 1000)
    assert isinstance(scene.ask(WORKER), Subject), "Retry-After is kept"
    assert reason(scene.ask("guess")) is Reason.SECRET_WRONG
    assert reason(scene.ask("guess")) is Reason.TOO_MANY_TRIES
    scene.clock.forward(EVERY_MS * TRIES / 1000)
    for _ in range(TRIES):
        assert reason(scene.ask("guess")) is Reason.SECRET_WRONG


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        pytest.param("2001:db8::1", "2001:db8::ffff", True, id="one IPv6 network"),
        pytest.param("2001:db8::1", "2001:db8:0:1::1", False, id="two IPv6 networks"),
        pytest.param("::ffff:192.0.2.1", "192.0.2.1", True, id="41 mapped"),
        pytest.param(None, None, True, id="an unproven gateway's callers are one"),
        pytest.param("192.0.2.1", "192.0.2.2", False, id="two IPv4 addresses"),
    ],
)
def test_what_counts_as_one_origin(one: str | None, other: str | None, same: bool) -> None:
    scene = Scene()
    for _ in range(TRIES):
        scene.ask("guess", ip=one)
    assert isinstance(scene.ask(WORKER, ip=other), Refused) is same


def test_the_right_secret_is_never_counted() -> None:
    scene = Scene()
    for _ in range(5 * TRIES):
        assert isinstance(scene.ask(WORKER), Subject)


def test_a_clock_that_steps_back_forgives_nothing_and_locks_nobody_out_for_ever() -> None:
    scene = Scene()
    for _ in range(TRIES):
        scene.ask("guess")
    scene.clock.forward(-3600)
    assert reason(scene.ask(WORKER)) is Reason.TOO_MANY_TRIES
    scene.clock.forward(3600 + EVERY_MS / 1000)
    assert isinstance(scene.ask(WORKER), Subject)


def test_challenge() -> None:
    assert Scene().authenticator.challenge == ""
    assert Scene(AUTHORIZATION).authenticator.challenge == 'Bearer realm="authz"'
