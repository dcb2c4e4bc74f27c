"""A clock to turn, and holds in few words."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from time import monotonic
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from authz.calendar import calendar_bounds
from authz.quota import Unit
from authz.store.embedded import EmbeddedStore
from authz.store.protocols import Hold, Kind, Outcome, StoreUnavailable
from authz.store.records import Facts, Note
from authz.store.redis.store import RedisStore
from authz.store.store import ServiceStore
from authz.usage import Usage

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
NOON = 1_700_006_400_000  # 2023-11-15 00:00 UTC, a whole minute, hour and day


class Clock:
    """Milliseconds that move only when told to."""

    def __init__(self, now: int = NOON) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now

    def pass_(self, milliseconds: int) -> None:
        self.now += milliseconds


def at(local: str, zone: str = "UTC") -> int:
    """`2024-03-31 12:00` in the zone, as ms since the epoch."""
    return int(datetime.fromisoformat(local).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def gcra(
    quota: int,
    amount: int = 1,
    *,
    key: str = "g",
    window: int = MINUTE,
    burst: int | None = None,
    **more: Any,
) -> Hold:
    unit = more.pop("unit", Unit.REQUESTS)
    return Hold(key, Kind.GCRA, unit, quota if burst is None else burst, amount, window, quota, **more)


def fixed(quota: int, amount: int = 1, *, key: str = "f", window: int = MINUTE, **more: Any) -> Hold:
    return Hold(key, Kind.FIXED, more.pop("unit", Unit.TOKENS), quota, amount, window, **more)


def sliding(quota: int, amount: int = 1, *, key: str = "s", window: int = MINUTE, **more: Any) -> Hold:
    return Hold(key, Kind.SLIDING, more.pop("unit", Unit.TOKENS), quota, amount, window, **more)


def calendar(
    quota: int,
    amount: int,
    now: int,
    period: str = "day",
    zone: str = "UTC",
    *,
    week_start: int = 0,
    key: str = "c",
    **more: Any,
) -> Hold:
    bounds = calendar_bounds(now, period, zone, week_start)
    return Hold(key, Kind.CALENDAR, more.pop("unit", Unit.TOKENS), quota, amount, bounds=bounds, **more)


def slot(quota: int, *, key: str = "slots", **more: Any) -> Hold:
    return Hold(key, Kind.CONCURRENCY, Unit.CONCURRENCY, quota, 1, **more)


HELD = Usage(input=100, output=300)


def facts(request_id: str = "req", **more: Any) -> bytes:
    """Of a request that holds 400 tokens."""
    known: dict[str, Any] = {"user": "alice", "model": "llama3", "hold": HELD, "hold_cost": 4_000} | more
    return msgspec.msgpack.encode(Facts(request_id=request_id, **known))


def note(input: int = 0, output: int = 0, **more: Any) -> bytes:
    return msgspec.msgpack.encode(Note(usage=Usage(input=input, output=output), **more))


def tokens(amount: int) -> dict[Unit, int]:
    return {Unit.TOKENS: amount}


async def settle(store: ServiceStore, reservation: str, gateway: str, actual: Mapping[Unit, int]) -> Outcome:
    return (await store.counters.settle(reservation, gateway, actual)).outcome


async def reached(what: Callable[[], Awaitable[None]]) -> None:
    """Try until Redis answers in time: what runs in the background has a second each, a busy machine a bad one."""
    deadline = monotonic() + 60
    while True:
        try:
            await what()
            return
        except StoreUnavailable:
            if monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)


async def kept_up(store: ServiceStore) -> None:
    """One round of upkeep."""
    if isinstance(store, EmbeddedStore):
        store.keep_up()
    else:
        assert isinstance(store, RedisStore)
        await reached(store.caught_up)


async def settled(store: ServiceStore) -> None:
    """Upkeep until what was gathered is written."""
    for _ in range(2):
        await kept_up(store)
        if isinstance(store, EmbeddedStore):
            store.wait_for_writer()


def hold_few(store: ServiceStore, *, most_open: int = 0, most_late: int = 0) -> None:
    """Let it remember so few reservations, where more than 0."""
    if isinstance(store, EmbeddedStore):
        known = store._engine.reservations
        known._most_open, known._most_late = most_open or known._most_open, most_late or known._most_late
    else:
        assert isinstance(store, RedisStore)
        calls = store._counted.calls
        calls.most_open, calls.most_late = most_open or calls.most_open, most_late or calls.most_late
