"""The log of refusals: bounded, newest first."""

from collections.abc import Callable, Sequence
from sqlite3 import Connection

import msgspec

from authz.store.floods import Row
from authz.store.records import Denial
from authz.store.sqlite.database import Database
from authz.store.sqlite.reading import reader

ROWS_KEPT = 100_000
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


def trim(connection: Connection, now: int) -> None:
    """Hold the log to its size and age."""
    connection.execute(
        "DELETE FROM denials WHERE last_at < ? OR row <= (SELECT max(row) FROM denials) - ?",
        (now - KEPT_MS, ROWS_KEPT),
    )
    connection.execute("DELETE FROM denial_ids WHERE name NOT IN (SELECT name FROM denials)")
