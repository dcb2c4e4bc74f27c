"""A file of SQLite as it is copied from and to."""

import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from authz.quota import MAX_AMOUNT
from authz.store.copying.side import TOGETHER, Counting, DaySums, Frame
from authz.store.counting import spent_at
from authz.store.embedded import EmbeddedStore
from authz.store.floods import Row
from authz.store.levels import decode_state, encode_state
from authz.store.protocols import Clock, StoreUnusable
from authz.store.records import Denial, Entry
from authz.store.reservations import decode, encode
from authz.store.sqlite import denials, ledger
from authz.store.sqlite.database import prepare
from authz.store.sqlite.ledger_upkeep import set_timezone
from authz.store.sqlite.reading import reader
from authz.store.sqlite.registry import SqliteRegistry
from authz.store.sqlite.service import open_sqlite
from authz.store.sums import AMOUNTS, DIMENSIONS
from authz.store.trials import HOUR_MS, Partition, Trial

_DAY_MS = 86_400_000
_TABLES = (
    "keys", "users", "teams", "models", "adjustments", "ledger", "ledger_days", "counters", "reservations",
    "denials", "trials",
)  # fmt: skip
# ruff: noqa: S608  (the SQL is made of our own names)
_COLUMNS = ", ".join((*DIMENSIONS, *AMOUNTS, "requests"))
_RAISE = (
    f"INSERT INTO ledger_days (day, {_COLUMNS}) VALUES (?, {', '.join('?' for _ in _COLUMNS.split(', '))})"
    " ON CONFLICT DO UPDATE SET "
    + ", ".join(f"{name} = max({name}, excluded.{name})" for name in (*AMOUNTS, "requests"))
)

_entry = reader(Entry)
_denial = reader(Denial)
_partition = msgspec.json.Decoder(Partition)


