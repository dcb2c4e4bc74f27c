"""The counts of limits on trial: by the hour, bounded."""

from collections.abc import Callable, Sequence
from sqlite3 import Connection

import msgspec

from authz.store.sqlite.database import Database
from authz.store.trials import HOUR_MS, Partition, Trial

ROWS_KEPT = 100_000
STEP = 2_000  # rows that one trim deletes at most
KEPT_MS = 90 * 86_400_000

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Partition).decode


class SqliteTrialLog:
    """Reads the counts back. `before` is called first, to bring in what still waits."""

    def __init__(self, database: Database, before: Callable[[], None] | None = None) -> None:
        self._database = database
        self._before = before or (lambda: None)

    def list(self, *, since: int = 0) -> Sequence[Trial]:
        """By limit and partition, most refusals first. Counts from the hour that holds `since` (ms)."""
        self._before()
        rows = self._database.read(
            "SELECT policy, partition, sum(would), sum(live), min(first_at), max(last_at) FROM trials"
            " WHERE hour >= ? GROUP BY policy, partition ORDER BY sum(would) DESC, policy, partition",
            (since // HOUR_MS,),
        )
        return [Trial(policy, _decode(partition), *counts) for policy, partition, *counts in rows]


def save(connection: Connection, trials: Sequence[Trial]) -> None:
    """Add to the counts of the hour."""
    connection.executemany(
        "INSERT INTO trials VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
        " would = would + excluded.would, live = live + excluded.live,"
        " first_at = min(first_at, excluded.first_at), last_at = max(last_at, excluded.last_at)",
        [
            (
                trial.first_at // HOUR_MS,
                trial.policy,
                _encode(trial.partition).decode(),
                trial.would,
                trial.live,
                trial.first_at,
                trial.last_at,
            )
            for trial in trials
        ],
    )


def trim(connection: Connection, now: int) -> None:
    """One bounded step to hold the counts to their number and age."""
    (count,) = connection.execute("SELECT count(*) FROM trials").fetchone()
    connection.execute(
        "DELETE FROM trials WHERE (hour, policy, partition) IN"
        " (SELECT hour, policy, partition FROM trials ORDER BY hour LIMIT ?)",
        (max(0, min(count - ROWS_KEPT, STEP)),),
    )
    connection.execute("DELETE FROM trials WHERE hour < ?", ((now - KEPT_MS) // HOUR_MS,))
