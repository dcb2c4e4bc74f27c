"""How much is held: the worst case, what is learned and enforced, or what is learned alone."""

import msgspec
import pytest

from authz.authenticate.key_format import MintedKey
from authz.decision import Allow, Deny
from authz.request import BodyState, Gateway, GatewayKind
from authz.store.records import Facts
from authz.usage import Usage
from tests.support.edits import apply
from tests.support.lab import Lab, step

CONFIG = """
store: memory://
gateways: {edge: {kind: envoy, token: "edge-token-of-the-tests"}}
authenticators: {keys: {type: api_key}}
models:
  plain: {max_output: 2048}
  bare: {}
  fit: {max_output: 2048, admission: fitted}
  small: {max_output: 100, admission: fitted}
  loose: {max_output: 2048, admission: learned}
routes:
  - name: strict
    match: {api: [openai], hosts: [strict.test]}
    authenticate: {any_of: [keys]}
    authorize: [{models: any}]
    admission: worst_case
  - name: fitted
    match: {api: [openai, anthropic], hosts: [fitted.test]}
    authenticate: {any_of: [keys]}
    authorize: [{models: any}]
    admission: fitted
  - name: inference
    match: {api: [openai, anthropic]}
    authenticate: {any_of: [keys]}
    authorize: [{models: any}]
  - name: unread
    match: {paths: [/*]}
    authenticate: {any_of: [keys]}
    authorize: [{models: any}]
    admission: fitted
"""
LEARNED = 300
CADDY = Gateway(name="caddy", kind=GatewayKind.CADDY, proven=True)


@pytest.fixture
def lab() -> Lab:
    return Lab(CONFIG)


@pytest.fixture
def key(lab: Lab) -> MintedKey:
    """Of which it is known that answers have 300 tokens."""
    key = lab.key("alice", "output_tokens=1M/day")
    for model in ("plain", "bare", "fit", "small", "loose"):
        facts = Facts(request_id="r", user="alice", key=key.id, model=model, asked_output=4096)
        for _ in range(60):
            lab.decider.learned.observe(facts, Usage(20, LEARNED))
    return key


def ask(
    lab: Lab, key: MintedKey, body: bytes, target: str = "/v1/chat/completions", **asked: object
) -> Allow:
    decision = lab.decide(lab.request("POST", target, key=key, body=body, **{"can_edit": True, **asked}))  # type: ignore[arg-type]
    assert isinstance(decision, Allow), decision
    return decision


def held(allow: Allow) -> int:
    return allow.limits[0].limit.needed


HIGH = 311  # the bucket's upper edge


@pytest.mark.parametrize(
    ("target", "body", "after", "answers"),
    [
        ("chat/completions", b'{"model":"fit","max_tokens":2000}', b'{"model":"fit","max_tokens":311}', 1),
        ("chat/completions", b'{"model":"fit"}', b'{"max_tokens":311,"model":"fit"}', 1),
        ("chat/completions", b'{"model":"fit","n":3}', b'{"max_tokens":311,"model":"fit","n":3}', 3),
        (
            "chat/completions",
            b'{"model":"fit","stream":true}',
            b'{"max_tokens":311,"stream_options":{"include_usage":true},"model":"fit","stream":true}',
            1,
        ),
        (
            "completions",
            b'{"model":"fit","prompt":["a","b"],"best_of":2,"max_tokens":999}',
            b'{"model":"fit","prompt":["a","b"],"best_of":2,"max_tokens":311}',
            4,
        ),
        ("responses", b'{"model":"fit","input":"a"}', b'{"max_output_tokens":311,"model":"fit","input":"a"}', 1),
        ("messages", b'{"model":"fit","max_tokens":1024}', b'{"model":"fit","max_tokens":311}', 1),
    ],
)  # fmt: skip
def test_what_is_held_is_what_the_model_server_is_told(
    lab: Lab, key: MintedKey, target: str, body: bytes, after: bytes, answers: int
) -> None:
    decision = ask(lab, key, body, f"/v1/{target}")
    assert decision.edit is not None
    assert apply(decision.edit, body) == after
    assert held(decision) == HIGH * answers
    assert ("x-authz-max-tokens", str(HIGH)) in decision.client
    assert not decision.may_overrun
    assert _facts(lab, decision) == (HIGH, HIGH * answers)


