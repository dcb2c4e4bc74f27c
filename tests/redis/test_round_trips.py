"""What a decision asks of Redis: one script call for all limits of a tenant, counted by Redis itself."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from authz.decide import Decider
from authz.decision import Allow
from authz.ledger.settle import Settler
from authz.report import Report
from authz.store.fallback import FallbackCounters
from authz.store.protocols import Counters
from authz.store.records import Team, User
from authz.store.redis import scripts
from authz.store.redis.allowance.counters import AllowanceCounters
from authz.store.redis.batch import Call
from authz.store.redis.counters import RedisCounters
from authz.store.redis.link_open import open_link
from authz.store.redis.node_wire import Wire
from authz.store.redis.store import RedisStore
from authz.store.redis.target import Target
from authz.usage import Usage
from tests.redis.link_kit import PATIENT, until
from tests.support.lab import EDGE, Lab
from tests.support.redis import RedisCluster, RedisServer

LIMITS = {
    "key-rate": "{unit: requests, quota: 6000, window: 1m, partition_by: [key]}",
    "key-day": "{unit: tokens, quota: 10M, window: day, partition_by: [key]}",
    "key-slots": "{unit: concurrency, quota: 500, partition_by: [key]}",
    "user-minute": "{unit: tokens, quota: 10M, window: 1m, partition_by: [user]}",
    "user-model": "{unit: requests, quota: 6000, window: 1h, algorithm: fixed, partition_by: [user, model]}",
    "team-rate": "{unit: requests, quota: 60000, window: 1m, partition_by: [team]}",
    "team-month": "{unit: tokens, quota: 900M, window: month, partition_by: [team]}",
    "team-output": "{unit: output_tokens, quota: 90M, window: 1h, partition_by: [team, model]}",
}
CONFIG = f"""
store: memory://
gateways: {{edge: {{kind: envoy, token: "edge-token-of-the-tests"}}}}
authenticators: {{keys: {{type: api_key}}}}
models: {{llama3: {{context: 8192, max_output: 1024}}}}
routes:
  - name: inference
    match: {{api: [openai]}}
    authenticate: {{any_of: [keys]}}
    authorize: [{{models: any}}]
    limits: [{", ".join(LIMITS)}]
