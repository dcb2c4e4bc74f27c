"""A store that cannot be used: a sentence that says what to do, exit code 1, and not a byte of it changed."""

import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest

from authz.store.open import open_view
from authz.store.sqlite.schema import VERSION
from tests.reliability.clerk import new_key
from tests.support.ports import free_port
from tests.support.processes import Process

CONFIG = """\
store: sqlite:{store}
decisions: {{http: "127.0.0.1:{http}", grpc: "127.0.0.1:{grpc}", grpc_other: none}}
admin: {{listen: "127.0.0.1:{admin}"}}
authenticators:
  keys: {{type: api_key}}
routes:
  - name: inference
    match: {{api: [openai]}}
    authenticate: {{any_of: [keys]}}
    authorize: [{{models: any}}]
"""
COMMANDS = {
    "serve": ("serve",),
    "list": ("keys", "list"),
    "create": ("keys", "create", "--user", "alice"),
}
# Root may read and write whatever it likes by two capabilities (capabilities(7)): without them modes count for it
# as for anybody else. Who is not root has neither, and the calls fail.
_WITHOUT_PRIVILEGE = """
import ctypes, os, sys
for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
os.execv(sys.argv[1], sys.argv[1:])
"""


@dataclass(frozen=True)
class Place:
    """A directory with a config, and in it one with the store."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / "authz.yaml"

    @property
    def directory(self) -> Path:
        return self.root / "data"

    @property
    def store(self) -> Path:
        return self.directory / "authz.db"

    def command(self, *arguments: str) -> "subprocess.Popen[str]":
        """Of authz, in a process without privileges."""
        argv = [sys.executable, "-ISc", _WITHOUT_PRIVILEGE]
        argv += [sys.executable, "-m", "authz.cli", *arguments, "--config", str(self.config)]
        return subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "NO_COLOR": "1", "COLUMNS": "400"},
        )

    def digests(self) -> dict[str, str]:
        """Of every file around the store; "" is no file."""
        return {
            str(path.relative_to(self.root)): sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
            for path in self.root.rglob("*")
        }


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """With a good store in which alice has a key."""
    made = Place(tmp_path)
    made.directory.mkdir()
    made.config.write_text(
        CONFIG.format(store=made.store, http=free_port(), grpc=free_port(), admin=free_port())
    )
    view = open_view(f"sqlite://{made.store}")
    for number in range(200):
        new_key(view.registry, f"user-{number}")
    with suppress(StopIteration):
        view.close().send(None)  # the last to close makes one file of it
    assert list(made.directory.iterdir()) == [made.store]
    yield made
    for path in (made.directory, made.store):
        if path.exists():
            path.chmod(0o700)


LOCK = "data/authz.db-serve.lock"  # who has it open; says nothing of what is in it
JOURNAL = ("data/authz.db-counters.0", "data/authz.db-counters.1")


def refused(
    place: Place, message: str, names: tuple[str, ...] = tuple(COMMANDS), made: tuple[str, ...] = (LOCK,)
) -> None:
    """Every command fails with these words, and leaves everything as it was; no file but `made` is new."""
    before = place.digests()
    running = {name: place.command(*COMMANDS[name]) for name in names}
    for name, process in running.items():
        out, err = process.communicate(timeout=90)
        assert process.returncode == 1, (name, process.returncode, out, err)
        assert out == "", name
        assert "Traceback" not in err, (name, err)
        assert len(err) < 500, (name, err)
        assert message.format(place=place) in err.replace("\n", " "), (name, err)
    after = place.digests()
    assert {name: after.pop(name, None) for name in before} == before
    assert set(after) <= set(made)


def no_directory(place: Place) -> None:
    place.store.unlink()
    place.directory.rmdir()


def file_in_place_of_directory(place: Place) -> None:
    no_directory(place)
    place.directory.touch()


def directory_in_place_of_file(place: Place) -> None:
    place.store.unlink()
    place.store.mkdir()


def read_only_file(place: Place) -> None:
    place.store.chmod(0o444)


def unreadable_file(place: Place) -> None:
    place.store.chmod(0o000)


def read_only_directory(place: Place) -> None:
    place.directory.chmod(0o555)


def read_only_empty_directory(place: Place) -> None:
    place.store.unlink()
    place.directory.chmod(0o555)


def closed_directory(place: Place) -> None:
    place.directory.chmod(0o000)


def random_bytes(place: Place) -> None:
    place.store.write_bytes(random.Random(1).randbytes(50_000))


def another_file(place: Place) -> None:
    place.store.write_text("a shopping list\n" * 500)


def truncated(place: Place) -> None:
    place.store.write_bytes(place.store.read_bytes()[:6000])


def cut_at_a_page(place: Place) -> None:
    place.store.write_bytes(place.store.read_bytes()[: 4096 * 8])


def scribbled_over(place: Place) -> None:
    content = bytearray(place.store.read_bytes())
    content[4096:] = random.Random(2).randbytes(len(content) - 4096)
    place.store.write_bytes(content)


def another_program(place: Place) -> None:
    place.store.unlink()
    with sqlite3.connect(place.store) as connection:
        connection.execute("CREATE TABLE songs (title)")
    connection.close()


def newer_version(place: Place) -> None:
    with sqlite3.connect(place.store) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()


def unreadable_records(place: Place) -> None:
    with sqlite3.connect(place.store) as connection:
        connection.execute("UPDATE keys SET body = x'7b7d'")
    connection.close()


def unreadable_counters(place: Place) -> None:
    with sqlite3.connect(place.store) as connection:
        connection.execute("INSERT INTO counters VALUES ('a counter', x'c0', 0)")
    connection.close()


@dataclass(frozen=True)
class Bad:
    """What is wrong with a store, what is said of it, and by which commands."""

    spoil: Callable[[Place], None]
    message: str
    commands: tuple[str, ...] = tuple(COMMANDS)


BAD = (
    Bad(no_directory, "the directory {place.directory} does not exist; create it, or change `store`"),
    Bad(
        file_in_place_of_directory,
        "the directory {place.directory} does not exist; create it, or change `store`",
    ),
    Bad(directory_in_place_of_file, "{place.store} is not a file; change `store`"),
    Bad(read_only_file, "{place.store} is read-only for this user; change its owner or permissions"),
    Bad(unreadable_file, "{place.store} is read-only for this user; change its owner or permissions"),
    Bad(
        read_only_directory,
        "{place.store} cannot be written; check the permissions of the file and of its directory",
    ),
    Bad(
        read_only_empty_directory, "the directory {place.directory} cannot be written; change its permissions"
    ),
    Bad(closed_directory, "{place.store} cannot be reached; change the permissions of {place.directory}"),
    Bad(random_bytes, "{place.store} is damaged or not a database"),
    Bad(another_file, "{place.store} is damaged or not a database"),
    Bad(truncated, "{place.store} is damaged"),
    Bad(cut_at_a_page, "{place.store} is damaged"),
    Bad(scribbled_over, "{place.store} is damaged"),
    Bad(another_program, "{place.store} is a database of another program; choose another file for `store`"),
    Bad(
        newer_version,
        f"{{place.store}} was written by a newer authz (schema {VERSION + 1}, this one knows {VERSION})",
    ),
    # Another key can be added beside them.
    Bad(unreadable_records, "holds a record (key) that this authz cannot read", ("serve", "list")),
    Bad(unreadable_counters, "{place.store} holds counters that this authz cannot read", ("serve",)),
)


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.spoil.__name__)
def test_refused(place: Place, bad: Bad) -> None:
    bad.spoil(place)
    refused(place, bad.message, bad.commands)


def test_locked_by_another_service(place: Place) -> None:
    """A second one is refused and names the first; commands work beside it."""
    first = Process(
        [sys.executable, "-m", "authz.cli", "serve", "--config", str(place.config)],
        log=place.root / "serve.log",
    )
    try:
        first.wait_until(lambda: "serving" in first.output())
        second = place.command("serve")
        out, err = second.communicate(timeout=90)
        assert (second.returncode, out) == (1, "")
        assert f"{place.store} is in use by another authz service (process {first.pid}); stop it" in err
        beside = place.command(*COMMANDS["create"])
        assert "sk-az-" in beside.communicate(timeout=90)[0]
        assert first.running
    finally:
        assert first.stop(seconds=30) == 0


def test_locked_by_another_program(place: Place) -> None:
    """It waits a while for its turn, then says who is in the way."""
    hold = (
        "import sqlite3, sys; shell = sqlite3.connect(sys.argv[1], isolation_level=None); "
        "shell.execute('BEGIN EXCLUSIVE'); print('held', flush=True); sys.stdin.read()"
    )
    # In a process of its own: to look at a file from here would end every lock that we had on it (fcntl(2)).
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(place.store)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as shell:
        assert shell.stdout is not None
        assert shell.stdout.readline() == "held\n"
        refused(
            place,
            "{place.store} is locked by another program; close what holds it",
            ("serve", "create"),
            (LOCK, *JOURNAL),
        )
        shell.communicate("")
    beside = place.command(*COMMANDS["create"])
    assert "sk-az-" in beside.communicate(timeout=90)[0]
