"""Refusals are kept: bounded, floods as one row, found by what the client saw."""

import pytest
from msgspec.structs import replace

from authz.store import crowd
from authz.store.floods import ALSO_KEPT, WAITING
from authz.store.records import Denial
from authz.store.redis import denials as redis_denials
from authz.store.sqlite import denials
from authz.store.store import ServiceStore
from tests.contract.kit import NOON, Clock, settled

ONE = Denial(
    id="req-0",
    at=NOON,
    last_at=NOON,
    count=1,
    gateway="edge",
    route="inference",
    method="POST",
    path="/v1/chat/completions",
    reason="rate_limited",
    status=429,
    message="The limit is used up.",
    user="bob",
    key="key_1",
    model="llama3",
    ip="192.0.2.1",
    limits=({"policy": "key-rpm", "remaining": 0, "exhausted": True, "reset_after": 1.5},),
)


def later(n: int, **changes: object) -> Denial:
    moment = NOON + n
    return replace(ONE, **({"id": f"req-{n}", "at": moment, "last_at": moment} | changes))


async def test_a_refusal_comes_back_as_it_went_in(store: ServiceStore) -> None:
    store.denials.record(ONE)
    await settled(store)
    assert store.denial_log.list() == [ONE]
    assert store.denial_log.show("req-0") == ONE
    assert store.denial_log.show("req-9") is None


async def test_identical_ones_within_a_minute_are_one_row(store: ServiceStore) -> None:
    for n in range(50):
        store.denials.record(later(n))
        if n == 20:
            await settled(store)
    await settled(store)
    (flood,) = store.denial_log.list()
    assert (flood.id, flood.at, flood.last_at, flood.count) == ("req-0", NOON, NOON + 49, 50)
    assert flood.also == tuple(f"req-{n}" for n in range(50 - ALSO_KEPT, 50))
    assert store.denial_log.show("req-49") == flood
    assert store.denial_log.show("req-0") == flood


async def test_a_flood_begins_anew_after_a_minute(store: ServiceStore) -> None:
    for n in (0, 59_999, 60_000):
        store.denials.record(later(n))
    await settled(store)
    assert [(each.id, each.count) for each in store.denial_log.list()] == [("req-60000", 1), ("req-0", 2)]


async def test_whatever_differs_is_told_apart(store: ServiceStore) -> None:
    for n, change in enumerate(("gateway", "route", "reason", "user", "key", "ip", "model", "path")):
        store.denials.record(later(n, **{change: "other"}))
    await settled(store)
    assert len(store.denial_log.list()) == 8


async def test_choosing(store: ServiceStore) -> None:
    store.denials.record(later(1))
    store.denials.record(later(2, user="alice", status=401, reason="key_unknown"))
    store.denials.record(later(3, user="alice", path="/x"))
    await settled(store)
    log = store.denial_log
    assert [each.id for each in log.list()] == ["req-3", "req-2", "req-1"]
    assert [each.id for each in log.list(user="alice")] == ["req-3", "req-2"]
    assert [each.id for each in log.list(status=401)] == ["req-2"]
    assert [each.id for each in log.list(reason="rate_limited", user="bob")] == ["req-1"]
    assert [each.id for each in log.list(since=NOON + 2)] == ["req-3", "req-2"]
    assert [each.id for each in log.list(limit=1)] == ["req-3"]


async def test_a_client_that_fixes_its_id_hides_nothing(store: ServiceStore) -> None:
    store.denials.record(later(1, id="mine"))
    store.denials.record(later(2, id="mine", user="alice"))
    await settled(store)
    assert len(store.denial_log.list()) == 2
    shown = store.denial_log.show("mine")
    assert shown is not None
    assert shown.user == "alice"


async def test_what_does_not_fit_is_counted(store: ServiceStore, clock: Clock) -> None:
    for n in range(WAITING + 7):
        store.denials.record(later(n, path=f"/{n}"))
    assert store.dropped_denials == 7
    await settled(store)
    assert len(store.denial_log.list(limit=10 * WAITING)) == WAITING


def nobodys(n: int, **changes: object) -> Denial:
    wrong = {"user": "", "key": "", "route": "", "status": 404, "reason": "no_route", "path": f"/{n}"}
    return later(n, **(wrong | changes))


async def test_108_a_flood_of_nobodys_paths_fills_few_rows(store: ServiceStore) -> None:
    for n in range(5_000):
        store.denials.record(nobodys(n))
    await settled(store)
    rows = store.denial_log.list(limit=9_999)
    assert len(rows) == crowd.APART + 1
    assert sum(row.count for row in rows) == 5_000
    assert (rows[0].path, rows[0].ip, rows[0].reason) == ("*", "192.0.2.1", "no_route")
    assert rows[0].count == 5_000 - crowd.APART
    assert "/" not in rows[0].message
    assert store.denial_log.show("req-4999") == rows[0]


async def test_108_a_flood_from_many_addresses_fills_few_rows(store: ServiceStore) -> None:
    for n in range(10_000):
        store.denials.record(nobodys(n, ip=f"2001:db8::{n:x}"))
    await settled(store)
    rows = store.denial_log.list(limit=99_999)
    assert len(rows) == crowd.ALL_APART + 1
    assert (rows[0].path, rows[0].ip, rows[0].count) == ("*", "", 10_000 - crowd.ALL_APART)


async def test_108_the_next_window_tells_apart_anew(store: ServiceStore) -> None:
    for n in (*range(200), crowd.WINDOW_MS + 1):
        store.denials.record(nobodys(n))
    await settled(store)
    assert store.denial_log.list()[0].path == f"/{crowd.WINDOW_MS + 1}"


async def test_108_a_flood_of_nobody_displaces_no_refusal_of_somebody(store: ServiceStore) -> None:
    """The writer hangs, so that nothing leaves the queue, and the windows pass."""
    for n in range(20):
        for m in range(crowd.ALL_APART):
            store.denials.record(nobodys(n * crowd.WINDOW_MS + m, ip=f"2001:db8::{m:x}"))
    dropped = store.dropped_denials
    assert dropped > 0
    for n in range(1_000):
        store.denials.record(later(20 * crowd.WINDOW_MS + n, path=f"/{n}"))
    assert store.dropped_denials == dropped
    await settled(store)
    assert len(store.denial_log.list(user="bob", limit=9_999)) == 1_000


async def test_108_the_log_is_held_to_its_size_as_it_grows(
    store: ServiceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No clock moves: what was written calls for the trim. Rows of nobody go first."""
    for log in (denials, redis_denials):
        monkeypatch.setattr(log, "ROWS_KEPT", 3_000)
        monkeypatch.setattr(log, "NOBODYS_KEPT", 500)
    for n in range(1_500):
        store.denials.record(nobodys(n, ip=f"2001:db8::{n:x}"))
    for n in range(1_500, 3_500):
        store.denials.record(later(n, path=f"/{n}"))
    await settled(store)
    rows = store.denial_log.list(limit=99_999)
    assert (len(rows), sum(not row.user for row in rows)) == (2_500, 500)
    for n in range(3_500, 10_000):
        store.denials.record(later(n, path=f"/{n}"))
        if n % 1_000 == 999:
            await settled(store)
    rows = store.denial_log.list(limit=99_999)
    assert len(rows) <= 3_000 + 2_000
    assert [row.id for row in rows[:2]] == ["req-9999", "req-9998"]
    assert store.denial_log.show("req-0") is None
