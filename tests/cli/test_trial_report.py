"""Whom the limits on trial would have refused."""

import asyncio
import time
from pathlib import Path

import pytest

from authz.config import load
from authz.store.open import open_store
from tests.cli.conftest import Authz

HOUR = 3_600_000
NOW = time.time_ns() // 1_000_000
ALICE, BOB = (("user", "alice"),), (("user", "bob"),)


@pytest.fixture
def tried(config: Path) -> None:
    """Two limits on trial, and what the service counted of them."""
    config.write_text(
        config.read_text()
        + "  user-day: {unit: tokens, quota: 200k, window: day, partition_by: [user], shadow: {quota: 100k}}\n"
        + "  whole: {unit: cost, quota: 2.5, window: month, mode: shadow}\n"
    )

    async def write() -> None:
        store = open_store(load(config).store.url)
        await store.start()
        for ago in (9 * 24, 5, 1):
            store.trials.would_refuse("user-day", ALICE, NOW - ago * HOUR)
        store.trials.refused("user-day", ALICE, NOW)
        store.trials.refused("user-day", BOB, NOW)
        store.trials.would_refuse("whole", (), NOW)
        store.trials.would_refuse("gone", (), NOW)
        await store.close()

    asyncio.run(write())


@pytest.mark.usefixtures("tried")
def test_json(authz: Authz) -> None:
    rows = authz("limits", "report", "--json").json
    assert list(rows[0]) == [
        "limit",
        "for",
        "would_refuse",
        "refused_live",
        "quota",
        "unit",
        "window",
        "first_at",
        "last_at",
    ]
    assert [tuple(row.values())[:7] for row in rows] == [
        ("user-day", {"user": "alice"}, 2, 1, 100_000, "tokens", "day"),
        ("gone", {}, 1, None, None, None, None),
        ("whole", {}, 1, None, 2.5, "cost", "month"),
        ("user-day", {"user": "bob"}, 0, 1, 100_000, "tokens", "day"),
    ]
    assert rows[0]["first_at"] < rows[0]["last_at"]


@pytest.mark.usefixtures("tried")
@pytest.mark.parametrize(("since", "count"), [("30d", 3), ("7d", 2), ("3h", 1)])
def test_since(authz: Authz, since: str, count: int) -> None:
    assert authz("limits", "report", "--since", since).rows[0]["would_refuse"] == str(count)


def test_nothing(authz: Authz) -> None:
    assert authz("limits", "report", "--json").json == []
    assert "No limit is on trial" in authz("limits", "report", terminal=True).out
    assert authz("limits", "report", "--since", "soon").code == 2


@pytest.mark.usefixtures("tried")
def test_nothing_of_what_is_on_trial(authz: Authz) -> None:
    ran = authz("limits", "report", "--since", "2100-01-01", terminal=True)
    assert "No limit on trial would have refused anything." in ran.out