def _facts(lab: Lab, decision: Allow) -> tuple[int, int]:
    """One answer's limit and the output held, as the ledger will know them."""
    assert decision.reservation is not None
    found = step(lab.store.counters.find(decision.reservation, "edge"))
    facts = msgspec.msgpack.decode(found.facts, type=Facts)
    return facts.asked_output, facts.hold.output


@pytest.mark.parametrize(
    ("body", "hold"),
    [
        (b'{"model":"fit","max_tokens":20}', 20),  # the client's own is less
        (b'{"model":"small"}', 100),  # the model's is less
        (b'{"model":"plain"}', 2048),  # nobody asked for it
    ],
)
def test_nothing_is_changed_where_there_is_no_need(lab: Lab, key: MintedKey, body: bytes, hold: int) -> None:
    decision = ask(lab, key, body)
    assert (decision.edit, held(decision)) == (None, hold)
    assert "x-authz-max-tokens" not in dict(decision.client)


def test_the_route_wins_over_the_model(lab: Lab, key: MintedKey) -> None:
    assert held(ask(lab, key, b'{"model":"fit"}', host="strict.test")) == 2048
    assert held(ask(lab, key, b'{"model":"plain"}', host="fitted.test")) == HIGH
    assert held(ask(lab, key, b'{"model":"loose"}', host="strict.test")) == 2048


@pytest.mark.parametrize(
    "asked",
    [{"can_edit": False}, {"can_edit": False, "gateway": CADDY}],
    ids=["it does not say that it can", "caddy"],
)
def test_a_gateway_that_changes_no_body_gets_the_worst_case(
    lab: Lab, key: MintedKey, asked: dict[str, object]
) -> None:
    decision = ask(lab, key, b'{"model":"fit","max_tokens":2000}', **asked)
    assert (decision.edit, held(decision)) == (None, 2000)


def test_a_body_that_is_not_whole_is_neither_guessed_at_nor_changed(lab: Lab, key: MintedKey) -> None:
    request = lab.request(key=key, body=b'{"model":"fit"', body_state=BodyState.PARTIAL, can_edit=True)
    decision = lab.decide(request)
    assert isinstance(decision, Deny)
    assert decision.status == 413


def test_a_body_that_is_not_read_is_not_changed(lab: Lab) -> None:
    """The model is in the query, the route looks at no body: there is nothing to lay a splice on."""
    key = lab.key()
    for body in (b"{}", b'{"stream":true}', b"not json"):
        decision = ask(lab, key, body, "/v1/rerank?model=fit")
        assert decision.edit is None


def test_before_anything_is_learned_the_worst_case_is_held(lab: Lab) -> None:
    key = lab.key("bob", "output_tokens=1M/day")
    assert held(ask(lab, key, b'{"model":"fit"}')) == 2048


def test_a_limit_makes_sure_what_nothing_bounded(lab: Lab, key: MintedKey) -> None:
    decision = ask(lab, key, b'{"model":"bare"}', host="fitted.test")
    assert held(decision) == HIGH
    refused = lab.decide(lab.request(key=key, body=b'{"model":"bare"}', host="fitted.test"))
    assert isinstance(refused, Deny)
    assert refused.status == 400


@pytest.mark.parametrize("can_edit", [True, False])
def test_learned_holds_less_and_changes_nothing(lab: Lab, key: MintedKey, can_edit: bool) -> None:
    decision = ask(lab, key, b'{"model":"loose","max_tokens":2000}', can_edit=can_edit)
    assert (held(decision), decision.edit, decision.may_overrun) == (HIGH, None, True)
    assert "x-authz-max-tokens" not in dict(decision.client)
    short = ask(lab, key, b'{"model":"loose","max_tokens":20}')
    assert (held(short), short.may_overrun) == (20, False)


def test_an_embedding_has_no_answer_to_limit(lab: Lab, key: MintedKey) -> None:
    decision = ask(lab, key, b'{"model":"fit","input":"a"}', "/v1/embeddings")
    assert (decision.edit, held(decision)) == (None, 0)


def test_what_is_learned_outlives_a_reload(lab: Lab, key: MintedKey) -> None:
    lab.decider.rules = msgspec.structs.replace(lab.rules, digest="of another file")
    assert held(ask(lab, key, b'{"model":"fit"}')) == HIGH
