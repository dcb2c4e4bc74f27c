"""Stores with something of everything in them, and what is seen of them."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec

from authz.quota import Algorithm, Quota, Unit, Window
from authz.store.embedded import EmbeddedStore
from authz.store.open import open_store
from authz.store.protocols import Hold, Kind, Reserved
from authz.store.records import Adjustment, Denial, Facts, Key, Model, Note, Price, Source, Team, User
from authz.store.redis.counters import RedisCounters
from authz.store.redis.link_open import open_link
from authz.store.redis.target import Target
from authz.usage import Usage
from tests.contract.kit import DAY, HOUR, Clock, at, fixed, gcra, settled, sliding, slot
from tests.ledger.kit import day_of

HELD = Usage(100, 300)
BOUNDS = (at("2010-01-01"), at("2020-01-01"), at("2100-01-01"), at("2110-01-01"))
"""No window ends during a test."""

LIMIT = Quota(unit=Unit.TOKENS, amount=1000, window=Window(algorithm=Algorithm.FIXED, length_ms=HOUR))


def holds(user: str = "alice", owner: str = "team:nlp") -> tuple[Hold, ...]:
    """One of every kind; the second belongs to nobody alone."""
    named = f"|{len(user)}:{user}"
    return (
        gcra(7_919, 301, key=f"user-rpm{named}", window=HOUR, owner=owner),
        fixed(1_000_000, 400, key="all-days", window=1000 * DAY),
        sliding(100_000, 400, key=f"user-tokens{named}", window=HOUR, owner=owner),
        Hold("team-month|3:nlp", Kind.CALENDAR, Unit.TOKENS, 1_000_000, 400, bounds=BOUNDS, owner="team:nlp"),
        slot(40, key=f"user-slots{named}", owner=owner),
    )


def token_holds() -> tuple[Hold, ...]:
    """Of each kind of window one that a settlement gives back to, by its name."""
    return (
        gcra(3_600, 400, key="gcra", window=HOUR, unit=Unit.TOKENS),
        fixed(10_000, 400, key="fixed", window=1000 * DAY),
        sliding(10_000, 400, key="sliding", window=HOUR),
        Hold("calendar", Kind.CALENDAR, Unit.TOKENS, 10_000, 400, bounds=BOUNDS),
    )


def facts(name: str, user: str) -> bytes:
    return msgspec.msgpack.encode(
        Facts(
            request_id=f"req_{name}", user=user, team="nlp", model="llama3", hold=HELD, hold_cost=700,
            price=Price(input=1, output=2),
        )
    )  # fmt: skip


async def fill(path: Path, clock: Clock) -> EmbeddedStore:
    """Keys, limits, requests that ended, expired and run, refusals, trials. The service still has it open."""
    store = open_store(f"sqlite://{path}", clock=clock, timezone="Europe/Helsinki")
    assert isinstance(store, EmbeddedStore)
    registry, now = store.registry, clock.now
    registry.put_team(Team(name="nlp", quotas=(LIMIT,), created_at=now))
    registry.put_user(User(name="alice", team="nlp", models=frozenset({"llama3"}), created_at=now))
    registry.put_user(User(name="zoë", email="zoe@example.com", disabled=True))
    for number in range(3):
        user = "alice" if number else "gone"
        key = Key(
            id=f"key_{number}", digest=bytes([number]) * 32, display=f"sk-az-{number}...", user=user, created_at=number
        )  # fmt: skip
        registry.add_key(key)
    registry.remove_user("gone")
    registry.put_model(Model(name="llama3", context=8192, price=Price(input=10, output=20)))
    registry.add_adjustment(
        Adjustment(id="adj_1", policy="team-month", partition=(("team", "nlp"),), grant=5)
    )
    store.directory.used("key_1", now)
    store.denials.record(
        Denial(
            id="req_no", at=now, last_at=now, count=3, gateway="edge", route="inference", method="POST",
            path="/v1/chat/completions", reason="key_unknown", status=401, message="no", also=("req_no2",),
        )
    )  # fmt: skip
    store.trials.would_refuse("big-day", (("user", "alice"),), now)
    for number in range(40):
        name, user = f"rsv_{number}", ("alice", "bob")[number % 2]
        ttl = 60_000 if number >= 30 else 10 * HOUR
        made = await store.counters.reserve(
            name,
            "edge",
            holds(user, "user:bob" if number % 2 else "team:nlp"),
            ttl,
            facts(name, user),
        )
        assert isinstance(made, Reserved) or number
        if number < 20 and isinstance(made, Reserved):
            await settle(store.counters, name, number)
        clock.pass_(1_000)
    clock.pass_(120_000)
    await settled(store)
    return store


async def settle(counters: Any, name: str, used: int, source: Source = Source.REPORTED) -> Any:
    note = msgspec.msgpack.encode(Note(usage=Usage(used, 2 * used), cost=used, source=source, status=200))
    return await counters.settle(name, "edge", {Unit.TOKENS: 3 * used}, note)


def add_old_days(store: EmbeddedStore, now: int) -> None:
    """Sums of which there are no entries any more, and a day of which some are left."""
    with store._writer._database.change() as connection:
        for day in (day_of(now - 100 * DAY, "UTC"), day_of(now - 99 * DAY, "UTC")):
            connection.execute(
                "INSERT INTO ledger_days VALUES (?, 'old', '', '', 'm', '', 'edge', 'reported', 7, 70, 700, 0, 0, 9)",
                (day,),
            )
        kept_from = now - 2 * DAY
        connection.execute("UPDATE meta SET value = ? WHERE name = 'ledger_kept_from'", (kept_from,))


def stands(url: str, clock: Clock) -> list[Any]:
    """The levels that a request would meet in Redis, of each user."""

    async def peek() -> list[Any]:
        link = open_link(Target.parse(f"{url}?budget=10000ms"))  # however busy the machine is
        await link.start()
        try:
            counters = RedisCounters(link, clock)
            return [
                await _peek(counters, clock, *each) for each in (("alice", "team:nlp"), ("bob", "user:bob"))
            ]
        finally:
            await link.close()

    return asyncio.run(peek())


async def _peek(counters: Any, clock: Clock, user: str, owner: str) -> Any:
    wanted = [msgspec.structs.replace(hold, amount=0) for hold in holds(user, owner)]
    return (await counters.peek(wanted)).levels


async def levels(store: EmbeddedStore, clock: Clock) -> list[Any]:
    """The same of a store in this process."""
    return [
        await _peek(store.counters, clock, *each) for each in (("alice", "team:nlp"), ("bob", "user:bob"))
    ]
