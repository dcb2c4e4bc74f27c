"""Holding the ledger to its age, and its days to the time zone of the configuration."""

from sqlite3 import Connection

from authz.store.days import Days
from authz.store.sqlite.database import Database
from authz.store.sqlite.ledger import timezone_of
from authz.store.sums import AMOUNTS, DIMENSIONS

STEP = 2_000  # rows that one trim deletes at most
SUMS_KEPT_MS = 400 * 86_400_000

# ruff: noqa: S608  (the SQL is made of our own names)
_COLUMNS = ", ".join((*DIMENSIONS, *AMOUNTS))
_SUM_DAY = (
    f"INSERT INTO ledger_days (day, {_COLUMNS}, requests)"
    f" SELECT ?1, {', '.join((*DIMENSIONS, *(f'sum({name})' for name in AMOUNTS)))}, count(*) FROM ledger"
    f" WHERE at >= ?2 AND at < ?3 GROUP BY {', '.join(DIMENSIONS)} ON CONFLICT DO UPDATE SET "
    + ", ".join(f"{name} = {name} + excluded.{name}" for name in (*AMOUNTS, "requests"))
)


def trim(connection: Connection, now: int, retention_ms: int) -> bool:
    """One bounded step: rows older than the retention go, sums of days stay longer. Whether there is more."""
    kept_from = now - retention_ms
    connection.execute(
        "UPDATE meta SET value = max(value, ?) WHERE name = 'ledger_kept_from'"
        " AND EXISTS (SELECT 1 FROM ledger WHERE at < ?)",
        (kept_from, kept_from),
    )
    gone = connection.execute(
        "DELETE FROM ledger WHERE rowid IN (SELECT rowid FROM ledger WHERE at < ? ORDER BY at LIMIT ?)",
        (kept_from, STEP),
    )
    oldest = Days(timezone_of(connection)).at(max(0, now - SUMS_KEPT_MS)).name
    connection.execute(
        "DELETE FROM ledger_days WHERE day = (SELECT min(day) FROM ledger_days WHERE day < ?)", (oldest,)
    )
    return gone.rowcount == STEP


def set_timezone(database: Database, timezone: str) -> None:
    """Sum by the days of this zone. What there are rows of is summed anew, older days stay as they were."""
    with database.change() as connection:
        old, new = Days(timezone_of(connection)), Days(timezone)
        if old.timezone == new.timezone:
            return
        connection.execute("UPDATE meta SET value = ? WHERE name = 'ledger_timezone'", (timezone,))
        begin = _first_whole_day(connection, old)
        connection.execute("DELETE FROM ledger_days WHERE day >= ?", (old.at(begin).name,))
        while True:
            (next_at,) = connection.execute("SELECT min(at) FROM ledger WHERE at >= ?", (begin,)).fetchone()
            if next_at is None:
                return
            day = new.at(next_at)
            connection.execute(_SUM_DAY, (day.name, next_at, day.end))
            begin = day.end


def _first_whole_day(connection: Connection, days: Days) -> int:
    """When the first day begins of which every row is kept. Single rows are read from there on only."""
    (kept_from,) = connection.execute("SELECT value FROM meta WHERE name = 'ledger_kept_from'").fetchone()
    day = days.at(kept_from)
    if kept_from in (0, day.start):
        return day.start
    connection.execute("UPDATE meta SET value = ? WHERE name = 'ledger_kept_from'", (day.end,))
    return day.end
