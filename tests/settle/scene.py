"""A service in memory whose budgets and ledger tell what was charged."""

from collections.abc import Mapping
from typing import Any

from authz.authenticate.key_format import MintedKey
from authz.decision import Allow
from authz.known import Known
from authz.report import Report
from authz.request import Gateway, GatewayKind, Request
from authz.store.protocols import Outcome
from authz.store.records import Entry
from authz.usage import Usage
from tests.support.lab import EDGE, Lab, step

CONFIG = """
store: memory://
gateways: {edge: {kind: envoy, token: token-of-the-edge-gateway}}
authenticators: {keys: {type: api_key}}
models:
  llama3: {context: 8192, max_output: 2048, price: {input: 1, cached_input: 0.1, output: 4}}
routes:
  - name: inference
    match: {api: [openai, anthropic]}
    authenticate: {any_of: [keys]}
    authorize: [{models: allowed}]
    limits: [requests, tokens, input, output, cost, slots]
limits:
  requests: {unit: requests, quota: 1000, window: day, partition_by: [user]}
  tokens: {unit: tokens, quota: 100k, window: day, partition_by: [user]}
  input: {unit: input_tokens, quota: 100k, window: day, partition_by: [user]}
  output: {unit: output_tokens, quota: 100k, window: day, partition_by: [user]}
  cost: {unit: cost, quota: 1, window: month, partition_by: [user]}
  slots: {unit: concurrency, quota: 50, partition_by: [user]}
"""
OURS = Gateway(name="edge", kind=GatewayKind.ENVOY, proven=True, request_id_is_ours=True)
OTHER = Gateway(name="other", kind=GatewayKind.TRAEFIK, proven=True)


class Scene:
    """One key, and what it has used so far."""

    def __init__(self, config: str = CONFIG) -> None:
        self.lab = Lab(config)
        self.key: MintedKey = self.lab.key("alice")
        self._fresh = self.left()

    def ask(self, **how: Any) -> Allow:
        """A request that is let through; its reservation holds the worst case."""
        decision = self.lab.decide(self.request(**how))
        assert isinstance(decision, Allow), decision
        return decision

    def request(self, **how: Any) -> Request:
        return self.lab.request(key=self.key, **how)

    def tell(self, allow: Allow, gateway: Gateway = EDGE, **told: Any) -> Outcome:
        """Settle by a report."""
        assert allow.reservation is not None
        report = Report(reservation=allow.reservation, **told)
        outcome: Outcome = step(self.lab.service.settle(report, gateway))
        return outcome

    def left(self) -> Mapping[str, int]:
        """What would be left of each quota after one more such request."""
        peeked = step(self.lab.decider.follow(Known(self.request()), charge=False))
        return {state.limit.policy: state.remaining for state in peeked.limits}

    def charged(self) -> Mapping[str, int]:
        """What each counter holds, settled and held."""
        return {policy: self._fresh[policy] - left for policy, left in self.left().items()}

    def entries(self) -> list[Entry]:
        """The ledger, the oldest first."""
        self.lab.store.keep_up()
        self.lab.store.wait_for_writer()
        return list(reversed(self.lab.store.ledger.entries()))

    def entry(self) -> Entry:
        [entry] = self.entries()
        return entry


def charge(usage: Usage, *, requests: int = 1) -> dict[str, int]:
    """What the counters hold after one settled request of the scene's model."""
    nano = (usage.input - usage.cached) * 1000 + usage.cached * 100 + usage.output * 4000
    return {
        "requests": requests,
        "tokens": usage.input + usage.output,
        "input": usage.input,
        "output": usage.output,
        "cost": nano,
        "slots": 0,
    }
