"""Calendar budgets in tokens and money, per key, user, team and model, from the decision to the settlement."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from authz.authenticate.key_format import MintedKey
from authz.decision import Allow, Deny
from authz.ledger.settle import Settler
from authz.report import Report
from authz.store.records import Adjustment
from authz.usage import Usage
from tests.support.lab import EDGE, FakeClock, Lab, step

CONFIG = """
store: memory://
timezone: Europe/Helsinki
gateways: {edge: {kind: envoy, token: "edge-token-of-the-tests"}}
authenticators: {keys: {type: api_key}}
models:
  llama3: {max_output: 1000, price: {input: 1, cached_input: 0.25, output: 4}}
  big: {max_output: 1000, price: {input: 10, output: 40}}
routes:
  - name: inference
    match: {api: [openai]}
    authenticate: {any_of: [keys]}
    authorize: [{models: any}]
    limits: [it]
limits:
  it: LIMIT
"""
HELSINKI = ZoneInfo("Europe/Helsinki")
BODY = b'{"model":"%s","max_tokens":%d,"messages":[]}'
INPUT = len(b'{"model":"llama3","messages":[]}') + 64


class Budget:
    """A service with one limit, and what is spent of it."""

    def __init__(self, limit: str, *when: int) -> None:
        at = datetime(*when, tzinfo=HELSINKI)  # type: ignore[arg-type,misc]
        self.clock = FakeClock(int(at.timestamp() * 1000))
        self.lab = Lab(CONFIG.replace("LIMIT", limit), clock=self.clock)
        self.settler = Settler(self.lab.store.counters, self.clock)

    def at(self, *when: int) -> None:
        self.clock.now = int(datetime(*when, tzinfo=HELSINKI).timestamp() * 1000)  # type: ignore[arg-type,misc]

    def ask(self, key: MintedKey, tokens: int, model: str = "llama3") -> Allow | None:
        """None: refused."""
        decision = self.lab.decide(self.lab.request(key=key, body=BODY % (model.encode(), tokens)))
        if isinstance(decision, Deny):
            assert decision.status == 429
            return None
        assert isinstance(decision, Allow)
        return decision

    def settle(self, allow: Allow, usage: Usage) -> None:
        assert allow.reservation is not None
        step(self.settler.settle(Report(reservation=allow.reservation, usage=usage, status=200), EDGE))


@pytest.mark.parametrize(
    ("by", "same", "other"),
    [
        ("key", None, ("bob", "nlp")),
        ("user", ("alice", "vision"), ("bob", "nlp")),
        ("team", ("bob", "nlp"), ("alice", "vision")),
    ],
)
def test_a_budget_of_tokens_counts_its_owner_as_a_whole(
    by: str, same: tuple[str, str] | None, other: tuple[str, str]
) -> None:
    budget = Budget(f"{{unit: tokens, quota: 1500, window: day, partition_by: [{by}]}}", 2026, 9, 21, 12)
    first = budget.lab.key("alice", team="nlp")
    again = first if same is None else budget.lab.key(same[0], team=same[1])
    apart = budget.lab.key(other[0], team=other[1])
    assert budget.ask(first, 1000)
    assert budget.ask(again, 1000) is None
    assert budget.ask(apart, 1000)


def test_a_budget_by_model() -> None:
    budget = Budget("{unit: tokens, quota: 1500, window: day, partition_by: [model]}", 2026, 9, 21, 12)
    key = budget.lab.key()
    assert budget.ask(key, 1000)
    assert budget.ask(key, 1000) is None
    assert budget.ask(key, 1000, "big")


@pytest.mark.parametrize(
    ("window", "begin", "last", "following"),
    [
        ("day", (2026, 10, 25, 1, 0), (2026, 10, 25, 23, 59, 59), (2026, 10, 26, 0, 0)),  # has 25 hours
        ("week", (2026, 9, 23, 9, 0), (2026, 9, 27, 23, 59, 59), (2026, 9, 28, 0, 0)),
        ("month", (2026, 10, 3, 9, 0), (2026, 10, 31, 23, 59, 59), (2026, 11, 1, 0, 0)),
    ],
)
def test_money_comes_back_by_what_was_used_and_all_of_it_at_local_midnight(
    window: str, begin: tuple[int, ...], last: tuple[int, ...], following: tuple[int, ...]
) -> None:
    budget = Budget(f"{{unit: cost, quota: 0.005, window: {window}, partition_by: [user]}}", *begin)
    key = budget.lab.key()
    held = budget.ask(key, 1000)  # 0.004 of output, and the input
    assert held
    assert held.limits[0].limit.needed == INPUT * 1000 + 1000 * 4000
    assert budget.ask(key, 1000) is None
    budget.settle(held, Usage(input=90, output=100, cached=40))  # 50 + 40/4 + 100 x 4, by the million
    spent = 50 * 1000 + 40 * 250 + 100 * 4000
    second = budget.ask(key, 1000)
    assert second
    left = 5_000_000 - spent - (INPUT * 1000 + 1000 * 4000)
    assert second.limits[0].remaining == left
    budget.at(*last)
    assert budget.ask(key, 1000) is None
    budget.at(*following)
    assert budget.ask(key, 1000)


def test_a_grant_of_money_lasts_until_it_ends() -> None:
    budget = Budget("{unit: cost, quota: 0.005, window: month, partition_by: [team]}", 2026, 10, 3, 9)
    key = budget.lab.key("alice", team="nlp")
    assert budget.ask(key, 1000)
    assert budget.ask(key, 1000) is None
    budget.lab.store.registry.add_adjustment(
        Adjustment(
            id="g",
            policy="it",
            partition=(("team", "nlp"),),
            grant=10_000_000,
            until=budget.clock() + 1000,
            created_at=budget.clock(),
        )
    )
    assert budget.ask(key, 1000)
    budget.clock.advance(2)
    assert budget.ask(key, 1000) is None


def test_a_dear_model_uses_the_same_budget_up_sooner() -> None:
    budget = Budget("{unit: cost, quota: 0.05, window: day, partition_by: [key]}", 2026, 9, 21, 12)
    key = budget.lab.key()
    assert budget.ask(key, 1000, "big")
    assert budget.ask(key, 1000, "big") is None
    assert budget.ask(key, 1000)
