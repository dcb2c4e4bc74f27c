"""The records in memory, kept up with what any process writes to the database."""

from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any, Literal

from authz.store.records import Adjustment, Key, Model, Team, User
from authz.store.sqlite.database import Database
from authz.store.sqlite.reading import reader

Partition = tuple[tuple[str, str], ...]
Adjustments = Mapping[Partition, Sequence[Adjustment]]
_NONE: Adjustments = {}

NOTES_KEPT = 100_000  # older notes of changes are dropped; who is further behind loads everything

_key = reader(Key)
_user = reader(User)
_team = reader(Team)
_model = reader(Model)
_adjustment = reader(Adjustment)


class MirrorDirectory:
    """Look-ups in dictionaries; `follow` applies the changes since the last look.

    Each record is replaced whole, so a look-up on the event loop never sees a
    half of one while another thread follows.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = Lock()
        self._version = -1
        self._seen = 0
        self._revision = 0
        self._keys: dict[bytes, Key] = {}
        self._users: dict[str, User] = {}
        self._teams: dict[str, Team] = {}
        self._models: Mapping[str, Model] = {}
        self._adjustments: dict[str, Adjustments] = {}
        self._used: dict[str, int] = {}
        self.load()

    def revision(self) -> int:
        return self._revision

    def key(self, digest: bytes) -> Key | None:
        return self._keys.get(digest)

    def user(self, name: str) -> User | None:
        return self._users.get(name)

    def team(self, name: str) -> Team | None:
        return self._teams.get(name)

    def models(self) -> Mapping[str, Model]:
        return self._models

    def adjustments(self, policy: str) -> Adjustments:
        return self._adjustments.get(policy, _NONE)

    def used(self, key_id: str, at: int) -> None:
        self._used[key_id] = at

    def take_used(self) -> dict[str, int]:
        """When keys were last used, since the last call."""
        used, self._used = self._used, {}
        return used

    def load(self) -> None:
        """Read everything anew."""
        with self._lock:
            read = self._database.read
            # The number of the last note first: what is changed meanwhile is read twice, never missed.
            self._seen = self._last_note()
            self._keys = {
                key.digest: key for key in (_key(body) for (body,) in read("SELECT body FROM keys"))
            }
            self._users = {
                user.name: user for user in (_user(body) for (body,) in read("SELECT body FROM users"))
            }
            self._teams = {
                team.name: team for team in (_team(body) for (body,) in read("SELECT body FROM teams"))
            }
            self._models = _models(self._database)
            policies = read("SELECT DISTINCT policy FROM adjustments")
            self._adjustments = {policy: _adjustments(self._database, policy) for (policy,) in policies}
            self._revision += 1  # after what it tells of: kept too long by nobody

    def poll(self) -> None:
        """`follow`, if anybody committed anything (PRAGMA data_version)."""
        version = self._database.one("PRAGMA data_version")
        if version != self._version:
            self.follow()
            self._version = version  # only now: what could not be read is read at the next look

    def follow(self) -> None:
        """Apply what was changed since the last look."""
        with self._lock:
            rows = self._database.read(
                "SELECT seq, kind, name FROM changes WHERE seq > ? ORDER BY seq", (self._seen,)
            )
            complete = not rows or rows[0][0] == self._seen + 1
            if complete:
                for kind, name in dict.fromkeys((kind, name) for _, kind, name in rows):
                    self._replace(kind, name)
                    self._revision += 1
                if rows:
                    self._seen = rows[-1][0]
        if not complete:
            self.load()

    def _last_note(self) -> int:
        return self._database.one("SELECT seq FROM sqlite_sequence WHERE name = 'changes'") or 0

    def _replace(self, kind: Literal["key", "user", "team", "model", "adjustment"], name: str) -> None:
        one = self._database.one
        match kind:
            case "key":
                body = one("SELECT body FROM keys WHERE id = ?", (name,))
                if body is not None:
                    key = _key(body)
                    self._keys[key.digest] = key
            case "user":
                _put(self._users, name, one("SELECT body FROM users WHERE name = ?", (name,)), _user)
            case "team":
                _put(self._teams, name, one("SELECT body FROM teams WHERE name = ?", (name,)), _team)
            case "model":
                self._models = _models(self._database)
            case "adjustment":
                self._adjustments[name] = _adjustments(self._database, name)


def _put(records: dict[str, Any], name: str, body: bytes | None, decode: Any) -> None:
    if body is None:
        records.pop(name, None)
    else:
        records[name] = decode(body)


def _models(database: Database) -> Mapping[str, Model]:
    return {
        model.name: model for model in (_model(body) for (body,) in database.read("SELECT body FROM models"))
    }


def _adjustments(database: Database, policy: str) -> Adjustments:
    found: dict[Partition, list[Adjustment]] = {}
    for (body,) in database.read("SELECT body FROM adjustments WHERE policy = ? ORDER BY rowid", (policy,)):
        adjustment = _adjustment(body)
        found.setdefault(adjustment.partition, []).append(adjustment)
    return found


class QueryDirectory:
    """Look-ups straight in the database: for a command, which asks once and ends."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._asked = 0

    def revision(self) -> int:
        self._asked += 1  # who knows what others changed
        return self._asked

    def key(self, digest: bytes) -> Key | None:
        body = self._database.one("SELECT body FROM keys WHERE digest = ?", (digest,))
        return None if body is None else _key(body)

    def user(self, name: str) -> User | None:
        body = self._database.one("SELECT body FROM users WHERE name = ?", (name,))
        return None if body is None else _user(body)

    def team(self, name: str) -> Team | None:
        body = self._database.one("SELECT body FROM teams WHERE name = ?", (name,))
        return None if body is None else _team(body)

    def models(self) -> Mapping[str, Model]:
        return _models(self._database)

    def adjustments(self, policy: str) -> Adjustments:
        return _adjustments(self._database, policy)

    def used(self, key_id: str, at: int) -> None:
        """A command that explains a decision uses no key."""
