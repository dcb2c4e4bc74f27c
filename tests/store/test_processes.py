"""A command beside a running service: what it writes is in force within a second, what it reads is fresh."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from authz.store.open import open_store, open_view
from authz.store.protocols import Exhausted, StoreUnavailable
from authz.store.records import User
from tests.contract.kit import Clock, fixed, settled
from tests.reliability.processes import kept_waiting

ROOT = Path(__file__).parents[2]
DIGEST = b"\7" * 32
COMMAND = """
import sys
from authz.store.open import open_view
from authz.store.records import Key
registry = open_view(sys.argv[1]).registry
key = dict(id="key_1", digest=b"\\7" * 32, display="sk", user="bob", created_at=1)
if sys.argv[2] == "add":
    registry.add_key(Key(**key))
else:
    registry.put_key(Key(**key, revoked_at=5))
"""


async def test_what_another_process_writes_is_in_force_within_a_second(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/authz.db"
    store = open_store(url)
    await store.start()
    try:
        for verb, revoked_at in (("add", None), ("revoke", 5)):
            done = await asyncio.to_thread(
                subprocess.run, [sys.executable, "-c", COMMAND, url, verb], cwd=ROOT, check=True
            )
            assert done.returncode == 0
            acknowledged, starved = time.monotonic(), kept_waiting(os.getpid())
            while True:
                key = store.directory.key(DIGEST)
                if key is not None and key.revoked_at == revoked_at:
                    break
                took = time.monotonic() - acknowledged - (kept_waiting(os.getpid()) - starved)
                assert took < 1, (
                    f"{verb} is not in force after a second in which there was a processor for it"
                )
                await asyncio.sleep(0.01)
    finally:
        await store.close()


async def test_a_directory_far_behind_loads_everything(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/authz.db"
    store = open_store(url, clock=Clock())
    view = open_view(url)
    for number in range(5):
        view.registry.put_user(User(name=f"u{number}"))
    with store._writer._database.change() as connection:
        connection.execute("DELETE FROM changes WHERE seq <= 3")
    await settled(store)
    assert [store.directory.user(f"u{number}") is not None for number in range(5)] == [True] * 5
    await view.close()
    await store.close()


async def test_a_command_sees_the_counters_and_charges_nothing(tmp_path: Path) -> None:
    url, clock = f"sqlite://{tmp_path}/authz.db", Clock()
    store = open_store(url, clock=clock)
    await store.counters.reserve("a", "edge", [fixed(1000, 700)], 60_000)
    await settled(store)
    view = open_view(url, clock=clock)
    refused = await view.counters.peek([fixed(1000, 400)])
    assert isinstance(refused, Exhausted)
    assert (refused.levels[0].remaining, refused.levels[0].held) == (300, 700)
    with pytest.raises(StoreUnavailable, match="only the service counts"):
        await view.counters.reserve("b", "edge", [fixed(1000, 1)], 60_000)
    await view.close()
    await store.close()
