"""Whose a counter is: one and the same for all requests that it counts."""

import base64
from collections import defaultdict
from collections.abc import Sequence
from itertools import product

import jwt
import pytest
from msgspec.structs import replace

from authz.decide import Decider
from authz.decision import Allow
from authz.quota import parse_quota
from authz.request import Request
from authz.store.protocols import Hold, Level, Reserved
from authz.store.records import Team, User
from tests.support.lab import NOW, Lab, step

SECRET = b"0123456789abcdef0123456789abcdef"
DIMENSIONS = {
    "by-key": "[key]",
    "by-user": "[user]",
    "by-team": "[team]",
    "by-user-and-model": "[user, model]",
    "by-key-and-team": "[key, team]",
    "by-key-and-user": "[key, user]",
    "by-model": "[model]",
    "by-nothing": "[]",
}
LIMITS = "".join(
    f"  {name}: {{unit: requests, quota: 99, window: 1m, partition_by: {by}}}\n"
    for name, by in DIMENSIONS.items()
)
CONFIG = f"""
store: memory://
gateways: {{edge: {{kind: envoy, token: "edge-token-of-the-tests"}}}}
authenticators:
  keys: {{type: api_key, act_for: {{header: x-for, role: act_for}}}}
  sso: &sso
    {{type: jwt, issuers: [i], audiences: [a], algorithms: [HS256], sign_key: {base64.b64encode(SECRET).decode()},
      subject: {{teams: team}}}}
  ours: {{<<: *sso, audiences: [b], map_users: true}}
models: {{llama3: {{}}}}
routes:
  - name: all
    match: {{api: [openai]}}
    authenticate: {{any_of: [keys, sso, ours]}}
    authorize: [{{models: any}}]
    limits: [{", ".join(DIMENSIONS)}]
    preferences: {{header: x-wishes, max_concurrent_requests: 9}}
limits:
{LIMITS}"""
NOBODYS = {"by-model": "", "by-nothing": ""}


class Seen:
    """Counters that let everything through and keep what is held; every reservation is in the third place."""

    def __init__(self) -> None:
        self.holds: Sequence[Hold] = ()

    def place(self, holds: Sequence[Hold]) -> str:
        return "@3"

    async def reserve(
        self, reservation: str, gateway: str, holds: Sequence[Hold], ttl_ms: int, facts: bytes = b""
    ) -> Reserved:
        self.holds = holds
        return Reserved(tuple(Level(1, 0) for _ in holds))


