"""Several replicas of authz on one store, clients that ask and settle at any of them, and deaths in between."""

import asyncio
import random
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from authz.authenticate.key_format import MintedKey
from authz.calendar import calendar_bounds
from authz.quota import parse_quota
from authz.store.levels import level_of
from authz.store.open import open_view, wall_clock
from authz.store.protocols import Hold, Kind, Level
from authz.store.records import Entry, Source
from authz.store.redis.allowance.counters import BY_LOT
from authz.store.store import Store
from tests.acceptance.lab import add_key, ask, eventually
from tests.support.asking import Asker, Told, usage
from tests.support.service import AuthzService

TOKEN = "token-of-edge-in-the-tests"
LEASE = 3  # seconds, the least: whoever says nothing for so long counts as gone
CONFIG = """
timezone: {zone}
gateways:
  edge: {{kind: traefik, token: {token}, lease: {lease}s}}
  envoy: {{kind: envoy, token: token-of-envoy-in-the-tests, request_id: gateway}}
  nginx: {{kind: nginx, token: token-of-nginx-in-the-tests}}
authenticators:
  keys: {{type: api_key}}
models:
  sim: {{context: 32768, max_output: 4096}}
limits: {{{limits}}}
routes:
  - name: models
    match: {{methods: [GET], paths: [/v1/models]}}
    authenticate: {{any_of: [keys]}}
    authorize: [{{models: any}}]
  - name: inference
    match: {{api: [openai]}}
    authenticate: {{any_of: [keys]}}
    authorize: [{{models: any}}]
    limits: [{names}]
"""
GONE = (OSError, EOFError, TimeoutError)


@dataclass
class Replicas:
    """All of them on one store."""

    services: Sequence[AuthzService]
    view: Store
    zone: str

    def key(self, *limits: str) -> MintedKey:
        """A new key, in force at every replica."""
        minted = add_key(self.view.registry, *limits, timezone=self.zone)
        for service in self.services:
            eventually(lambda service=service: ask(service, minted.key).status == 200)  # type: ignore[misc]
        return minted

    def level(self, key: MintedKey, limit: str, counter: str = "") -> Level:
        """How the key's own limit stands in the store, or its part of one that has a `counter` of its name."""
        quota = parse_quota(limit)
        now = wall_clock()
        hold = Hold(
            "", Kind.CALENDAR, quota.unit, quota.amount, 0, bounds=self._bounds(quota.window.period, now)
        )
        levels = self.view.registry.counter_levels(counter or f"key:{limit}")
        states = [encoded for name, encoded in levels.items() if key.id in name]
        return level_of(states[0], hold, now) if states else Level(quota.amount, 0)

    def _bounds(self, period: str, now: int) -> tuple[int, int, int, int]:
        return calendar_bounds(now, period, self.zone)

    def entries(self, key: MintedKey) -> dict[str, Entry]:
        """The ledger of a key by reservation."""
        found = self.view.ledger.entries(only={"key": key.id}, limit=100_000)
        assert len({each.reservation for each in found}) == len(found), "two entries of one request"
        return {each.reservation: each for each in found}


@contextmanager
def replicas(
    scratch: Path, store: str, count: int = 3, limits: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Replicas]:
    """`count` services, ready; `limits` hold for every key."""
    zone = (
        f"Etc/GMT{time.gmtime().tm_hour - 12:+d}"  # it is around noon: no day ends while a key counts by it
    )
    spelled = ", ".join(f"{name}: {limit}" for name, limit in limits.items())
    config = CONFIG.format(zone=zone, token=TOKEN, lease=LEASE, limits=spelled, names=", ".join(limits))
    with ExitStack() as stack:
        services = [
            stack.enter_context(AuthzService(scratch / f"replica{number}", config, store=store))
            for number in range(count)
        ]
        yield Replicas(services, open_view(store), zone)


