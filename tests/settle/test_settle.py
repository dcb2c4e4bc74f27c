"""What is charged: a request, its report, the counters and the ledger entry afterwards."""

from typing import Any

import pytest

from authz.decision import Allow, Deny
from authz.reason import Reason
from authz.report import Report
from authz.request import STREAM_TIMEOUT_MS, Gateway, GatewayKind
from authz.store.protocols import Outcome
from authz.store.records import Source
from authz.usage import NO_USAGE, Usage
from tests.settle.scene import OTHER, OURS, Scene, charge
from tests.support.lab import EDGE, step


@pytest.fixture
def scene() -> Scene:
    return Scene()


def hold_of(allow: Allow) -> Usage:
    """The worst case of a request."""
    needed = {state.limit.policy: state.limit.needed for state in allow.limits}
    return Usage(needed["input"], needed["output"])


def held(allow: Allow) -> dict[str, int]:
    """What the counters hold while it runs."""
    return {**charge(hold_of(allow)), "slots": 1}


def test_the_worst_case_is_held_while_a_request_runs(scene: Scene) -> None:
    allow = scene.ask()
    assert hold_of(allow).input >= 86
    assert hold_of(allow).output == 16
    assert scene.charged() == held(allow)


@pytest.mark.parametrize(
    ("told", "source", "usage", "requests"),
    [
        pytest.param(
            {"usage": Usage(10, 3, 4, 1), "status": 200}, "reported", Usage(10, 3, 4, 1), 1, id="told"
        ),
        pytest.param(
            {"usage": Usage(10, 3), "status": 500}, "reported", Usage(10, 3), 1, id="told-of-an-error"
        ),
        pytest.param(
            {"usage": Usage(10, 3), "aborted": True}, "reported", Usage(10, 3), 1, id="told-and-left"
        ),
        pytest.param({"usage": Usage(10), "status": 200}, "reported", Usage(10), 1, id="embeddings"),
        # Untaught: 0.3 tokens a byte of 86, 0.3 of 40.
        pytest.param({"status": 200, "response_bytes": 40}, "estimated", Usage(26, 12), 1, id="102-untold"),
        pytest.param(
            {"status": 200, "response_bytes": 40, "aborted": True},
            "estimated",
            Usage(26, 12),
            1,
            id="101-left",
        ),
        pytest.param({"status": 200, "response_bytes": 0}, "estimated", Usage(26, 1), 1, id="101-never-zero"),
        pytest.param(
            {"status": 200, "response_bytes": 10**9}, "estimated", Usage(26, 16), 1, id="never-over"
        ),
        pytest.param(
            {"status": 200, "response_bytes": 1500, "streamed": True},
            "estimated",
            Usage(26, 10),
            1,
            id="events",
        ),
        pytest.param(
            {"status": 0, "aborted": True}, "estimated", Usage(26, 16), 1, id="101-before-the-answer"
        ),
        pytest.param({"status": 499, "aborted": True}, "estimated", Usage(26, 16), 1, id="101-499"),
        pytest.param({}, "estimated", Usage(26, 16), 1, id="nothing-known"),
        pytest.param({"status": 500, "response_bytes": 90}, "released", NO_USAGE, 1, id="upstream-500"),
        pytest.param({"status": 404}, "released", NO_USAGE, 1, id="upstream-404"),
        pytest.param({"status": 302}, "released", NO_USAGE, 1, id="upstream-302"),
        pytest.param({"status": 503, "reached": False}, "released", NO_USAGE, 0, id="not-reached"),
        pytest.param(
            {"status": 0, "reached": False, "aborted": True}, "released", NO_USAGE, 0, id="left-at-once"
        ),
    ],
)
def test_what_is_charged(
    scene: Scene, told: dict[str, Any], source: str, usage: Usage, requests: int
) -> None:
    assert scene.tell(scene.ask(), **told) is Outcome.SETTLED
    assert scene.charged() == charge(usage, requests=requests)
    note = scene.entry().note
    assert (note.source, note.usage) == (source, usage)
    assert note.cost == charge(usage)["cost"]
    assert (note.status, note.aborted) == (told.get("status", 0), told.get("aborted", False))


def test_use_beyond_the_hold_is_charged_too(scene: Scene) -> None:
    scene.tell(scene.ask(), usage=Usage(400, 100))
    assert scene.charged() == charge(Usage(400, 100))


def test_an_anthropic_stream_that_its_client_left_is_not_charged_its_first_event(scene: Scene) -> None:
    allow = scene.ask(target="/v1/messages")
    scene.tell(allow, usage=Usage(10, 1), status=200, aborted=True, streamed=True, response_bytes=1500)
    note = scene.entry().note
    assert (note.source, note.usage) == (Source.ESTIMATED, Usage(10, 10)), "attack 101"


