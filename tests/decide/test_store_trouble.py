"""A store that does not answer: limits follow their own policy, authentication never fails open (invariant 12)."""

from typing import Any

import pytest

from authz.decide import Decider
from authz.decision import Allow, Deny
from authz.explain import Question, explain
from authz.ledger.settle import Settler
from authz.reason import Reason
from authz.report import Report
from authz.store.fallback import FallbackCounters
from authz.store.protocols import Counters, Outcome, StoreUnavailable
from tests.store.switched import Switched, Way
from tests.support.lab import EDGE, Lab, step

CONFIG = """
store: memory://
gateways: {edge: {kind: envoy, token: "edge-token-of-the-tests"}}
authenticators: {keys: {type: api_key}}
models: {llama3: {}}
routes:
ROUTES
limits:
  open: {unit: requests, quota: 3, window: 1m, partition_by: [key], on_store_failure: allow}
  share: {unit: requests, quota: 2, window: 1m, partition_by: [key], on_store_failure: local}
  shut: {unit: requests, quota: 3, window: 1m, partition_by: [key]}
  tried: {unit: requests, quota: 1, window: 1m, partition_by: [key], mode: shadow}
  beside: {unit: requests, quota: 3, window: 1m, partition_by: [key], on_store_failure: allow, shadow: {quota: 1}}
"""

ROUTES = {
    "free": "",
    "open": "open",
    "share": "share",
    "shut": "shut",
    "open-share": "open, share",
    "open-shut": "open, shut",
    "all": "open, share, shut",
    "tried": "tried, beside",
}
ROUTE = """
  - name: {name}
    match: {{paths: [/{name}]}}
    authenticate: {{any_of: [keys]}}
    authorize: [{{models: any}}]
    limits: [{limits}]
"""
CONFIG = CONFIG.replace(
    "ROUTES", "".join(ROUTE.format(name=name, limits=limits) for name, limits in ROUTES.items())
)

ANSWERS = {  # route: the statuses of four requests while the store does not answer
    "free": [200, 200, 200, 200],
    "open": [200, 200, 200, 200],
    "share": [200, 200, 429, 429],
    "shut": [503, 503, 503, 503],
    "open-share": [200, 200, 429, 429],
    "open-shut": [503, 503, 503, 503],
    "all": [503, 503, 503, 503],
    "tried": [200, 200, 200, 200],
}
LIMITED = {  # and while it does
    "free": [200, 200, 200, 200],
    "open": [200, 200, 200, 429],
    "share": [200, 200, 429, 429],
    "shut": [200, 200, 200, 429],
    "open-share": [200, 200, 429, 429],
    "open-shut": [200, 200, 200, 429],
    "all": [200, 200, 429, 429],
    "tried": [200, 200, 200, 429],
}


class Site:
    """A decider before a store with a switch."""

    def __init__(self) -> None:
        self.lab = Lab(CONFIG)
        self.failed: list[str] = []
        self.way = Switched(self.lab.store.counters)
        self.counters = FallbackCounters(self.way, self.lab.clock)
        self.decider = self.before(self.counters)
        self.settler = Settler(self.counters, self.lab.clock)
        self.key = self.lab.key()

    def before(self, counters: Counters) -> Decider:
        return Decider(
            self.lab.rules,
            self.lab.store.directory,
            counters,
            self.lab.clock,
            store_failed=self.failed.append,
        )

    async def ask(self, route: str, decider: Decider | None = None) -> Allow | Deny:
        request = self.lab.request("GET", f"/{route}", key=self.key, body=b"")
        return await (decider or self.decider).decide(request)


def status(decision: Allow | Deny) -> int:
    return 200 if isinstance(decision, Allow) else decision.status


@pytest.mark.parametrize("way", Way, ids=lambda way: way.name.lower())
@pytest.mark.parametrize("route", ANSWERS)
async def test_each_limit_has_its_word(route: str, way: Way) -> None:
    site = Site()
    site.way.way = way
    decisions = [await site.ask(route) for _ in range(4)]
    if way is Way.UP:
        assert [status(each) for each in decisions] == LIMITED[route]
        assert not site.failed
        return
    assert [status(each) for each in decisions] == ANSWERS[route]
    assert site.failed == ["reserve"] * 4
    for decision in decisions:
        if isinstance(decision, Allow):
            assert decision.without_store
            assert decision.reservation is not None
            assert ("x-authz-reservation", decision.reservation) in decision.upstream
        elif decision.status == 503:
            assert decision.reason is Reason.STORE_UNAVAILABLE


