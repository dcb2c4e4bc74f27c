"""The ledger: a row per request, and the sums of each day that outlive the rows."""

from collections.abc import Sequence
from sqlite3 import Connection
from typing import Any

import msgspec

from authz.quota import MAX_AMOUNT
from authz.store.days import Days
from authz.store.records import Entry, Source
from authz.store.sums import AMOUNTS, DIMENSIONS, MOST

_COLUMNS = ", ".join((*DIMENSIONS, *AMOUNTS))
_VALUES = ", ".join("?" for _ in (*DIMENSIONS, *AMOUNTS))
# ruff: noqa: S608  (the SQL is made of our own names)
_INSERT = (
    f"INSERT INTO ledger (reservation, request_id, at, {_COLUMNS}, body)"
    f" VALUES (?, ?, ?, {_VALUES}, ?) ON CONFLICT DO NOTHING"
)
_FIND = f"SELECT at, {_COLUMNS} FROM ledger WHERE reservation = ? AND at = ? AND source = ?"
_REMOVE = "DELETE FROM ledger WHERE reservation = ? AND at = ?"
_ADD = (  # beyond MOST, SQLite would go on with floating point
    f"INSERT INTO ledger_days (day, {_COLUMNS}, requests) VALUES (?, {_VALUES}, ?) ON CONFLICT DO UPDATE SET "
    + (", ".join(f"{name} = min({name} + excluded.{name}, {MOST})" for name in (*AMOUNTS, "requests")))
)
_DROP = (
    "DELETE FROM ledger_days WHERE requests <= 0"
    f" AND day = ? AND {' AND '.join(f'{name} = ?' for name in DIMENSIONS)}"
)

_encode = msgspec.json.Encoder().encode

_Row = tuple[Any, ...]
_AT, _FIRST = 2, 3  # in a row: its moment, and where begins what its sums are of
_LAST = _FIRST + len(DIMENSIONS) + len(AMOUNTS)
_Key = tuple[str, ...]  # a day and the dimensions


def save(connection: Connection, entries: Sequence[Entry]) -> None:
    """Add entries and their sums. What is there already stays, but a correction replaces what had expired.

    So it does not matter how often an entry is saved. It is known by its reservation and moment: the id
    may come again for another request, long after the first was forgotten. For use within a transaction.
    """
    if not entries:
        return
    rows = [_row(entry) for entry in entries]
    sums = _Sums(Days(timezone_of(connection)))
    connection.execute("SAVEPOINT entries")
    before = connection.total_changes
    connection.executemany(_INSERT, rows)
    if connection.total_changes - before == len(rows):  # all are new, as a rule
        for row in rows:
            sums.count(row[_AT], row[_FIRST:_LAST], 1)
    else:
        connection.execute("ROLLBACK TO entries")
        for entry, row in zip(entries, rows, strict=True):
            _save_one(connection, entry, row, sums)
    connection.execute("RELEASE entries")
    sums.save(connection)


def _save_one(connection: Connection, entry: Entry, row: _Row, sums: "_Sums") -> None:
    if connection.execute(_INSERT, row).rowcount == 0:
        if entry.note.source is not Source.CORRECTED:
            return
        expired = connection.execute(_FIND, (entry.reservation, entry.at, Source.EXPIRED)).fetchone()
        if expired is None:
            return
        sums.count(expired[0], expired[1:], -1)
        connection.execute(_REMOVE, (entry.reservation, entry.at))
        connection.execute(_INSERT, row)
    sums.count(row[_AT], row[_FIRST:_LAST], 1)


class _Sums:
    """What is to be added to the sums of days, or taken away."""

    def __init__(self, days: Days) -> None:
        self._days = days
        self._changes: dict[_Key, list[int]] = {}

    def count(self, at: int, columns: _Row, sign: int) -> None:
        """One row of that moment: its dimensions, then its amounts."""
        key = (self._days.at(at).name, *columns[: len(DIMENSIONS)])
        sums = self._changes.get(key)
        if sums is None:
            sums = self._changes[key] = [0] * (len(AMOUNTS) + 1)
        for index, amount in enumerate(columns[len(DIMENSIONS) :]):
            sums[index] += sign * amount
        sums[-1] += sign

    def save(self, connection: Connection) -> None:
        changes = self._changes
        connection.executemany(
            _ADD, [(*key, *(min(each, MOST) for each in sums)) for key, sums in changes.items() if any(sums)]
        )
        connection.executemany(_DROP, [key for key, sums in changes.items() if sums[-1] < 0])


def timezone_of(connection: Connection) -> str:
    """The time zone of the days that are summed."""
    (timezone,) = connection.execute("SELECT value FROM meta WHERE name = 'ledger_timezone'").fetchone()
    return str(timezone)


def _row(entry: Entry) -> _Row:
    facts, note = entry.facts, entry.note
    usage = note.usage
    amounts = [usage.input, usage.output, usage.cached, usage.reasoning, note.cost]
    if max(amounts) > MAX_AMOUNT:
        amounts = [min(amount, MAX_AMOUNT) for amount in amounts]
    return (
        entry.reservation,
        facts.request_id,
        entry.at,
        facts.user,
        facts.team,
        facts.key,
        facts.model,
        facts.route,
        entry.gateway,
        note.source.value,  # SQLite takes plain text quicker than a member
        *amounts,
        _encode(entry),
    )