def test_a_request_without_tokens_costs_none(scene: Scene) -> None:
    allow = scene.ask(method="GET", target="/v1/models", body=b"")
    scene.tell(allow, status=200, response_bytes=5000)
    assert scene.charged()["tokens"] == 0


# --- once, and only by its gateway


def test_attack_105_twice_is_once(scene: Scene) -> None:
    allow = scene.ask()
    scene.tell(allow, usage=Usage(10, 3))
    for told in ({"usage": Usage(10, 3)}, {"usage": Usage(0, 1)}, {"reached": False}, {"status": 500}):
        assert scene.tell(allow, **told) is Outcome.ALREADY
    assert scene.charged() == charge(Usage(10, 3))
    assert scene.entry().note.usage == Usage(10, 3)


@pytest.mark.parametrize(
    ("gateway", "outcome"),
    [
        pytest.param(OTHER, Outcome.FOREIGN, id="another"),
        pytest.param(
            Gateway(name="edge", kind=GatewayKind.ENVOY, proven=False), Outcome.FOREIGN, id="unproven"
        ),
    ],
)
def test_attack_105_another_gateway_settles_nothing(scene: Scene, gateway: Gateway, outcome: Outcome) -> None:
    allow = scene.ask()
    assert scene.tell(allow, gateway, reached=False) is outcome
    assert not step(scene.lab.service.extend(allow.reservation, gateway))
    assert scene.charged() == held(allow)


@pytest.mark.parametrize("name", ["", "rsv_forged", "req_1", "\x00", "x" * 5000], ids=range(5))
def test_attack_105_a_forged_reservation_is_unknown(scene: Scene, name: str) -> None:
    scene.ask()
    before = scene.charged()
    report = Report(reservation=name, usage=Usage(0, 1))
    assert step(scene.lab.service.settle(report, EDGE)) is Outcome.UNKNOWN
    assert scene.charged() == before


def test_attack_105_what_expired_is_corrected_once(scene: Scene) -> None:
    allow = scene.ask()
    scene.lab.clock.advance(STREAM_TIMEOUT_MS / 1000 + 31)
    assert scene.entry().note.source is Source.EXPIRED
    assert scene.entry().note.usage == hold_of(allow)
    assert scene.tell(allow, usage=Usage(10, 3), status=200) is Outcome.CORRECTED
    note = scene.entry().note
    assert (note.source, note.usage, note.cost) == (
        Source.CORRECTED,
        Usage(10, 3),
        charge(Usage(10, 3))["cost"],
    )
    assert scene.tell(allow, usage=Usage(1, 1)) is Outcome.ALREADY


def test_attack_95_a_gateways_own_retry_is_settled_once(scene: Scene) -> None:
    first = scene.ask(gateway=OURS, request_id="same")
    again = scene.ask(gateway=OURS, request_id="same")
    assert first.reservation == again.reservation
    assert scene.charged() == held(first)
    assert scene.tell(first, OURS, usage=Usage(10, 3)) is Outcome.SETTLED
    assert scene.tell(again, OURS, usage=Usage(10, 3)) is Outcome.ALREADY
    assert scene.charged() == charge(Usage(10, 3))


def test_attack_106_a_client_fixed_request_id_never_joins_two_charges(scene: Scene) -> None:
    first = scene.ask(headers={"x-request-id": "mine"})
    second = scene.ask(headers={"x-request-id": "mine"})
    assert first.reservation != second.reservation
    scene.tell(first, usage=Usage(10, 3))
    scene.tell(second, usage=Usage(20, 4))
    assert scene.charged() == charge(Usage(30, 7), requests=2)


def test_attack_104_admitted_reservations_never_exceed_the_limit(scene: Scene) -> None:
    poor = scene.lab.key("bob", "tokens=1000/day")
    running: list[Allow] = []
    for _ in range(50):
        decision = scene.lab.decide(scene.lab.request(key=poor))
        if isinstance(decision, Allow):
            running.append(decision)
    each = hold_of(scene.ask())
    assert len(running) == 1000 // (each.input + each.output)
    for allow in running:
        scene.tell(allow, usage=Usage(10, 3))
    more = scene.lab.decide(scene.lab.request(key=poor))
    assert isinstance(more, Allow), "what was not used can be used"
    state = next(state for state in more.limits if state.limit.policy.startswith("key:"))
    assert state.remaining == 1000 - len(running) * 13 - each.input - each.output


# --- while it runs


def test_a_lease_that_is_extended_outlives_itself_and_one_that_is_not_expires(scene: Scene) -> None:
    living, silent = scene.ask(lease_ms=60_000), scene.ask(lease_ms=60_000)
    for _ in range(10):
        scene.lab.clock.advance(20)
        assert step(scene.lab.service.extend(living.reservation, EDGE))
    assert scene.charged()["slots"] == 1
    assert not step(scene.lab.service.extend(silent.reservation, EDGE)), "nothing is revived"
    assert scene.tell(living, usage=Usage(10, 3)) is Outcome.SETTLED
    assert scene.tell(silent, usage=Usage(10, 3)) is Outcome.CORRECTED
    assert not step(scene.lab.service.extend(living.reservation, EDGE))


