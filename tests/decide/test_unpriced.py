"""A budget of money cannot be gone round by a name that has no price."""

import json

import pytest

from authz.decision import Allow, Deny
from authz.reason import Reason
from tests.support.lab import Lab

CONFIG = """
store: memory://
gateways: {edge: {kind: envoy, token: token-of-the-edge-gateway}}
authenticators: {keys: {type: api_key}}
models:
  dear: {context: 8192, max_output: 100, price: {input: 1, output: 4}}
  free: {context: 8192, max_output: 100}
routes:
  - name: inference
    match: {api: [openai]}
    authenticate: {any_of: [keys]}
    authorize: [{when: "true"}]
"""


def verdict(config: str, model: str | None, *limits: str) -> Reason | None:
    lab = Lab(config)
    named = {} if model is None else {"model": model}
    body = json.dumps({**named, "max_tokens": 5}).encode()
    decision = lab.decide(lab.request(key=lab.key("alice", *limits), body=body))
    assert isinstance(decision, Allow | Deny)
    return decision.reason if isinstance(decision, Deny) else None


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        pytest.param("dear", None, id="priced"),
        pytest.param("free", None, id="for nothing"),
        pytest.param("alias", Reason.MODEL_UNKNOWN, id="another name of it"),
        pytest.param(None, Reason.MODEL_REQUIRED, id="no name"),
    ],
)
def test_where_money_is_limited_only_configured_models_are_served(
    model: str | None, reason: Reason | None
) -> None:
    assert verdict(CONFIG, model, "cost=1/day") == reason


@pytest.mark.parametrize("model", ["alias", None])
def test_elsewhere_the_rules_alone_say_which(model: str | None) -> None:
    assert verdict(CONFIG, model, "tokens=1000/day") is None
    unpriced = CONFIG.replace(", price: {input: 1, output: 4}", "")
    assert verdict(unpriced, model, "cost=1/day") is None
