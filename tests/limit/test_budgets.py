"""Calendar budgets in tokens and money, of anybody, in any zone; and grants on top of them."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from authz.decision import Allow, Deny
from authz.quota import NANO
from authz.reason import Reason
from authz.store.records import Adjustment
from tests.support.lab import FakeClock, Lab

# 16 tokens of output at 250 per million are 0.004; whatever the input is held for costs nothing.
HEAD = """
store: memory://
gateways: {edge: {kind: envoy, token: "edge-token-of-the-tests"}}
authenticators: {keys: {type: api_key}}
models:
  llama3: {context: 8192, max_output: 16, price: {input: 0, output: 250}}
  big: {context: 8192, max_output: 16, price: {input: 0, output: 250}}
routes:
  - name: open
    match: {api: [openai]}
    authenticate: {any_of: [keys]}
    authorize: [{models: any}]
    limits: [it]
limits:
  it: """
COST = 4 * NANO // 1000
CHAT = b'{"model": "%s", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 16}'


def lab_with(limit: str, local: str = "2026-10-20 12:00", zone: str = "UTC") -> Lab:
    moment = datetime.fromisoformat(local).replace(tzinfo=ZoneInfo(zone))
    return Lab(HEAD + limit, clock=FakeClock(int(moment.timestamp() * 1000)))


class Caller:
    """Somebody with one key."""

    def __init__(self, lab: Lab, user: str = "alice", team: str = "nlp", *limits: str) -> None:
        self._lab = lab
        self.key = lab.key(user, *limits, team=team)

    def ask(self, tries: int, model: str = "llama3") -> int:
        """How many of so many requests get through."""
        body = CHAT % model.encode()
        decisions = [self._lab.decide(self._lab.request(key=self.key, body=body)) for _ in range(tries)]
        refused = [decision for decision in decisions if isinstance(decision, Deny)]
        assert {decision.reason for decision in refused} <= {Reason.QUOTA_EXHAUSTED, Reason.RATE_LIMITED}
        return sum(isinstance(decision, Allow) for decision in decisions)


def grant(lab: Lab, partition: dict[str, str], amount: int, until: int | None = None) -> None:
    lab.store.registry.add_adjustment(
        Adjustment(
            id=f"adj_{amount}_{until}",
            policy="it",
            partition=(*partition.items(),),
            grant=amount,
            until=until,
        )
    )


@pytest.mark.parametrize("dimension", ["key", "user", "team", "model"])
def test_money_per_month_of_anybody_with_a_grant(dimension: str) -> None:
    lab = lab_with(f"{{unit: cost, quota: 0.02, window: month, partition_by: [{dimension}]}}")
    alice, bob = Caller(lab), Caller(lab, "bob", "vision")
    whose = {"key": alice.key.id, "user": "alice", "team": "nlp", "model": "llama3"}[dimension]
    assert alice.ask(9) == 5
    assert bob.ask(9, "big") == 5  # another's budget
    grant(lab, {dimension: whose}, 2 * COST, until=lab.clock.now + 3_600_000)
    assert alice.ask(9) == 2
    assert bob.ask(9, "big") == 0
    lab.clock.advance(3600)
    assert alice.ask(9) == 0  # the grant has ended


@pytest.mark.parametrize("unit", ["cost", "tokens"])
@pytest.mark.parametrize("zone", ["Europe/Helsinki", "America/New_York", "Asia/Kathmandu"])
def test_a_month_ends_at_local_midnight(zone: str, unit: str) -> None:
    per_request = 0.004 if unit == "cost" else _held_tokens()
    limit = (
        f"{{unit: {unit}, quota: {per_request * 3}, window: month, timezone: {zone}, partition_by: [user]}}"
    )
    lab = lab_with(limit, "2026-10-31 23:59:58", zone)
    alice = Caller(lab)
    assert alice.ask(5) == 3
    lab.clock.advance(1)
    assert alice.ask(5) == 0
    lab.clock.advance(1)
    assert alice.ask(5) == 3


def test_money_per_month_of_a_single_key() -> None:
    """`authz keys create --limit cost=0.02/month`."""
    lab = lab_with("{unit: requests, quota: 1M, window: day}")
    assert Caller(lab, "alice", "nlp", "cost=0.02/month").ask(9) == 5
    assert Caller(lab).ask(9) == 9


def test_money_is_counted_to_the_last_nano() -> None:
    lab = lab_with("{unit: cost, quota: 0.019999999, window: month}")
    alice = Caller(lab)
    assert alice.ask(9) == 4
    grant(lab, {}, 1)
    assert alice.ask(9) == 1


def _held_tokens() -> int:
    """What one request of the tests holds."""
    lab = lab_with("{unit: tokens, quota: 1M, window: month, partition_by: [user]}")
    alice = Caller(lab)
    decision = lab.decide(lab.request(key=alice.key, body=CHAT % b"llama3"))
    assert isinstance(decision, Allow)
    return decision.limits[0].limit.needed
