"""The log of refusals: bounded, newest first."""

from collections.abc import Callable, Sequence
from sqlite3 import Connection

import msgspec

from authz.store.floods import Row
from authz.store.records import Denial
from authz.store.sqlite.database import Database
from authz.store.sqlite.reading import reader

ROWS_KEPT = 100_000
NOBODYS_KEPT = 20_000  # of those without a user: a flood of them displaces no others
STEP = 2_000  # rows that one trim deletes at most, for each reason to delete
KEPT_MS = 30 * 86_400_000

_encode = msgspec.json.Encoder().encode
_decode = reader(Denial)


class SqliteDenialLog:
    """Reads refusals back. `before` is called first, to bring in what still waits."""

    def __init__(self, database: Database, before: Callable[[], None] | None = None) -> None:
        self._database = database
        self._before = before or (lambda: None)

    def list(
        self, *, since: int = 0, user: str = "", status: int = 0, reason: str = "", limit: int = 100
    ) -> Sequence[Denial]:
        """Newest first; `since` in ms. Empty and zero mean any."""
        self._before()
        rows = self._database.read(
            "SELECT body FROM denials WHERE last_at >= ?1 AND (?2 = '' OR user = ?2)"
            " AND (?3 = 0 OR status = ?3) AND (?4 = '' OR reason = ?4)"
            " ORDER BY last_at DESC, row DESC LIMIT ?5",
            (since, user, status, reason, limit),
        )
        return [_decode(body) for (body,) in rows]

    def show(self, id: str) -> Denial | None:
        """By the request id that the client saw: the first of a flood or one of its latest."""
        self._before()
        body = self._database.one("SELECT body FROM denials JOIN denial_ids USING (name) WHERE id = ?", (id,))
        return None if body is None else _decode(body)


def save(connection: Connection, rows: Sequence[Row]) -> None:
    """Add rows, or bring them up to date where they have grown."""
    for row in rows:
        denial = row.denial()
        connection.execute(
            "INSERT INTO denials (name, last_at, status, reason, user, body) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (name) DO UPDATE SET last_at = excluded.last_at, body = excluded.body",
            (row.name, denial.last_at, denial.status, denial.reason, denial.user, _encode(denial)),
        )
        connection.execute("DELETE FROM denial_ids WHERE name = ?", (row.name,))
        connection.executemany(
            "INSERT OR REPLACE INTO denial_ids VALUES (?, ?)",
            [(id, row.name) for id in (denial.id, *row.also)],
        )


def trim(connection: Connection, now: int) -> bool:
    """One bounded step to hold the log to its size and age. Whether there is more to delete."""
    deleted = [
        _delete(connection, f"last_at < {now - KEPT_MS}", STEP),
        _delete_oldest(connection, "user = ''", NOBODYS_KEPT),
        _delete_oldest(connection, "true", ROWS_KEPT),
    ]
    return STEP in deleted


def _delete_oldest(connection: Connection, which: str, kept: int) -> int:
    (count,) = connection.execute(f"SELECT count(*) FROM denials WHERE {which}").fetchone()  # noqa: S608  (ours)
    return _delete(connection, which, min(count - kept, STEP)) if count > kept else 0


def _delete(connection: Connection, which: str, most: int) -> int:
    rows = connection.execute(
        f"SELECT name FROM denials WHERE {which} ORDER BY last_at, row LIMIT {most}"  # noqa: S608  (ours)
    ).fetchall()
    connection.executemany("DELETE FROM denial_ids WHERE name = ?", rows)
    connection.executemany("DELETE FROM denials WHERE name = ?", rows)
    return len(rows)
