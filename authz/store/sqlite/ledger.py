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

_Key = tuple[str, ...]  # a day and the dimensions


def save(connection: Connection, entries: Sequence[Entry]) -> None:
    """Add entries and their sums. What is there already stays, but a correction replaces what had expired.

    So it does not matter how often an entry is saved. It is known by its reservation and moment: the id
    may come again for another request, long after the first was forgotten. For use within a transaction.
    """
    if not entries:
        return
    days = Days(timezone_of(connection))
    changes: dict[_Key, list[int]] = {}
    for entry in entries:
        row = _row(entry)
        if connection.execute(_INSERT, (entry.reservation, *row)).rowcount == 0:
            if entry.note.source is not Source.CORRECTED:
                continue
            expired = connection.execute(_FIND, (entry.reservation, entry.at, Source.EXPIRED)).fetchone()
            if expired is None:
                continue
            _count(changes, days, expired, -1)
            connection.execute(_REMOVE, (entry.reservation, entry.at))
            connection.execute(_INSERT, (entry.reservation, *row))
        _count(changes, days, row[1:-1], 1)
    connection.executemany(
        _ADD, [(*key, *(min(each, MOST) for each in sums)) for key, sums in changes.items() if any(sums)]
    )
    connection.executemany(_DROP, [key for key, sums in changes.items() if sums[-1] < 0])


def timezone_of(connection: Connection) -> str:
    """The time zone of the days that are summed."""
    (timezone,) = connection.execute("SELECT value FROM meta WHERE name = 'ledger_timezone'").fetchone()
    return str(timezone)


def _row(entry: Entry) -> tuple[Any, ...]:
    facts, note = entry.facts, entry.note
    usage = note.usage
    amounts = (usage.input, usage.output, usage.cached, usage.reasoning, note.cost)
    return (
        facts.request_id,
        entry.at,
        facts.user,
        facts.team,
        facts.key,
        facts.model,
        facts.route,
        entry.gateway,
        note.source,
        *(min(amount, MAX_AMOUNT) for amount in amounts),
        _encode(entry),
    )


def _count(changes: dict[_Key, list[int]], days: Days, row: Sequence[Any], sign: int) -> None:
    """Add to the sums of its day what a row says, from its moment to its cost; or take it away."""
    at, *columns = row
    dimensions, amounts = columns[: len(DIMENSIONS)], columns[len(DIMENSIONS) :]
    sums = changes.setdefault((days.at(at).name, *dimensions), [0] * (len(AMOUNTS) + 1))
    for index, amount in enumerate((*amounts, 1)):
        sums[index] += sign * amount