@pytest.mark.parametrize("route", ANSWERS)
async def test_an_embedded_store_has_no_share(route: str) -> None:
    site = Site()
    site.way.way = Way.DOWN
    decision = await site.ask(route, site.before(site.way))
    if route in ("free", "open", "tried"):
        assert isinstance(decision, Allow)
        assert decision.without_store
        assert decision.reservation is None
    else:
        assert isinstance(decision, Deny)
        assert decision.reason is Reason.STORE_UNAVAILABLE
    assert site.failed == ["reserve"]


async def test_a_refusal_by_a_share_says_so() -> None:
    site = Site()
    site.way.way = Way.DOWN
    for _ in range(2):
        await site.ask("share")
    refused = await site.ask("share")
    assert isinstance(refused, Deny)
    assert refused.reason is Reason.RATE_LIMITED
    assert "needed 1, left 0 of 2 requests" in refused.message
    assert refused.message.endswith("what is left is the share of one replica.")
    assert dict(refused.headers)["retry-after"] == "1"


async def test_a_refusal_without_the_store_tells_the_operator_which_limits_refuse() -> None:
    site = Site()
    site.way.way = Way.DOWN
    refused = await site.ask("all")
    assert isinstance(refused, Deny)
    assert refused.detail == "switched off; 'shut' refuses meanwhile (on_store_failure: deny)"
    assert "switched off" not in refused.message


async def test_what_was_let_through_is_settled_by_the_name_that_it_got() -> None:
    site = Site()
    site.way.way = Way.DOWN
    allowed = await site.ask("open-share")
    assert isinstance(allowed, Allow)
    assert allowed.reservation is not None
    outcome, facts = await site.settler.settle(Report(reservation=allowed.reservation, status=200), EDGE)
    assert outcome is Outcome.SETTLED
    assert facts is not None
    site.way.way = Way.UP
    assert await site.counters.reconcile()
    outcome, _ = await site.settler.settle(Report(reservation=allowed.reservation, status=200), EDGE)
    assert outcome is Outcome.ALREADY


async def test_once_the_store_answers_all_is_as_before() -> None:
    site = Site()
    site.way.way = Way.DOWN
    await site.ask("share")
    site.way.way = Way.UP
    again = await site.ask("share")
    assert isinstance(again, Allow)
    assert not again.without_store
    assert status(await site.ask("share")) == 429, "one was spent without the store"


def test_grants_that_were_never_read_are_trouble_of_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(self: Any, policy: str) -> Any:
        raise StoreUnavailable("never read")

    lab = Lab(CONFIG)
    key = lab.key()
    monkeypatch.setattr(type(lab.store.directory), "adjustments", never)
    decision = step(lab.decider.decide(lab.request("GET", "/shut", key=key, body=b"")))
    assert isinstance(decision, Deny)
    assert (decision.reason, decision.detail) == (Reason.STORE_UNAVAILABLE, "never read")


def test_a_directory_that_does_not_answer_lets_nobody_in(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(self: Any, digest: bytes) -> Any:
        raise StoreUnavailable("gone")

    lab = Lab(CONFIG)
    key = lab.key()
    monkeypatch.setattr(type(lab.store.directory), "key", gone)
    decision = step(lab.decider.decide(lab.request("GET", "/open", key=key, body=b"")))
    assert isinstance(decision, Deny)
    assert decision.reason is Reason.STORE_UNAVAILABLE


async def test_check_says_where_the_store_does_not_answer() -> None:
    site = Site()
    site.lab.store.counters = site.counters
    site.way.way = Way.DOWN

    async def told(route: str) -> tuple[bool, str]:
        question = Question(path=f"/{route}", method="GET", key=site.key.key)
        explained = await explain(site.lab.loaded, site.lab.store, question, site.lab.clock)
        return explained.stages[-1].passed, explained.stages[-1].text

    passed, text = await told("share")
    assert passed
    assert text.startswith("the store does not answer, so by the share of one replica (on_store_failure): ")
    assert "'share' needs 1, left 1 of 2 requests" in text
    passed, text = await told("all")
    assert not passed
    assert "'shut' refuses meanwhile (on_store_failure: deny)" in text