class Scene:
    """alice is of the team nlp, bob of none, and webui, of the team it, may act for others."""

    def __init__(self) -> None:
        self.lab = Lab(CONFIG)
        self.seen = Seen()
        self.registry, directory = self.lab.store.registry, self.lab.store.directory
        self.decider = Decider(self.lab.rules, directory, self.seen, self.lab.clock)  # type: ignore[arg-type]
        for name, team in (("alice", "nlp"), ("bob", None), ("webui", "it")):
            self.registry.put_user(User(name=name, team=team))
        self.alice = self.lab.key("alice", "requests=7/m")
        self.lent = self.lab.key("alice", team="guests")
        self.bob = self.lab.key("bob")
        self.webui = self.lab.key("webui", "requests=8/m", roles=frozenset({"act_for"}))

    def token(self, user: str, audience: str, **claims: object) -> str:
        claims |= {"iss": "i", "aud": audience, "sub": user, "exp": NOW // 1000 + 600}
        return jwt.encode(claims, SECRET, algorithm="HS256")

    def requests(self) -> dict[str, Request]:
        make = self.lab.request
        return {
            "key": make(key=self.alice),
            "key of another team": make(key=self.lent),
            "key without a team": make(key=self.bob),
            "key that acts for nobody": make(key=self.webui),
            "acts for alice": make(key=self.webui, headers={"x-for": "alice"}),
            "acts for a stranger": make(key=self.webui, headers={"x-for": "eve"}),
            "token": make(key=self.token("alice", "a")),
            "token of a team": make(key=self.token("alice", "a", team="ml")),
            "token of ours": make(key=self.token("alice", "b")),
            "token of ours, of a team": make(key=self.token("alice", "b", team="ml")),
            "token of a stranger": make(key=self.token("eve", "b")),
        }

    def hold(self, request: Request) -> Sequence[Hold]:
        decision = step(self.decider.decide(request))
        assert isinstance(decision, Allow), decision
        assert decision.reservation == request.request_id + "@3"
        return self.seen.holds

    def owners(self, caller: str) -> dict[str, str]:
        return {hold.key.partition("|")[0]: hold.owner for hold in self.hold(self.requests()[caller])}


def owned(user: str, team: str, **others: str) -> dict[str, str]:
    """The owner of each policy's counter, where the user has one home and the request counts for a team."""
    alike = dict.fromkeys(("by-key", "by-user", "by-user-and-model", "by-key-and-user"), user)
    return {**NOBODYS, **alike, "by-team": team, "by-key-and-team": team, **others}


@pytest.mark.parametrize(
    ("caller", "expected"),
    {
        "key": owned("team:nlp", "team:nlp", **{"key:requests=7/1m": "team:nlp"}),
        "key of another team": owned("team:nlp", "team:guests"),
        "key without a team": owned("user:bob", "user:bob"),
        "key that acts for nobody": owned("team:it", "team:it", **{"key:requests=8/1m": "team:it"}),
        "acts for alice": owned(
            "team:nlp", "team:nlp", **{"by-key": "team:it", "key:requests=8/1m": "team:it"}
        ),
        "acts for a stranger": owned(
            "user:keys:eve", "team:it", **{"by-key": "team:it", "key:requests=8/1m": "team:it"}
        ),
        "token": owned("user:sso:alice", "user:sso:alice"),
        "token of a team": owned("user:sso:alice", "team:ml"),
        "token of ours": owned("team:nlp", "team:nlp"),
        "token of ours, of a team": owned("team:nlp", "team:ml"),
        "token of a stranger": owned("user:eve", "user:eve"),
    }.items(),
)
def test_whose_a_counter_is(caller: str, expected: dict[str, str]) -> None:
    assert Scene().owners(caller) == expected


def test_limits_of_a_key_user_and_team_and_a_wish_are_their_owners() -> None:
    scene = Scene()
    scene.registry.put_user(User(name="carol", team="ml", quotas=(parse_quota("requests=4/m"),)))
    scene.registry.put_team(Team(name="guests", quotas=(parse_quota("requests=3/m"),)))
    key = scene.lab.key("carol", "requests=5/m", team="guests")
    held = scene.hold(scene.lab.request(key=key, headers={"x-wishes": '{"max_concurrent_requests": 2}'}))
    found = {hold.key.partition("|")[0]: hold.owner for hold in held}
    assert (
        found.items()
        >= {
            "key:requests=5/1m": "team:ml",
            "user:requests=4/1m": "team:ml",
            "team:requests=3/1m": "team:guests",
            "all:max_concurrent_requests": "team:ml",
        }.items()
    )


def test_no_counter_has_two_owners() -> None:
    scene = Scene()
    owners: defaultdict[str, set[str]] = defaultdict(set)
    for request, _ in product(scene.requests().values(), range(2)):
        for hold in scene.hold(replace(request, request_id="again")):
            owners[hold.key].add(hold.owner)
    assert {key: found for key, found in owners.items() if len(found) > 1} == {}


def test_who_changes_the_team_changes_the_home() -> None:
    scene = Scene()
    assert scene.owners("key")["by-user"] == "team:nlp"
    scene.registry.put_user(User(name="alice", team="ops"))
    assert scene.owners("key")["by-user"] == scene.owners("key")["by-key"] == "team:ops"
    scene.registry.put_user(User(name="alice"))
    assert scene.owners("key")["by-user"] == "user:alice"
