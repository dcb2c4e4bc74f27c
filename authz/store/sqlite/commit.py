"""Group commit: what the service has to write, in one transaction."""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from authz.quota import MAX_AMOUNT
from authz.store.closed import entry_of
from authz.store.counting import spent_at
from authz.store.engine import Changes
from authz.store.floods import Row
from authz.store.levels import encode_state
from authz.store.reservations import encode
from authz.store.sqlite import denials, ledger, ledger_upkeep, trials
from authz.store.sqlite.database import Database
from authz.store.sqlite.directory import NOTES_KEPT
from authz.store.tables import GRACE
from authz.store.trials import Trial


class Batch(Struct, frozen=True):
    """What was gathered on the event loop since the last commit. Everything in it is immutable."""

    generation: int | None  # of the journal, that the counters complete; None: there are none
    changes: Changes
    used: Mapping[str, int]
    denials: Sequence[Row] = ()
    trials: Sequence[Trial] = ()

    def __bool__(self) -> bool:
        return self.generation is not None or bool(
            self.used or self.denials or self.trials or self.changes.closed
        )


def commit(database: Database, batch: Batch) -> None:
    """All of it or nothing, durable when it returns."""
    with database.change() as connection:
        connection.executemany(
            "INSERT OR REPLACE INTO counters VALUES (?, ?, ?)",
            (
                (key, encode_state(state), min(spent_at(state), MAX_AMOUNT))
                for key, state in batch.changes.counters.items()
            ),
        )
        connection.executemany(
            "INSERT OR REPLACE INTO reservations VALUES (?, ?)",
            ((name, encode(made)) for name, made in batch.changes.reservations.items() if made is not None),
        )
        connection.executemany(
            "DELETE FROM reservations WHERE id = ?",
            ((name,) for name, made in batch.changes.reservations.items() if made is None),
        )
        if batch.generation is not None:
            connection.execute("UPDATE meta SET value = ? WHERE name = 'generation'", (batch.generation,))
        connection.executemany(
            "INSERT INTO key_use VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET at = max(at, excluded.at)",
            batch.used.items(),
        )
        denials.save(connection, batch.denials)
        trials.save(connection, batch.trials)
        ledger.save(connection, [entry_of(each) for each in batch.changes.closed])


TRIM_STEPS = 4  # more rows than can come between two trims, and never a long wait for the next commit


def trim(database: Database, now: int) -> None:
    """Drop what no longer counts: spent counters, old refusals, trials and notes of changes."""
    with database.change() as connection:
        connection.execute("DELETE FROM counters WHERE spent_at < ?", (now - GRACE,))
        connection.execute(
            "DELETE FROM changes WHERE seq <= (SELECT max(seq) FROM changes) - ?", (NOTES_KEPT,)
        )
        trials.trim(connection, now)
    trim_denials(database, now)


def trim_denials(database: Database, now: int) -> None:
    """Hold the log of refusals to its size, in short transactions: others write in between."""
    for _ in range(TRIM_STEPS):
        with database.change() as connection:
            if not denials.trim(connection, now):
                return


def trim_ledger(database: Database, now: int, kept_ms: int) -> bool:
    """One step of dropping entries older than that; whether there are more."""
    with database.change() as connection:
        return ledger_upkeep.trim(connection, now, kept_ms)