@dataclass
class Crowd:
    """Clients of one key that ask until everybody is refused while nobody is being answered; then one alone."""

    at: Replicas
    key: MintedKey
    quota: int
    chance: random.Random
    answered: int = 0  # let through, and still to be settled by a client that lives
    admitted: dict[str, int] = field(default_factory=dict)  # reservation -> tokens it will be settled with
    dead: set[str] = field(default_factory=set)  # reservations whose client said nothing any more
    forgotten: set[str] = field(default_factory=set)  # that no replica knew when they were to be settled
    lost: int = 0  # questions whose answer never came
    smallest: int = 1 << 53  # of the holds that were refused to the one alone
    waits: list[float] = field(default_factory=list)  # seconds for an answer

    async def run(self, clients: int) -> None:
        """Returns when all were refused."""
        async with asyncio.TaskGroup() as crowd:
            for _ in range(clients):
                crowd.create_task(self._client())
        askers = self._askers()
        refused: list[int] = []
        while len(refused) < 5:
            refused += await self._request(askers)
        self.smallest = min(refused)
        _hang_up(askers)

    def _askers(self) -> Sequence[Asker]:
        return [Asker(each.http, TOKEN, can=f"lease={LEASE * 1000}") for each in self.at.services]

    async def _client(self) -> None:
        askers = self._askers()
        try:
            while True:
                quiet = self.answered == 0
                refused = await self._request(askers)
                if refused and quiet and self.answered == 0:
                    return
                await asyncio.sleep(self.chance.uniform(0, 0.1 if refused else 0.02))
        finally:
            _hang_up(askers)

    async def _request(self, askers: Sequence[Asker]) -> list[int]:
        """What was needed and is not there; nothing where the answer was another."""
        most = self.chance.randrange(1, 400)
        asked = {"model": "sim", "messages": [{"role": "user", "content": "x"}], "max_tokens": most}
        told = await self._ask(askers, asked)
        if told is None or told.status == 503:
            return []
        if told.status == 429:
            return [_needed(told)]
        assert told.status == 200, told
        name = told.reservation.removesuffix(BY_LOT)
        assert name not in self.admitted, "two requests under one name"
        spent = self.chance.randrange(1, most + 1)
        self.admitted[name] = spent
        if self.chance.random() < 0.05:
            self.dead.add(name)
            return []
        self.answered += 1
        await asyncio.sleep(self.chance.uniform(0, 0.05))
        await self._settle(askers, told.reservation, spent)
        self.answered -= 1
        return []

    async def _ask(self, askers: Sequence[Asker], asked: dict[str, Any]) -> Told | None:
        begun = time.monotonic()
        try:
            told = await self.chance.choice(askers).ask(self.key.key, asked)
        except ConnectionRefusedError:
            await asyncio.sleep(0.02)
            return None
        except GONE:
            self.lost += 1
            return None
        self.waits.append(time.monotonic() - begun)
        return told

    async def _settle(self, askers: Sequence[Asker], reservation: str, spent: int) -> None:
        deadline = time.monotonic() + LEASE * 0.6  # later it may have expired
        while time.monotonic() < deadline:
            with suppress(*GONE):
                (outcome,) = await self.chance.choice(askers).report(usage(reservation, 1, spent - 1))
                if outcome == "unknown":
                    self.forgotten.add(reservation.removesuffix(BY_LOT))
                else:  # a busy machine may be late
                    assert outcome in ("settled", "corrected", "already"), outcome
                return
            await asyncio.sleep(0.02)
        self.dead.add(reservation.removesuffix(BY_LOT))


def _hang_up(askers: Sequence[Asker]) -> None:
    for asker in askers:
        asker.hang_up()


def _needed(told: Told) -> int:
    found = re.search(r"needed (\d+)", told.json["error"]["message"])
    assert found is not None, told
    return int(found[1])


def audit(at: Replicas, crowd: Crowd, limit: str) -> None:
    """After everything is over, its TTL too: nothing is held, nothing is missing, nothing is over."""
    charged, entries = _audit_counter(at, crowd, limit)
    assert charged == _used(entries)
    assert crowd.admitted.keys() <= entries.keys()
    assert not crowd.forgotten
    _audit_entries(crowd, entries)


def audit_set_aside(at: Replicas, crowd: Crowd, limit: str, counter: str, most: int) -> int:
    """The same, but for at most so many units that replicas had set aside when they were killed; these."""
    charged, entries = _audit_counter(at, crowd, limit, counter)
    stranded = charged - _used(entries)
    assert 0 <= stranded <= most
    missing = crowd.admitted.keys() - entries.keys()
    assert missing <= crowd.forgotten | crowd.dead
    assert sum(crowd.admitted[name] for name in missing) <= stranded
    _audit_entries(crowd, entries)
    return stranded


def _audit_counter(
    at: Replicas, crowd: Crowd, limit: str, counter: str = ""
) -> tuple[int, Mapping[str, Entry]]:
    """What is charged, and the ledger."""
    level = at.level(crowd.key, limit, counter)
    charged = crowd.quota - level.remaining
    assert level.held == 0
    assert charged <= crowd.quota
    assert crowd.quota - charged < crowd.smallest, (charged, crowd.smallest)
    return charged, at.entries(crowd.key)


def _used(entries: Mapping[str, Entry]) -> int:
    return sum(each.note.usage.input + each.note.usage.output for each in entries.values())


def _audit_entries(crowd: Crowd, entries: Mapping[str, Entry]) -> None:
    unknown = entries.keys() - crowd.admitted.keys()
    assert len(unknown) <= crowd.lost
    for name, entry in entries.items():
        if name in unknown or (name in crowd.dead and entry.note.source is Source.EXPIRED):
            assert entry.note.source is Source.EXPIRED
            assert entry.note.usage == entry.facts.hold
        else:
            assert entry.note.source in (Source.REPORTED, Source.CORRECTED)
            assert entry.note.usage.input + entry.note.usage.output == crowd.admitted[name]