limits:
{"".join(f"  {name}: {limit}{chr(10)}" for name, limit in LIMITS.items())}
"""
TEAMS = 12  # on every node of a Cluster there are some
REQUESTS = 120
AT_ONCE = 100


class Tenants:
    """People of several teams, each with a key, who ask one after another."""

    def __init__(self, config: str = CONFIG, teams: int = TEAMS) -> None:
        self.lab = Lab(config)
        registry = self.lab.store.registry
        self.keys = []
        for number in range(teams):
            registry.put_team(Team(name=f"team{number}"))
            registry.put_user(User(name=f"user{number}", team=f"team{number}"))
            self.keys.append(self.lab.key(f"user{number}"))

    async def ask(self, counters: Counters, count: int) -> Sequence[Allow]:
        """So many decisions at once, all of them yes."""
        decider = Decider(self.lab.rules, self.lab.store.directory, counters, self.lab.clock)
        requests = [self.lab.request(key=self.keys[number % len(self.keys)]) for number in range(count)]
        decisions = await asyncio.gather(*map(decider.decide, requests))
        allowed = [each for each in decisions if isinstance(each, Allow)]
        assert len(allowed) == count, decisions
        return allowed

    async def settle(self, counters: Counters, allowed: Sequence[Allow]) -> None:
        settler = Settler(counters, self.lab.clock)
        for each in allowed:
            assert each.reservation is not None
            usage = Usage(input=10, output=3)
            await settler.settle(Report(reservation=each.reservation, usage=usage, status=200), EDGE)


class Asked:
    """Counts, from now on, what scripts the servers were asked for, and how."""

    def __init__(self, servers: Sequence[RedisServer]) -> None:
        self._servers = servers
        for server in servers:
            server.call("CONFIG", "RESETSTAT")

    def calls(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for server in self._servers:
            stats = server.call("INFO", "commandstats").decode()
            for name, calls in re.findall(r"cmdstat_(eval\w*|script\S*|fcall\w*):calls=(\d+)", stats):
                found[name] += int(calls)
        return found


@pytest.fixture(params=["server", "cluster"])
def place(request: pytest.FixtureRequest) -> tuple[str, Sequence[RedisServer]]:
    """The URL, and who is behind it."""
    if request.param == "server":
        server: RedisServer = request.getfixturevalue("server")
        return server.url + PATIENT, [server]
    cluster: RedisCluster = request.getfixturevalue("cluster")
    return cluster.url + PATIENT, cluster.masters


@asynccontextmanager
async def alone(url: str, lab: Lab) -> AsyncIterator[AllowanceCounters]:
    """The counters of a service without what else it does in Redis now and then."""
    link = open_link(Target.parse(url))
    link.teach(*scripts.ALL)
    await link.start()
    redis = RedisCounters(link, lab.clock)
    ahead = AllowanceCounters(FallbackCounters(redis, lab.clock, replicas=lambda: 1), redis, lab.clock)
    try:
        yield ahead
    finally:
        await link.close()


async def test_a_decision_by_eight_limits_of_a_tenant_is_one_call(
    place: tuple[str, Sequence[RedisServer]],
) -> None:
    url, servers = place
    tenants = Tenants()
    async with alone(url, tenants.lab) as counters:
        asked = Asked(servers)
        allowed = await tenants.ask(counters, REQUESTS)
        assert asked.calls() == {"evalsha": REQUESTS}
        for each in allowed:
            assert {state.limit.policy for state in each.limits} == set(LIMITS)
        asked = Asked(servers)
        await tenants.settle(counters, allowed)
        assert asked.calls() == {"evalsha": 2 * REQUESTS}, "what it was, and what it used"


async def test_no_decision_brings_the_text_of_a_script(place: tuple[str, Sequence[RedisServer]]) -> None:
    """Not even the first, on servers that never saw it."""
    url, servers = place
    tenants = Tenants()
    for server in servers:
        server.call("SCRIPT", "FLUSH")
    asked = Asked(servers)
    async with alone(url, tenants.lab) as counters:
        await tenants.ask(counters, TEAMS)
    calls = asked.calls()
    assert calls["eval"] == 0
    assert calls["evalsha"] == TEAMS


async def test_decisions_of_one_tick_leave_in_one_write(
    place: tuple[str, Sequence[RedisServer]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole store, with all that it does beside them."""
    url, servers = place
    tenants = Tenants()
    batches: list[int] = []
    write = Wire.write

    def counted(wire: Wire, calls: Sequence[Call], packed: bytes) -> None:
        if reserved := sum(call.script is scripts.RESERVE for call in calls):
            batches.append(reserved)
        write(wire, calls, packed)

    monkeypatch.setattr(Wire, "write", counted)
    store = RedisStore(Target.parse(url), tenants.lab.clock, "UTC", counted_by=tenants.lab.clock)
    await store.start()
    try:
        await tenants.ask(store.counters, TEAMS)
        batches.clear()
        await tenants.ask(store.counters, AT_ONCE)
    finally:
        await store.close()
    assert sum(batches) == AT_ONCE
    assert len(batches) <= len(servers)


def with_allowances() -> str:
    """All limits but the one of what runs at once, and so large that nothing is near."""
    config = CONFIG.replace("key-slots, ", "")
    config = re.sub(r"(unit: requests, quota: \d+)", r"\1k, allowance: 5k", config)
    return re.sub(r"(tokens, quota: )\d+M", r"\g<1>20000M, allowance: 20M", config)


async def test_hot_keys_with_allowances_need_less_than_two_calls_in_a_hundred(server: RedisServer) -> None:
    """All that is asked for because of decisions: units set aside, what was spent of them, and the rest."""
    tenants = Tenants(with_allowances(), teams=1)
    async with alone(server.url + PATIENT, tenants.lab) as counters:
        await tenants.ask(counters, AT_ONCE)
        await until(lambda: counters.figures.lots)  # now the key is hot
        asked = Asked([server])
        allowed: list[Allow] = []
        for _ in range(40):
            allowed += await tenants.ask(counters, AT_ONCE)
        await counters.close()
        calls = asked.calls()
        assert calls["evalsha"] / len(allowed) <= 0.02, calls
        for each in allowed:
            assert {state.limit.policy for state in each.limits} == set(LIMITS) - {"key-slots"}
        await tenants.settle(counters, allowed)
