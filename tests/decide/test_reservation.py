"""What is handed to the store with a request that is let through: facts, and how long it may be silent."""

from collections.abc import Sequence

import msgspec
import pytest

from authz.decide import Decider
from authz.decision import Allow
from authz.request import Gateway, GatewayKind
from authz.store.protocols import Hold, Kind, Reserved
from authz.store.records import Facts, Price
from authz.usage import Usage
from tests.support.lab import Lab, step

CONFIG = """
store: memory://
gateways: {edge: {kind: envoy, token: "edge-token-of-the-tests"}}
authenticators: {keys: {type: api_key}}
models: {llama3: {context: 8192, max_output: 2048, price: {input: 1, cached_input: 0.5, output: 3}}, bare: {}}
routes:
  - name: inference
    match: {api: [openai, anthropic]}
    authenticate: {any_of: [keys]}
    authorize: [{models: any}]
  - name: slots
    match: {paths: [/slots]}
    authenticate: {any_of: [keys]}
    authorize: [{models: any}]
    limits: [slots]
  - name: rest
    match: {paths: [/*]}
    authenticate: {any_of: [keys]}
    authorize: [{models: any}]
limits:
  slots: {unit: concurrency, quota: 9, partition_by: [key]}
"""
PROVEN = Gateway(name="edge", kind=GatewayKind.ENVOY, proven=True, stream_timeout_ms=60_000)
UNPROVEN = Gateway(name="envoy", kind=GatewayKind.ENVOY, proven=False, stream_timeout_ms=60_000)
OURS = Gateway(
    name="edge", kind=GatewayKind.ENVOY, proven=True, stream_timeout_ms=60_000, request_id_is_ours=True
)
CHAT = b'{"model":"llama3","stream":true,"n":2,"max_tokens":50,"messages":[]}'


class Spy:
    """Counters that let everything through and keep what they were handed."""

    def __init__(self) -> None:
        self.reservation = ""
        self.holds: Sequence[Hold] = ()
        self.ttl_ms: int | None = None
        self.facts = b""

    def place(self, holds: Sequence[Hold]) -> str:
        return f".{len(holds)}" if holds else ""

    async def reserve(
        self, reservation: str, gateway: str, holds: Sequence[Hold], ttl_ms: int, facts: bytes = b""
    ) -> Reserved:
        self.reservation, self.holds, self.ttl_ms, self.facts = reservation, holds, ttl_ms, facts
        return Reserved(tuple(_LEVEL for _ in holds))


class _Level(msgspec.Struct):
    remaining: int = 1
    reset_ms: int = 0
    held: int = 0


_LEVEL = _Level()


def ask(lab: Lab, **asked: object) -> tuple[Allow, Spy]:
    spy = Spy()
    decider = Decider(lab.rules, lab.store.directory, spy, lab.clock)  # type: ignore[arg-type]
    decision = step(decider.decide(lab.request(**{"key": lab.key(team="nlp"), **asked})))  # type: ignore[arg-type]
    assert isinstance(decision, Allow)
    return decision, spy


