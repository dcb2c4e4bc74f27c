"""A file of the first version is brought to the present one, with everything that was in it."""

import sqlite3
from pathlib import Path

import pytest
from msgspec.structs import replace

from authz.store.open import open_view
from authz.store.protocols import StoreUnusable
from authz.store.records import Key
from authz.store.sqlite import schema
from authz.store.sqlite.database import in_memory, prepare
from authz.store.sqlite.ledger import save
from authz.store.sqlite.ledger_reading import BY_ID, SqliteLedger
from authz.store.sqlite.registry import SqliteRegistry
from tests.ledger.kit import at, entry

KEY = Key(id="key_1", digest=b"\1" * 32, display="sk-az-1", user="alice", created_at=1)


@pytest.fixture
def first_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that a release before the ledger made, with a key in it."""
    path = tmp_path / "authz.db"
    with monkeypatch.context() as patched:
        patched.setattr(schema, "STEPS", schema.STEPS[:1])
        patched.setattr(schema, "VERSION", 1)
        database = prepare(path, thorough=True)
        SqliteRegistry(database, lambda: 1).add_key(KEY)
        database.close()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    connection.close()
    return path


@pytest.mark.parametrize("thorough", [True, False], ids=["by the service", "by a command"])
def test_it_keeps_what_is_there_and_takes_entries(first_version: Path, thorough: bool) -> None:
    for _ in range(2):  # the second time there is nothing to do
        database = prepare(first_version, thorough=thorough)
        assert list(SqliteRegistry(database, lambda: 1).keys()) == [KEY]
        with database.change() as connection:
            save(connection, [entry(1, at("2026-10-25"))])
        database.close()
    database = prepare(first_version, thorough=thorough)
    assert database.one("PRAGMA user_version") == schema.VERSION
    (row,) = SqliteLedger(database).usage(since=0, until=at("2027-01-01"), by=["user"])
    assert (row.group, row.requests) == ({"user": "alice"}, 1)
    database.close()


def test_what_ran_still_runs_and_what_is_written_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, written = tmp_path / "authz.db", [entry(1, 1_000), entry(2, 2_000)]
    alike = replace(entry(3, 3_000), reservation="req_3")
    with monkeypatch.context() as patched:
        patched.setattr(schema, "STEPS", schema.STEPS[:2])
        patched.setattr(schema, "VERSION", 2)
        database = prepare(path, thorough=True)
        with database.change() as connection:
            save(connection, [*written, alike])
            connection.execute("INSERT INTO reservations VALUES ('rsv_4', x'01')")
        database.close()
    database = prepare(path, thorough=True)
    assert database.read("SELECT id, body FROM reservations") == [("rsv_4", b"\1")]
    ledger = SqliteLedger(database)
    assert [ledger.entry(id) for id in ("req_1", "rsv_2", "req_3")] == [*written, alike]
    database.close()


def test_no_entry_is_looked_for_from_end_to_end() -> None:
    database = in_memory()
    steps = [detail for *_, detail in database.read(f"EXPLAIN QUERY PLAN {BY_ID}", ("req_1",))]
    assert any("ledger_request_id" in step for step in steps)
    assert not any(step.startswith("SCAN") for step in steps), steps
    database.close()


def test_two_that_come_at_once_upgrade_once(first_version: Path) -> None:
    connection = sqlite3.connect(first_version, isolation_level=None)
    database = prepare(first_version, thorough=False)
    schema.upgrade(connection)
    assert connection.execute("PRAGMA user_version").fetchone() == (schema.VERSION,)
    connection.close()
    database.close()


def test_an_upgrade_that_fails_changes_nothing(first_version: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "STEPS", (*schema.STEPS, "CREATE TABLE half (a); CREATE TABLE ledger (b)"))
    with pytest.raises(StoreUnusable, match="already exists"):
        prepare(first_version, thorough=True)
    connection = sqlite3.connect(first_version)
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
    assert names.isdisjoint({"ledger", "half"})
    connection.close()


def test_a_newer_file_is_refused_and_left_alone(first_version: Path) -> None:
    with sqlite3.connect(first_version) as connection:
        connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    connection.close()
    with pytest.raises(StoreUnusable, match="newer authz"):
        open_view(f"sqlite://{first_version}")