def test_nothing_lives_longer_than_a_stream_may(scene: Scene) -> None:
    brief = Gateway(name="edge", kind=GatewayKind.ENVOY, proven=True, stream_timeout_ms=60_000)
    allow = scene.ask(gateway=brief, lease_ms=30_000)
    for second in range(0, 80, 20):
        assert step(scene.lab.service.extend(allow.reservation, brief)), second
        scene.lab.clock.advance(20)
    scene.lab.clock.advance(10.001)
    assert not step(scene.lab.service.extend(allow.reservation, brief))
    assert scene.charged()["slots"] == 0


# --- by the gateway's own id


def test_an_end_without_a_reservation_is_matched_by_the_gateways_id(scene: Scene) -> None:
    scene.ask(gateway=OURS, request_id="id-1")
    report = Report(reservation="", reached=False, aborted=True)
    service = scene.lab.service
    assert step(service.settle_by_request_id(OURS, "id-1", report)) is Outcome.SETTLED
    assert scene.charged() == charge(NO_USAGE, requests=0)
    assert step(service.settle_by_request_id(OURS, "id-1", report)) is Outcome.UNKNOWN


def test_an_end_before_the_reservation_releases_it_at_once(scene: Scene) -> None:
    report = Report(reservation="", reached=False, aborted=True)
    assert step(scene.lab.service.settle_by_request_id(OURS, "id-1", report)) is Outcome.UNKNOWN
    scene.ask(gateway=OURS, request_id="id-1")
    assert scene.charged() == charge(NO_USAGE, requests=0)
    other = scene.ask(gateway=OURS, request_id="id-2")
    assert scene.charged() == held(other), "another one is not meant"


def test_an_id_that_is_settled_is_forgotten(scene: Scene) -> None:
    allow = scene.ask(gateway=OURS, request_id="id-1")
    scene.tell(allow, OURS, usage=Usage(10, 3))
    report = Report(reservation="", reached=False)
    assert step(scene.lab.service.settle_by_request_id(OURS, "id-1", report)) is Outcome.UNKNOWN
    assert scene.charged() == charge(Usage(10, 3))


@pytest.mark.parametrize(
    "gateway",
    [EDGE, Gateway(name="edge", kind=GatewayKind.ENVOY, proven=False, request_id_is_ours=True)],
    ids=["not-the-gateways", "unproven"],
)
def test_attack_106_an_id_that_anybody_may_choose_matches_nothing(scene: Scene, gateway: Gateway) -> None:
    allow = scene.ask(gateway=OURS, request_id="id-1")
    report = Report(reservation="", reached=False)
    assert step(scene.lab.service.settle_by_request_id(gateway, "id-1", report)) is Outcome.FOREIGN
    assert scene.charged() == held(allow)


# --- concurrency, and quota given back


def test_what_settles_can_be_used_again(scene: Scene) -> None:
    poor = scene.lab.key("bob", "tokens=200/day")
    first = scene.lab.decide(scene.lab.request(key=poor))
    assert isinstance(first, Allow)
    refused = scene.lab.decide(scene.lab.request(key=poor))
    assert isinstance(refused, Deny)
    assert refused.reason is Reason.RATE_LIMITED, "only what runs is in the way"
    scene.tell(first, usage=Usage(2, 1))
    assert isinstance(scene.lab.decide(scene.lab.request(key=poor)), Allow)


# --- learning


def test_what_was_reported_teaches_and_a_restart_does_not_forget(scene: Scene) -> None:
    for _ in range(6):
        scene.tell(scene.ask(), usage=Usage(40, 8), status=200, response_bytes=80)
    scene.tell(scene.ask(), status=200, response_bytes=40)
    assert scene.entries()[-1].note.usage == Usage(40, 4)
    scene.tell(scene.ask(), status=0, aborted=True)
    assert scene.entries()[-1].note.usage == Usage(40, 8), "what such an answer is on average"
    fresh = Scene()
    fresh.lab.service.settler.teach(scene.entries())
    fresh.tell(fresh.ask(), status=200, response_bytes=40)  # another key: what was learned for the model
    assert fresh.entry().note.usage == Usage(40, 4)


def test_the_estimate_teaches_nothing_and_hold_learners_hear_of_whole_answers(scene: Scene) -> None:
    heard: list[Usage] = []
    scene.lab.service.settler.learn = lambda facts, usage: heard.append(usage)
    scene.tell(scene.ask(), status=200, response_bytes=40)
    scene.tell(scene.ask(), usage=Usage(10, 3), aborted=True)
    scene.tell(scene.ask(), usage=Usage(10, 4), status=200)
    scene.tell(scene.ask(), reached=False)
    assert heard == [Usage(10, 4)]
