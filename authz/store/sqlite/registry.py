"""Changes to the records, durable before they return. Each leaves a note for the directories that follow."""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from authz.store.levels import standings
from authz.store.protocols import Clock, Duplicate, InUse, NotFound
from authz.store.records import Adjustment, Key, Model, Team, User
from authz.store.sqlite.database import Database
from authz.store.sqlite.reading import reader

Record = TypeVar("Record", Key, User, Team, Model, Adjustment)

encode = msgspec.json.Encoder().encode
_key = reader(Key)


class SqliteRegistry:
    """Records in SQLite. Synchronous: for a command or a worker thread.

    `changed` is called after every change, so that the same process sees it at
    once. `levels` answers for counters that are not in the database.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        changed: Callable[[], None] | None = None,
        levels: Callable[[str], Mapping[str, bytes]] | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._changed = changed or (lambda: None)
        self._levels = levels

    # -- keys --------------------------------------------------------------------------------------

    def add_key(self, key: Key, *, create_user: bool = True) -> None:
        """Raises Duplicate for an id or key that is there, NotFound for a user that may not be made."""
        with self._database.change() as connection:
            if not _exists(connection, "users", key.user):
                if not create_user:
                    raise NotFound(f"there is no user {key.user!r}; create it first")
                _insert_user(connection, User(name=key.user, team=key.team, created_at=key.created_at))
            try:
                connection.execute(
                    "INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?)",
                    (key.id, key.digest, key.display, key.user, key.team, encode(key)),
                )
            except sqlite3.IntegrityError as error:
                raise Duplicate(f"the key {key.display!r} is in the store already") from error
            _note(connection, "key", key.id)
        self._changed()

    def put_key(self, key: Key) -> None:
        """Replace what is known of a key. Raises NotFound; a digest never changes."""
        with self._database.change() as connection:
            changed = connection.execute(
                "UPDATE keys SET display = ?, user = ?, team = ?, body = ? WHERE id = ? AND digest = ?",
                (key.display, key.user, key.team, encode(key), key.id, key.digest),
            )
            if changed.rowcount == 0:
                raise NotFound(f"there is no key {key.id!r}")
            _note(connection, "key", key.id)
        self._changed()

    def put_together(self, *, teams: Sequence[Team], users: Sequence[User], keys: Sequence[Key]) -> None:
        """Add or replace all of them, or none. Raises Duplicate for a key whose id or hash is another's."""
        with self._database.change() as connection:
            for team in teams:
                connection.execute("INSERT OR REPLACE INTO teams VALUES (?, ?)", (team.name, encode(team)))
                _note(connection, "team", team.name)
            for user in users:
                _insert_user(connection, user)
            for key in keys:
                _put_key(connection, key)
        self._changed()

    def keys(self, *, user: str | None = None, team: str | None = None) -> Sequence[Key]:
        """Oldest first."""
        return self._keys("(?1 IS NULL OR user = ?1) AND (?2 IS NULL OR team = ?2)", (user, team))

    def find_key(self, id_or_display: str) -> Key:
        """By id, or by what is displayed of it where that is only one key's. Raises NotFound."""
        found = self._keys("id = ?1 OR display = ?1", (id_or_display,))
        if not found:
            raise NotFound(f"there is no key {id_or_display!r}")
        if len(found) > 1:
            raise NotFound(f"{len(found)} keys are displayed as {id_or_display!r}; name one by its id")
        return found[0]

    def _keys(self, where: str, arguments: Sequence[Any]) -> list[Key]:
        rows = self._database.read(
            f"SELECT body, at FROM keys LEFT JOIN key_use USING (id) WHERE {where} ORDER BY keys.rowid",  # noqa: S608  (our own names)
            arguments,
        )
        return [_with_use(_key(body), at) for body, at in rows]

    # -- users -------------------------------------------------------------------------------------

    def put_user(self, user: User, *, new: bool = False) -> None:
        """Add or replace. `new`: raises Duplicate where one exists."""
        with self._database.change() as connection:
            if new and _exists(connection, "users", user.name):
                raise Duplicate(f"the user {user.name!r} exists already")
            _insert_user(connection, user)
        self._changed()

    def users(self) -> Sequence[User]:
        return self._all("users", User)

    def remove_user(self, name: str) -> None:
        """The user's keys are revoked with it. Raises NotFound."""
        now = self._clock()
        with self._database.change() as connection:
            _delete(connection, "user", name)
            for (body,) in connection.execute("SELECT body FROM keys WHERE user = ?", (name,)).fetchall():
                key = _key(body)
                if key.revoked_at is None:
                    revoked = encode(replace(key, revoked_at=now))
                    connection.execute("UPDATE keys SET body = ? WHERE id = ?", (revoked, key.id))
                    _note(connection, "key", key.id)
        self._changed()

    # -- teams -------------------------------------------------------------------------------------

    def put_team(self, team: Team, *, new: bool = False) -> None:
        """Add or replace. `new`: raises Duplicate where one exists."""
        self._put("team", team.name, encode(team), new=new)

    def teams(self) -> Sequence[Team]:
        return self._all("teams", Team)

    def remove_team(self, name: str) -> None:
        """Raises NotFound, and InUse while a key or user is of the team: alone they might be allowed more."""
        with self._database.change() as connection:
            members = sum(
                connection.execute(f"SELECT count(*) FROM {table} WHERE team = ?", (name,)).fetchone()[0]  # noqa: S608  (our own names)
                for table in ("users", "keys")
            )
            if members and _exists(connection, "teams", name):
                raise InUse(f"{members} users or keys belong to the team {name!r}; move or remove them first")
            _delete(connection, "team", name)
        self._changed()

    # -- models ------------------------------------------------------------------------------------

    def put_model(self, model: Model, *, new: bool = False) -> None:
        """Add or replace. `new`: raises Duplicate where one exists."""
        self._put("model", model.name, encode(model), new=new)

    def models(self) -> Sequence[Model]:
        return self._all("models", Model)

    def remove_model(self, name: str) -> None:
        """Raises NotFound."""
        with self._database.change() as connection:
            _delete(connection, "model", name)
        self._changed()

    # -- overrides and grants ----------------------------------------------------------------------

    def add_adjustment(self, adjustment: Adjustment) -> None:
        """Raises Duplicate."""
        with self._database.change() as connection:
            try:
                connection.execute(
                    "INSERT INTO adjustments VALUES (?, ?, ?)",
                    (adjustment.id, adjustment.policy, encode(adjustment)),
                )
            except sqlite3.IntegrityError as error:
                raise Duplicate(f"the adjustment {adjustment.id!r} exists already") from error
            _note(connection, "adjustment", adjustment.policy)
        self._changed()

    def adjustments(self) -> Sequence[Adjustment]:
        return self._all("adjustments", Adjustment, "rowid")

    def remove_adjustment(self, id: str) -> None:
        """Raises NotFound."""
        with self._database.change() as connection:
            row = connection.execute("SELECT policy FROM adjustments WHERE id = ?", (id,)).fetchone()
            if row is None:
                raise NotFound(f"there is no adjustment {id!r}")
            connection.execute("DELETE FROM adjustments WHERE id = ?", (id,))
            _note(connection, "adjustment", row[0])
        self._changed()

    # -- counters ----------------------------------------------------------------------------------

    def counter_levels(self, prefix: str = "") -> Mapping[str, bytes]:
        """Counters by key as they were last committed, for `authz.store.levels.level_of`."""
        if self._levels is not None:
            return self._levels(prefix)
        counters = self._database.read(
            "SELECT key, state FROM counters WHERE substr(key, 1, length(?1)) = ?1", (prefix,)
        )
        reservations = self._database.read("SELECT id, body FROM reservations")
        return standings(dict(counters), dict(reservations), prefix)

    # -- common ------------------------------------------------------------------------------------

    def _put(self, kind: str, name: str, body: bytes, *, new: bool) -> None:
        with self._database.change() as connection:
            if new and _exists(connection, f"{kind}s", name):
                raise Duplicate(f"the {kind} {name!r} exists already")
            connection.execute(f"INSERT OR REPLACE INTO {kind}s VALUES (?, ?)", (name, body))  # noqa: S608  (our own names)
            _note(connection, kind, name)
        self._changed()

    def _all(self, table: str, type: type[Record], order: str = "name") -> list[Record]:
        rows = self._database.read(f"SELECT body FROM {table} ORDER BY {order}")  # noqa: S608  (our own names)
        read = reader(type)
        return [read(body) for (body,) in rows]