def test_the_facts_of_a_request_that_no_limit_counts() -> None:
    decision, spy = ask(Lab(CONFIG), body=CHAT, gateway=PROVEN)
    assert decision.reservation == spy.reservation
    assert ("x-authz-reservation", spy.reservation) in decision.upstream
    assert spy.holds == ()
    read = len(CHAT) - len(',"max_tokens":50') + 64
    assert msgspec.msgpack.decode(spy.facts, type=Facts) == Facts(
        request_id=decision.request_id,
        user="alice",
        team="nlp",
        key=decision.subject.key or "",
        model="llama3",
        route="inference",
        path="/v1/chat/completions",
        hold=Usage(read, 100),
        hold_cost=-(-(read * 10**9 + 100 * 3 * 10**9) // 10**6),
        price=Price(input=10**9, cached_input=5 * 10**8, output=3 * 10**9),
        stream=True,
        asked_output=50,
        answers=2,
        request_bytes=len(CHAT),
    )


@pytest.mark.parametrize(
    ("method", "target", "body", "hold", "answer"),
    [
        ("GET", "/health", b"", Usage(0, 0), 0),
        ("POST", "/v1/embeddings", b'{"model":"llama3","input":["a","b"]}', Usage(36 + 128, 0), 0),
        ("POST", "/v1/chat/completions", b'{"model":"llama3"}', Usage(18 + 64, 2048), 2048),
        ("POST", "/v1/chat/completions", b'{"model":"bare"}', Usage(16 + 64, 16384), 16384),
        ("POST", "/elsewhere", b"not json", Usage(8 + 64, 16384), 16384),
    ],
)
def test_the_hold_that_the_ledger_falls_back_on(
    method: str, target: str, body: bytes, hold: Usage, answer: int
) -> None:
    _, spy = ask(Lab(CONFIG), method=method, target=target, body=body, gateway=PROVEN)
    facts = msgspec.msgpack.decode(spy.facts, type=Facts)
    assert (facts.hold, facts.asked_output) == (hold, answer)


@pytest.mark.parametrize(
    ("gateway", "lease", "target", "ttl"),
    [
        (PROVEN, None, "/x", 90_000),
        (PROVEN, 60_000, "/x", 60_000),
        (PROVEN, 60_000, "/slots", 60_000),
        (PROVEN, 1, "/x", 3_000),
        (PROVEN, 0, "/x", 3_000),
        (PROVEN, 10**9, "/x", 90_000),
        (UNPROVEN, None, "/x", 5_000),
        (UNPROVEN, None, "/slots", 90_000),
    ],
)
def test_how_long_a_request_may_be_silent(gateway: Gateway, lease: int | None, target: str, ttl: int) -> None:
    _, spy = ask(Lab(CONFIG), target=target, gateway=gateway, lease_ms=lease)
    assert spy.ttl_ms == ttl
    assert spy.facts


def test_the_gateways_own_id_is_told_where_nobody_else_can_choose_it() -> None:
    _, spy = ask(Lab(CONFIG), gateway=OURS, request_id="5f0c9e6a-envoy")
    assert msgspec.msgpack.decode(spy.facts, type=Facts).gateway_request_id == "5f0c9e6a-envoy"
    _, spy = ask(Lab(CONFIG), gateway=PROVEN, request_id="5f0c9e6a-envoy")
    assert msgspec.msgpack.decode(spy.facts, type=Facts).gateway_request_id == ""


@pytest.mark.parametrize(
    ("gateway", "limits", "ttl"),
    [(PROVEN, [], None), (PROVEN, ["requests=9/m"], 0), (OURS, ["requests=9/m"], 5_000), (PROVEN, ["requests=9/m", "concurrency=2"], 0)],
)  # fmt: skip
def test_the_list_of_models_is_in_no_ledger(gateway: Gateway, limits: list[str], ttl: int | None) -> None:
    """We answer it ourselves, and it is over at once: it takes no slot, of which nobody would tell the end."""
    lab = Lab(CONFIG)
    decision, spy = ask(
        lab, method="GET", target="/v1/models", body=b"", gateway=gateway, key=lab.key("bob", *limits)
    )
    assert (spy.ttl_ms, spy.facts, bool(decision.reservation)) == (ttl, b"", bool(limits))
    assert all(hold.kind is not Kind.CONCURRENCY for hold in spy.holds or ())


STREAM = b'{"model":"llama3","stream":true,"messages":[]}'


@pytest.mark.parametrize(
    ("can", "target", "body", "edit"),
    [
        (True, "/v1/chat/completions", STREAM, '46 1+0="stream_options":{"include_usage":true},'),
        (False, "/v1/chat/completions", STREAM, None),
        (True, "/v1/responses", STREAM, None),
        (True, "/v1/messages", STREAM, None),
        (True, "/v1/chat/completions", STREAM.replace(b"true", b"false"), None),
        (True, "/elsewhere", STREAM, None),
    ],
    ids=["chat", "a gateway that cannot", "responses", "anthropic", "no stream", "unread"],
)
def test_a_stream_is_asked_for_its_usage(can: bool, target: str, body: bytes, edit: str | None) -> None:
    decision, _ = ask(Lab(CONFIG), target=target, body=body, gateway=PROVEN, can_edit=can)
    assert decision.edit == edit
