"""Reading the ledger: sums over groups, and single entries."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from authz.store.days import Days
from authz.store.protocols import UsageRow
from authz.store.records import Entry, Source
from authz.store.sqlite.database import Database
from authz.store.sqlite.reading import reader
from authz.store.sums import AMOUNTS, DIMENSIONS, check_known, split

# ruff: noqa: S608  (the SQL is made of our own names)
_NAMES = f"{', '.join(DIMENSIONS)}, {{}}, {', '.join(AMOUNTS)}"
_PARTS = (
    f"SELECT day, {_NAMES.format('requests')} FROM ledger_days WHERE day >= ?1 AND day < ?2"
    f" UNION ALL SELECT ?3, {_NAMES.format(1)} FROM ledger WHERE at >= ?4 AND at < ?5"
    f" UNION ALL SELECT ?6, {_NAMES.format(1)} FROM ledger WHERE at >= ?7 AND at < ?8"
)
_UNCOUNTED = f"iif(source IN ('{Source.ESTIMATED}', '{Source.EXPIRED}'), {{}}, 0)"
_SUMMED = ("requests", *AMOUNTS, _UNCOUNTED.format("input"), _UNCOUNTED.format("output"))
_HALF = 31  # bits: both halves of a number are summed apart, for SQLite gives up beyond 2^63
_SUMS = ", ".join(f"sum({each} >> {_HALF}), sum({each} & {(1 << _HALF) - 1})" for each in _SUMMED)

BY_ID = (  # the second index is of those alone whose two ids differ
    "SELECT body, at, 1 AS whole FROM ledger WHERE reservation = ?1"
    " UNION ALL SELECT body, at, 0 FROM ledger WHERE request_id = ?1 AND request_id <> reservation"
    " ORDER BY whole DESC, at DESC"
)

_decode = reader(Entry)


class SqliteLedger:
    """What requests used. `before` is called first, to bring in what still waits."""

    def __init__(self, database: Database, before: Callable[[], None] | None = None) -> None:
        self._database = database
        self._before = before or (lambda: None)

    def usage(
        self, *, since: int, until: int, by: Sequence[str], only: Mapping[str, str] | None = None
    ) -> Sequence[UsageRow]:
        """Sums of [since, until), in the order of the groups. Raises ValueError for an unknown dimension.

        Whole days come from their sums, what is left of the range from its rows. Where the rows of a
        moment are no longer kept, its whole day counts.
        """
        where, values = _where(only or {}, 9)
        groups = _known(by, ("day", *DIMENSIONS))
        self._before()
        if since >= until:
            return []
        grouped = f"GROUP BY {groups} ORDER BY {groups}" if by else "GROUP BY NULL"
        rows = self._database.read(
            f"SELECT {groups + ', ' if by else ''}{_SUMS} FROM ({_PARTS}) WHERE {where} {grouped}",
            (*self._parts(since, until), *values),
        )
        return [_usage_row(by, row) for row in rows]

    def entries(
        self,
        *,
        since: int = 0,
        until: int | None = None,
        only: Mapping[str, str] | None = None,
        limit: int = 100,
    ) -> Sequence[Entry]:
        """Single entries of [since, until), the latest first. Raises ValueError for an unknown dimension."""
        where, values = _where(only or {}, 4)
        self._before()
        rows = self._database.read(
            "SELECT body FROM ledger WHERE at >= ?1 AND (?2 IS NULL OR at < ?2)"
            f" AND {where} ORDER BY at DESC, rowid DESC LIMIT ?3",
            (since, until, limit, *values),
        )
        return [_decode(body) for (body,) in rows]

    def entry(self, id: str) -> Entry | None:
        """By reservation or request id; of several requests that share an id, the latest."""
        self._before()
        body = self._database.one(BY_ID, (id,))
        return None if body is None else _decode(body)

    @property
    def kept_from(self) -> int:
        """Since when single entries are kept, in ms; 0: since ever. Older ones are in sums of days."""
        return int(self._database.one("SELECT value FROM meta WHERE name = 'ledger_kept_from'"))

    def _parts(self, since: int, until: int) -> tuple[str, str, str, int, int, str, int, int]:
        timezone = str(self._database.one("SELECT value FROM meta WHERE name = 'ledger_timezone'"))
        parts = split(Days(timezone), self.kept_from, since, until)
        return parts.first, parts.last, parts.head, *parts.before, parts.tail, *parts.after


def _known(names: Sequence[str], among: Sequence[str]) -> str:
    check_known(names, among)
    return ", ".join(names)


def _where(only: Mapping[str, str], number: int) -> tuple[str, list[str]]:
    """A condition whose values are numbered from `number` on."""
    _known(list(only), DIMENSIONS)
    return " AND ".join(["true", *(f"{name} = ?{number + at}" for at, name in enumerate(only))]), [
        *only.values()
    ]


def _usage_row(by: Sequence[str], row: Sequence[Any]) -> UsageRow:
    halves = row[len(by) :]
    sums = [(high << _HALF) + low for high, low in zip(halves[::2], halves[1::2], strict=True)]
    requests, input, output, cached, reasoning, cost, uncounted_input, uncounted_output = sums
    return UsageRow(
        group=dict(zip(by, row, strict=False)),
        requests=requests,
        input_tokens=input,
        output_tokens=output,
        cached_input_tokens=cached,
        reasoning_tokens=reasoning,
        cost=cost,
        estimated_input_tokens=uncounted_input,
        estimated_output_tokens=uncounted_output,
    )