class SqliteSide:
    """Nobody else uses the file while this does, unless a service already did: then `owned` is False.

    What a service had written ahead when it was killed is in it then. Raises StoreUnusable.
    """

    shuts_out = True

    def __init__(self, path: Path, clock: Clock, *, new: bool) -> None:
        if not new and not path.exists():
            raise StoreUnusable(f"there is no file {path}; see how it is spelled")
        self._path = path
        self._clock = clock
        self._service: EmbeddedStore | None = None
        self._database = prepare(path, thorough=False)
        try:
            self.own()
        except BaseException:
            self._database.close()
            raise
        self.registry = SqliteRegistry(self._database, clock)
        self._seen = 0

    @property
    def place(self) -> str:
        return f"sqlite://{self._path}"

    def own(self) -> None:
        """Keep services away, where none is there yet."""
        if self._service is None and not self.used_by():
            timezone = str(self._meta("ledger_timezone"))
            with suppress(StoreUnusable):  # one was faster; what else is wrong, reading says
                self._service = open_sqlite(self._path, self._clock, timezone=timezone)

    def used_by(self) -> str:
        if self._service is not None:
            return ""
        try:
            file = os.open(self._path.with_name(f"{self._path.name}-serve.lock"), os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return ""
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return f"process {os.read(file, 32).decode('ascii', 'replace').strip() or 'unknown'}"
        finally:
            os.close(file)
        return ""

    def is_empty(self) -> bool:
        return not any(self._database.one(f"SELECT 1 FROM {table} LIMIT 1") for table in _TABLES)

    # -- the ledger --------------------------------------------------------------------------------

    def frame(self) -> Frame:
        oldest = self._database.one("SELECT min(at) FROM ledger")
        retention = 0 if oldest is None else max(0, self._clock() - oldest)
        return Frame(str(self._meta("ledger_timezone")), int(self._meta("ledger_kept_from")), retention)

    def fit(self, frame: Frame) -> None:
        set_timezone(self._database, frame.timezone)
        with self._database.change() as connection:
            connection.execute(
                "UPDATE meta SET value = max(value, ?) WHERE name = 'ledger_kept_from'", (frame.kept_from,)
            )

    def days(self) -> Sequence[int]:
        found = []
        at = self._database.one("SELECT min(at) FROM ledger")
        while at is not None:
            found.append(at // _DAY_MS)
            at = self._database.one("SELECT min(at) FROM ledger WHERE at >= ?", ((found[-1] + 1) * _DAY_MS,))
        return found

    def entries(self, day: int) -> Iterator[Sequence[Entry]]:
        at, row = day * _DAY_MS, -1
        while True:
            rows = self._database.read(
                "SELECT at, rowid, body FROM ledger WHERE (at, rowid) > (?, ?) AND at < ?"
                " ORDER BY at, rowid LIMIT ?",
                (at, row, (day + 1) * _DAY_MS, TOGETHER),
            )
            if not rows:
                return
            at, row, _ = rows[-1]
            yield [_entry(body) for _, _, body in rows]

    def news(self) -> Iterator[Sequence[Entry]]:
        # A correction may have taken the place of the last row, number and all.
        begin = self._seen
        while True:
            rows = self._database.read(
                "SELECT rowid, body FROM ledger WHERE rowid >= ? ORDER BY rowid LIMIT ?", (begin, TOGETHER)
            )
            if not rows:
                return
            yield [_entry(body) for _, body in rows]
            self._seen, begin = rows[-1][0], rows[-1][0] + 1

    def save(self, entries: Sequence[Entry]) -> None:
        with self._database.change() as connection:
            ledger.save(connection, entries)

    def sums(self) -> Mapping[str, DaySums]:
        found: dict[str, dict[tuple[str, ...], tuple[int, ...]]] = {}
        size = len(DIMENSIONS)
        for day, *row in self._database.read(f"SELECT day, {_COLUMNS} FROM ledger_days"):
            found.setdefault(day, {})[tuple(row[:size])] = tuple(row[size:])
        return found

    def raise_sums(self, sums: Mapping[str, DaySums]) -> None:
        with self._database.change() as connection:
            connection.executemany(
                _RAISE,
                [(day, *group, *figures) for day, table in sums.items() for group, figures in table.items()],
            )

    # -- refusals and trials -----------------------------------------------------------------------

    def denials(self) -> Iterator[Sequence[Row]]:
        seen = 0
        while True:
            rows = self._database.read(
                "SELECT row, name, body FROM denials WHERE row > ? ORDER BY row LIMIT ?", (seen, TOGETHER)
            )
            if not rows:
                return
            yield [_row(name, body) for _, name, body in rows]
            seen = rows[-1][0]

    def save_denials(self, rows: Sequence[Row]) -> None:
        with self._database.change() as connection:
            denials.save(connection, rows)

    def trials(self) -> Sequence[Trial]:
        rows = self._database.read("SELECT policy, partition, would, live, first_at, last_at FROM trials")
        return [Trial(policy, _partition.decode(partition), *rest) for policy, partition, *rest in rows]

    def save_trials(self, trials: Sequence[Trial]) -> None:
        with self._database.change() as connection:
            connection.executemany(
                "INSERT INTO trials VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
                " would = max(would, excluded.would), live = max(live, excluded.live),"
                " first_at = min(first_at, excluded.first_at), last_at = max(last_at, excluded.last_at)",
                [
                    (
                        each.first_at // HOUR_MS,
                        each.policy,
                        msgspec.json.encode(each.partition).decode(),
                        each.would,
                        each.live,
                        each.first_at,
                        each.last_at,
                    )
                    for each in trials
                ],
            )

    # -- counters ----------------------------------------------------------------------------------

    def counting(self) -> Counting:
        counters = self._database.read("SELECT key, state FROM counters")
        reservations = self._database.read("SELECT id, body FROM reservations")
        return Counting(
            {key: decode_state(state) for key, state in counters},
            {name: decode(body) for name, body in reservations},
        )

    def set_counting(self, counting: Counting) -> None:
        with self._database.change() as connection:
            connection.execute("DELETE FROM counters")
            connection.execute("DELETE FROM reservations")
            connection.executemany(
                "INSERT INTO counters VALUES (?, ?, ?)",
                (
                    (key, encode_state(state), min(spent_at(state), MAX_AMOUNT))
                    for key, state in counting.counters.items()
                ),
            )
            connection.executemany(
                "INSERT INTO reservations VALUES (?, ?)",
                ((name, encode(made)) for name, made in counting.reservations.items()),
            )

    def close(self) -> None:
        if self._service is not None:
            with suppress(StopIteration):  # an embedded store never suspends: one step closes it
                self._service.close().send(None)
            self._service = None
        self._database.close()

    def _meta(self, name: str) -> Any:
        return self._database.one("SELECT value FROM meta WHERE name = ?", (name,))


def _row(name: str, body: Any) -> Row:
    denial = _denial(body)
    return Row(name, denial, denial.count, denial.last_at, denial.also)