def _with_use(key: Key, at: int | None) -> Key:
    return key if at is None else replace(key, last_used_at=at)


def _exists(connection: sqlite3.Connection, table: str, name: str) -> bool:
    return connection.execute(f"SELECT 1 FROM {table} WHERE name = ?", (name,)).fetchone() is not None  # noqa: S608  (our own names)


def _insert_user(connection: sqlite3.Connection, user: User) -> None:
    connection.execute("INSERT OR REPLACE INTO users VALUES (?, ?, ?)", (user.name, user.team, encode(user)))
    _note(connection, "user", user.name)


def _put_key(connection: sqlite3.Connection, key: Key) -> None:
    """Of several keys at once: the user is there."""
    try:
        put = connection.execute(
            "INSERT INTO keys VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (id) DO UPDATE"
            " SET display = ?3, user = ?4, team = ?5, body = ?6 WHERE digest = ?2",
            (key.id, key.digest, key.display, key.user, key.team, encode(key)),
        )
    except sqlite3.IntegrityError as error:
        raise Duplicate(f"the key {key.display!r} is in the store already") from error
    if put.rowcount == 0:
        raise Duplicate(f"the id of the key {key.display!r} is another key's")
    _note(connection, "key", key.id)


def _delete(connection: sqlite3.Connection, kind: str, name: str) -> None:
    gone = connection.execute(f"DELETE FROM {kind}s WHERE name = ?", (name,))  # noqa: S608  (our own names)
    if gone.rowcount == 0:
        raise NotFound(f"there is no {kind} {name!r}")
    _note(connection, kind, name)


def _note(connection: sqlite3.Connection, kind: str, name: str) -> None:
    connection.execute("INSERT INTO changes (kind, name) VALUES (?, ?)", (kind, name))
