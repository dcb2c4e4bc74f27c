"""What is kept of a caller's last request changes nothing: every plan is as one made for the first time."""

from collections.abc import Callable, Sequence
from random import Random

import pytest

from authz.decide import Decider
from authz.decision import Allow
from authz.limit.plan import Plan
from authz.quota import parse_quota
from authz.request import Request
from authz.ruleset import build_rules
from authz.store.protocols import Hold, Level, Reserved
from authz.store.records import Adjustment, Team, User
from tests.support.lab import NOW, FakeClock, Lab, step

DAY = 86_400_000
CONFIG = """
store: memory://
gateways: {edge: {kind: envoy, token: "edge-token-of-the-tests"}}
authenticators: {keys: {type: api_key}}
models: {llama3: {context: 8192, price: {input: 1, output: 4}}, big: {context: 8192}}
routes:
  - name: steady
    match: {paths: [/v1/chat/completions]}
    authenticate: {any_of: [keys]}
    authorize: [{models: any}]
    limits: [rpm, tokens, cost, slots, tried]
    preferences: {header: x-wishes, max_concurrent_requests: 9}
  - name: looks
    match: {paths: [/v1/completions]}
    authenticate: {any_of: [keys]}
    authorize: [{models: any}]
    limits: [rpm, of-address, of-big]
limits:
  rpm: {unit: requests, quota: 60, window: 1m, partition_by: [key]}
  tokens: {unit: tokens, quota: 9M, window: day, partition_by: [team, model], timezone: Europe/Helsinki}
  cost: {unit: cost, quota: 90, window: month, partition_by: [user]}
  slots: {unit: concurrency, quota: 9, partition_by: [route]}
  tried: {unit: output_tokens, quota: 9M, window: 1h, partition_by: [], shadow: {quota: 10}}
  of-address: {unit: requests, quota: 60, window: 1m, partition_by: [ip]}
  of-big: {unit: tokens, quota: 9M, window: 1h, partition_by: [key], when: {models: [big]}}
"""


class Seen:
    """Counters that let everything through and keep what is held."""

    def __init__(self) -> None:
        self.holds: Sequence[Hold] = ()

    def place(self, holds: Sequence[Hold]) -> str:
        return ""

    async def reserve(
        self, reservation: str, gateway: str, holds: Sequence[Hold], ttl_ms: int, facts: bytes = b""
    ) -> Reserved:
        self.holds = holds
        return Reserved(tuple(Level(1, 0) for _ in holds))


class Scene:
    """A service that has seen many requests, beside one that sees its first each time."""

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)
        self.lab = Lab(CONFIG, clock=FakeClock(NOW))
        self.registry = self.lab.store.registry
        for name in ("nlp", "ml"):
            self.registry.put_team(Team(name=name))
        self.keys = [
            self.lab.key("alice", "requests=7/m", "tokens=1M/day"),
            self.lab.key("alice", team="nlp"),
            self.lab.key("bob", "cost=5/month"),
        ]
        self.adjusted: list[str] = []

    def holds(self, request: Request, *, first: bool) -> Sequence[Hold]:
        lab, seen = self.lab, Seen()
        rules = lab.rules
        if first:
            rules = build_rules(lab.loaded, lab.authenticators, lab.store.directory)
        decision = step(Decider(rules, lab.store.directory, seen, lab.clock).decide(request))  # type: ignore[arg-type]
        assert isinstance(decision, Allow), decision
        return seen.holds

    def request(self) -> Request:
        model, length = self.chance.choice(("llama3", "big")), self.chance.choice((1, 1, 40))
        body = f'{{"model":"{model}","prompt":"{"x" * length}","max_tokens":{length}}}'
        wishes = {"x-wishes": '{"max_concurrent_requests": 2}'} if self.chance.random() < 0.2 else {}
        return self.lab.request(
            target=self.chance.choice(("/v1/chat/completions", "/v1/completions")),
            key=self.chance.choice(self.keys),
            body=body.encode(),
            headers=wishes,
            ip=self.chance.choice(("10.0.0.1", "10.0.0.2")),
        )

    def pass_time(self) -> None:
        self.lab.clock.now += self.chance.choice((1, 60_000, DAY // 3, DAY, 31 * DAY, -DAY))

    def change_people(self) -> None:
        team = self.chance.choice((None, "nlp", "ml"))
        quotas = (parse_quota("tokens=5M/day"),) if self.chance.random() < 0.5 else ()
        self.registry.put_user(User(name="alice", team=team, quotas=quotas))

    def adjust(self) -> None:
        if self.adjusted:
            self.registry.remove_adjustment(self.adjusted.pop())
            return
        self.adjusted.append(f"adj_{self.chance.random()}")
        until = self.lab.clock() + DAY if self.chance.random() < 0.5 else None
        policy, partition = self.chance.choice((("tokens", "team"), ("cost", "user"), ("rpm", "key")))
        value = self.keys[0].id if partition == "key" else "nlp" if partition == "team" else "alice"
        self.registry.add_adjustment(
            Adjustment(
                id=self.adjusted[-1],
                policy=policy,
                partition=((partition, value),),
                grant=self.chance.choice((0, 5)),
                override=self.chance.choice((None, 77)),
                until=until,
            )
        )


@pytest.mark.parametrize("seed", range(8))
def test_a_plan_is_as_the_first(seed: int) -> None:
    scene = Scene(seed)
    events: list[Callable[[], None]] = [scene.pass_time, scene.change_people, scene.adjust]
    for _ in range(150):
        if scene.chance.random() < 0.2:
            scene.chance.choice(events)()
        request = scene.request()
        assert scene.holds(request, first=False) == scene.holds(request, first=True)


def test_the_same_request_again_is_planned_once(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(0)
    made: list[object] = []
    planners = scene.lab.rules.routes[0].courses.planners
    monkeypatch.setattr(type(planners), "plan", lambda *asked: made.append(asked) or Plan())
    for _ in range(9):
        scene.holds(scene.lab.request(key=scene.keys[0]), first=False)
    assert len(made) == 1


def test_an_adjustment_that_is_over_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller who first asked while a quota was another for a while is planned once from then on."""
    scene = Scene(0)
    scene.adjust()
    planners = scene.lab.rules.routes[0].courses.planners
    made: list[object] = []
    plan = type(planners).plan
    monkeypatch.setattr(type(planners), "plan", lambda *asked: made.append(asked) or plan(*asked))
    request = scene.lab.request(key=scene.keys[0])
    for _ in range(3):
        scene.holds(request, first=False)
    assert len(made) == 3
    scene.adjust()
    for _ in range(9):
        scene.holds(request, first=False)
    assert len(made) == 4
