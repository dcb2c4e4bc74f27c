"""A store that cannot be used says why and what to do; nothing is overwritten."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from authz.store.embedded import EmbeddedStore
from authz.store.open import open_store, open_view
from authz.store.protocols import StoreUnusable
from authz.store.sqlite.schema import VERSION
from tests.contract.kit import Clock

NOBODY = 65534


def not_a_database(path: Path) -> None:
    path.write_text("this is a note, not a database\n" * 40)


def truncated(path: Path) -> None:
    _a_store(path)
    path.write_bytes(path.read_bytes()[:5000])


def scribbled(path: Path) -> None:
    _a_store(path)
    content = bytearray(path.read_bytes())
    content[4096 : 4096 * 6] = b"\xa5" * (4096 * 5)
    path.write_bytes(content)


def newer(path: Path) -> None:
    _a_store(path)
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()


def another_program(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE songs (title)")
    connection.close()


def directory(path: Path) -> None:
    path.mkdir()


def _a_store(path: Path) -> None:
    connection = open_view(f"sqlite://{path}")
    connection._database.read("PRAGMA wal_checkpoint(TRUNCATE)")  # type: ignore[attr-defined]
    connection._database.close()  # type: ignore[attr-defined]


BAD = [
    pytest.param(not_a_database, "damaged or not a database .* restore a backup", id="not-a-database"),
    pytest.param(truncated, "damaged .*restore a backup", id="truncated"),
    pytest.param(scribbled, "damaged .*restore a backup", id="scribbled-over"),
    pytest.param(newer, f"newer authz \\(schema {VERSION + 1}, .* upgrade authz", id="newer-version"),
    pytest.param(another_program, "another program; choose another file", id="another-program"),
    pytest.param(directory, "is not a file; change `store`", id="directory"),
]


@pytest.mark.parametrize(("spoil", "message"), BAD)
def test_a_bad_file_is_refused_and_left_alone(
    tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    path = tmp_path / "authz.db"
    spoil(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(StoreUnusable, match=message):
        open_store(f"sqlite://{path}", clock=Clock())
    assert (path.read_bytes() if path.is_file() else None) == before
    assert not list(tmp_path.glob("*-counters.*")), "no journal beside a file that is not ours"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite:///no/such/place/authz.db", "directory /no/such/place does not exist; create it"),
        ("sqlite://", "names no file"),
        ("sqlite:///var/", "names no file"),
        ("postgres://db/authz", "'postgres' is not known; write memory://, sqlite:///"),
        ("authz.db", "not known"),
        ("memory://here", "not known"),
    ],
)
def test_a_url_that_leads_nowhere(url: str, message: str) -> None:
    with pytest.raises(StoreUnusable, match=message):
        open_store(url, clock=Clock())


def test_a_command_cannot_reach_into_memory() -> None:
    with pytest.raises(StoreUnusable, match="command cannot reach it; use a store on disk"):
        open_view("memory://")


def test_a_relative_path_is_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    open_view("sqlite://./here.db").registry.teams()
    assert (tmp_path / "here.db").is_file()


@contextmanager
def _as_nobody() -> Iterator[None]:
    """Root may write anything: give that up, on a directory that anybody may enter."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("place")
    loosened = []
    for parent in (place, *place.parents):
        mode = parent.stat().st_mode & 0o777
        if not mode & 0o001 and parent.stat().st_uid == os.geteuid():
            loosened.append((parent, mode))
            parent.chmod(mode | 0o011)
    yield place
    for parent, mode in loosened:
        parent.chmod(mode)


@pytest.mark.parametrize("opener", [open_store, open_view], ids=["service", "command"])
def test_a_read_only_file(open_place: Path, opener: Callable[[str], object]) -> None:
    path = open_place / "authz.db"
    _a_store(path)
    path.chmod(0o444)
    with _as_nobody(), pytest.raises(StoreUnusable, match=r"read-only .*permissions"):
        opener(f"sqlite://{path}")


def test_a_read_only_directory(open_place: Path) -> None:
    open_place.chmod(0o555)
    with _as_nobody(), pytest.raises(StoreUnusable, match="cannot be written; change its permissions"):
        open_store(f"sqlite://{open_place}/authz.db")


def test_nobody_else_may_read_what_is_made(tmp_path: Path) -> None:
    store = open_store(f"sqlite://{tmp_path}/authz.db", clock=Clock())
    assert {file.name: file.stat().st_mode & 0o077 for file in tmp_path.iterdir()} == dict.fromkeys(
        [file.name for file in tmp_path.iterdir()], 0
    )
    store._on_close(False)


async def test_two_services_never_share_a_file(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/authz.db"
    first: EmbeddedStore = open_store(url, clock=Clock())
    with pytest.raises(StoreUnusable, match=f"in use by another authz service \\(process {os.getpid()}\\)"):
        open_store(url, clock=Clock())
    open_view(url).registry.users()
    await first.close()
    second = open_store(url, clock=Clock())
    await second.close()


async def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    (tmp_path / "authz.db").touch()
    store = open_store(f"sqlite://{tmp_path}/authz.db", clock=Clock())
    assert store.registry.users() == []
    await store.close()
