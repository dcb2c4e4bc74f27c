"""The tables, as the steps from an empty file to the present version. A released step never changes."""

from sqlite3 import Connection

RECORDS = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE keys (
    id TEXT PRIMARY KEY, digest BLOB NOT NULL UNIQUE, display TEXT NOT NULL,
    user TEXT NOT NULL, team TEXT, body BLOB NOT NULL
);
CREATE INDEX keys_display ON keys (display);
CREATE INDEX keys_user ON keys (user);
CREATE INDEX keys_team ON keys (team);
CREATE TABLE key_use (id TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE users (name TEXT PRIMARY KEY, team TEXT, body BLOB NOT NULL);
CREATE INDEX users_team ON users (team);
CREATE TABLE teams (name TEXT PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE models (name TEXT PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE adjustments (id TEXT PRIMARY KEY, policy TEXT NOT NULL, body BLOB NOT NULL);
CREATE INDEX adjustments_policy ON adjustments (policy);
CREATE TABLE changes (seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, name TEXT NOT NULL);
CREATE TABLE counters (key TEXT PRIMARY KEY, state BLOB NOT NULL, spent_at INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE reservations (id TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE denials (
    row INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, last_at INTEGER NOT NULL,
    status INTEGER NOT NULL, reason TEXT NOT NULL, user TEXT NOT NULL, body BLOB NOT NULL
);
CREATE INDEX denials_last_at ON denials (last_at);
CREATE INDEX denials_of_nobody ON denials (last_at) WHERE user = '';
CREATE TABLE denial_ids (id TEXT PRIMARY KEY, name TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX denial_ids_name ON denial_ids (name);
INSERT INTO meta VALUES ('identity', randomblob(8));
INSERT INTO meta VALUES ('generation', 0);
"""

LEDGER = """
CREATE TABLE ledger (
    reservation TEXT NOT NULL, request_id TEXT NOT NULL, at INTEGER NOT NULL,
    user TEXT NOT NULL, team TEXT NOT NULL, key TEXT NOT NULL, model TEXT NOT NULL,
    route TEXT NOT NULL, gateway TEXT NOT NULL, source TEXT NOT NULL,
    input INTEGER NOT NULL, output INTEGER NOT NULL, cached INTEGER NOT NULL, reasoning INTEGER NOT NULL,
    cost INTEGER NOT NULL, body BLOB NOT NULL, UNIQUE (reservation, at)
);
CREATE INDEX ledger_at ON ledger (at);
CREATE INDEX ledger_request_id ON ledger (request_id);
CREATE TABLE ledger_days (
    day TEXT NOT NULL, user TEXT NOT NULL, team TEXT NOT NULL, key TEXT NOT NULL, model TEXT NOT NULL,
    route TEXT NOT NULL, gateway TEXT NOT NULL, source TEXT NOT NULL,
    requests INTEGER NOT NULL, input INTEGER NOT NULL, output INTEGER NOT NULL, cached INTEGER NOT NULL,
    reasoning INTEGER NOT NULL, cost INTEGER NOT NULL,
    PRIMARY KEY (day, user, team, key, model, route, gateway, source)
) WITHOUT ROWID;
CREATE TABLE trials (
    hour INTEGER NOT NULL, policy TEXT NOT NULL, partition TEXT NOT NULL,
    would INTEGER NOT NULL, live INTEGER NOT NULL, first_at INTEGER NOT NULL, last_at INTEGER NOT NULL,
    PRIMARY KEY (hour, policy, partition)
) WITHOUT ROWID;
INSERT INTO meta VALUES ('ledger_timezone', 'UTC');
INSERT INTO meta VALUES ('ledger_kept_from', 0);
"""

# Whatever is sorted by an id of somebody else's choice costs a page of the disk for each row: once is enough.
LEAN = """
DROP INDEX ledger_request_id;
CREATE INDEX ledger_request_id ON ledger (request_id) WHERE request_id <> reservation;
CREATE TABLE running (id TEXT PRIMARY KEY, body BLOB NOT NULL);
INSERT INTO running SELECT id, body FROM reservations;
DROP TABLE reservations;
ALTER TABLE running RENAME TO reservations;
"""

APPLICATION = 0x417A4442  # "AzDB" in the file's header
STEPS = (RECORDS, LEDGER, LEAN)
VERSION = len(STEPS)


def upgrade(connection: Connection) -> None:
    """Bring an empty file, or one of an earlier version, to the present one. Keeps what is in it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()  # another may have been faster
        for step in STEPS[version:]:
            for statement in step.split(";"):
                if statement.strip():
                    connection.execute(statement)
        if version < VERSION:
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
