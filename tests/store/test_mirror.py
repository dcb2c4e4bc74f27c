"""The records in memory: a change that could not be read is read at the next look."""

from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from authz.store.memory import open_memory
from authz.store.protocols import StoreUnavailable
from authz.store.records import Key
from authz.store.sqlite.directory import MirrorDirectory
from tests.support.lab import FakeClock

KEY = Key(id="key_1", digest=b"\xff" * 32, display="sk-az-1...", user="alice", created_at=0)


def test_a_look_that_failed_is_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_memory(FakeClock())
    database = store._writer._database
    store.registry.add_key(KEY)
    mirror = MirrorDirectory(database)
    mirror.poll()
    store.registry.put_key(replace(KEY, revoked_at=1))
    mirror._version = -1  # as it is once another process has committed
    failures = [StoreUnavailable("disk I/O error")]
    read = database.read

    def once(statement: str, values: Sequence[Any] = ()) -> Any:
        if failures:
            raise failures.pop()
        return read(statement, values)

    monkeypatch.setattr(database, "read", once)
    with pytest.raises(StoreUnavailable):
        mirror.poll()
    mirror.poll()
    found = mirror.key(KEY.digest)
    assert found is not None
    assert found.revoked_at == 1
