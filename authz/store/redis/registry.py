"""Changes to the records, in force when they return. Each leaves a note for the directories that follow."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from authz.store.protocols import Clock, Duplicate, InUse, NotFound
from authz.store.records import Adjustment, Key, Model, Team, User
from authz.store.redis import kept
from authz.store.redis.changes import Change, commit
from authz.store.redis.failures import explained
from authz.store.redis.kept import Kind
from authz.store.redis.key_changes import Keys
from authz.store.redis.large import steady
from authz.store.redis.pages import every, fetch, members


class RedisRegistry:
    """Records in Redis. Synchronous: for a command or a worker thread.

    `client` is of redis-py, synchronous and without decoding. `changed` is called after every change, so
    that the same process sees it at once. `levels` answers for counters.
    """

    def __init__(
        self,
        client: Any,
        clock: Clock,
        changed: Callable[[], None] | None = None,
        levels: Callable[[str], Mapping[str, bytes]] | None = None,
    ) -> None:
        self._client = client
        self._clock = clock
        self._changed = changed or (lambda: None)
        self._levels = levels or (lambda prefix: {})

    # -- keys --------------------------------------------------------------------------------------

    def add_key(self, key: Key, *, create_user: bool = True) -> None:
        """Raises Duplicate for an id or key that is there, NotFound for a user that may not be made."""

        def plan(change: Change) -> None:
            if not self._exists(kept.USERS, key.user):
                if not create_user:
                    raise NotFound(f"there is no user {key.user!r}; create it first")
                user = User(name=key.user, team=key.team, created_at=key.created_at)
                self._user(change, None, user)
            Keys(self._client, change, [key]).add(key)

        self._change(plan)

    def put_key(self, key: Key) -> None:
        """Replace what is known of a key. Raises NotFound; a digest never changes."""
        self._change(lambda change: Keys(self._client, change, [key]).replace(key))

    def put_together(self, *, teams: Sequence[Team], users: Sequence[User], keys: Sequence[Key]) -> None:
        """Add or replace all of them, or none. Raises Duplicate for a key whose id or hash is another's."""

        def plan(change: Change) -> None:
            for team in teams:
                _put(change, "team", team.name, kept.encode(team))
            before = fetch(self._client, kept.USERS, [user.name for user in users])
            for user in users:
                body = before.get(user.name)
                self._user(change, None if body is None else kept.read_user(body), user)
                before[user.name] = kept.encode(user).encode()
            known = Keys(self._client, change, keys)
            for key in keys:
                known.put(key)

        self._change(plan)

    @steady
    def keys(self, *, user: str | None = None, team: str | None = None) -> Sequence[Key]:
        """Oldest first."""
        ids = None
        if user is not None:
            ids = members(self._client, kept.KEYS_BY_USER, user)
        elif team is not None:
            ids = members(self._client, kept.KEYS_BY_TEAM, team)
        return self._keys(ids, lambda key: user in (None, key.user) and team in (None, key.team))

    @steady
    def find_key(self, id_or_display: str) -> Key:
        """By id, or by what is displayed of it where that is only one key's. Raises NotFound."""
        ids = [id_or_display, *members(self._client, kept.DISPLAYS, id_or_display)]
        found = self._keys(ids, lambda key: id_or_display in (key.id, key.display))
        if not found:
            raise NotFound(f"there is no key {id_or_display!r}")
        if len(found) > 1:
            raise NotFound(f"{len(found)} keys are displayed as {id_or_display!r}; name one by its id")
        return found[0]

    def _keys(self, ids: Sequence[str] | None, wanted: Callable[[Key], bool]) -> list[Key]:
        """Those of the ids, or all."""
        bodies = every(self._client, kept.KEYS) if ids is None else fetch(self._client, kept.KEYS, ids)
        keys = [key for key in kept.in_order(bodies.values(), kept.read_key) if wanted(key)]
        used = fetch(self._client, kept.KEY_USE, [key.id for key in keys])
        return [replace(key, last_used_at=int(used[key.id])) if key.id in used else key for key in keys]

    # -- users -------------------------------------------------------------------------------------

    def put_user(self, user: User, *, new: bool = False) -> None:
        """Add or replace. `new`: raises Duplicate where one exists."""

        def plan(change: Change) -> None:
            body = self._client.hget(kept.USERS, user.name)
            if new and body is not None:
                raise Duplicate(f"the user {user.name!r} exists already")
            self._user(change, None if body is None else kept.read_user(body), user)

        self._change(plan)

    def users(self) -> Sequence[User]:
        return self._all(kept.USERS, kept.read_user)

    def remove_user(self, name: str) -> None:
        """The user's keys are revoked with it. Raises NotFound."""
        now = self._clock()

        def plan(change: Change) -> None:
            body = self._client.hget(kept.USERS, name)
            if body is None:
                raise NotFound(f"there is no user {name!r}")
            self._user(change, kept.read_user(body), None)
            keys = Keys(self._client, change, (), ids=members(self._client, kept.KEYS_BY_USER, name))
            for key in keys.known:
                if key.revoked_at is None:
                    keys.replace(replace(key, revoked_at=now))

        self._change(plan)

    def _user(self, change: Change, before: User | None, user: User | None) -> None:
        for each, there in ((before, False), (user, True)):
            if each is not None and each.team is not None:
                change.member(kept.USERS_BY_TEAM, kept.member(each.team, each.name), there=there)
        known = user or before
        if known is not None:
            _put(change, "user", known.name, None if user is None else kept.encode(user))

    # -- teams -------------------------------------------------------------------------------------

    def put_team(self, team: Team, *, new: bool = False) -> None:
        """Add or replace. `new`: raises Duplicate where one exists."""
        self._put("team", team.name, kept.encode(team), new=new)

    def teams(self) -> Sequence[Team]:
        return self._all(kept.TEAMS, kept.read_team)

    def remove_team(self, name: str) -> None:
        """Raises NotFound, and InUse while a key or user is of the team: alone they might be allowed more."""

        def plan(change: Change) -> None:
            if not self._exists(kept.TEAMS, name):
                raise NotFound(f"there is no team {name!r}")
            low, high = kept.of_owner(name)
            count = sum(
                self._client.zlexcount(place, low, high) for place in (kept.USERS_BY_TEAM, kept.KEYS_BY_TEAM)
            )
            if count:
                raise InUse(f"{count} users or keys belong to the team {name!r}; move or remove them first")
            _put(change, "team", name, None)

        self._change(plan)

    # -- models ------------------------------------------------------------------------------------

    def put_model(self, model: Model, *, new: bool = False) -> None:
        """Add or replace. `new`: raises Duplicate where one exists."""
        self._put("model", model.name, kept.encode(model), new=new)

    def models(self) -> Sequence[Model]:
        return self._all(kept.MODELS, kept.read_model)

    def remove_model(self, name: str) -> None:
        """Raises NotFound."""

        def plan(change: Change) -> None:
            if not self._exists(kept.MODELS, name):
                raise NotFound(f"there is no model {name!r}")
            _put(change, "model", name, None)

        self._change(plan)

    # -- overrides and grants ----------------------------------------------------------------------

    def add_adjustment(self, adjustment: Adjustment) -> None:
        """Raises Duplicate."""

        def plan(change: Change) -> None:
            if self._exists(kept.ADJUSTMENTS, adjustment.id):
                raise Duplicate(f"the adjustment {adjustment.id!r} exists already")
            number = int(self._client.get(kept.NUMBER) or 0) + 1
            change.value(kept.NUMBER, str(number))
            _put(change, "adjustment", adjustment.id, kept.numbered(number, adjustment))

        self._change(plan)

    @steady
    def adjustments(self) -> Sequence[Adjustment]:
        """Oldest first."""
        return kept.in_order(every(self._client, kept.ADJUSTMENTS).values(), kept.read_adjustment)

    def remove_adjustment(self, id: str) -> None:
        """Raises NotFound."""

        def plan(change: Change) -> None:
            if not self._exists(kept.ADJUSTMENTS, id):
                raise NotFound(f"there is no adjustment {id!r}")
            _put(change, "adjustment", id, None)

        self._change(plan)

    # -- counters ----------------------------------------------------------------------------------

    @explained()
    def counter_levels(self, prefix: str = "") -> Mapping[str, bytes]:
        """Counters by key as they stand, for `authz.store.levels.level_of`."""
        return self._levels(prefix)

    # -- common ------------------------------------------------------------------------------------

    def _change(self, plan: Callable[[Change], None]) -> None:
        commit(self._client, plan)
        self._changed()

    def _put(self, kind: Kind, name: str, body: str, *, new: bool) -> None:
        def plan(change: Change) -> None:
            if new and self._exists(kept.HASHES[kind], name):
                raise Duplicate(f"the {kind} {name!r} exists already")
            _put(change, kind, name, body)

        self._change(plan)

    def _exists(self, place: str, name: str) -> bool:
        return bool(self._client.hexists(place, name))

    @steady
    def _all(self, place: str, read: Callable[[bytes], kept.Record]) -> list[kept.Record]:
        """By name."""
        return [read(body) for _, body in sorted(every(self._client, place).items())]


def _put(change: Change, kind: Kind, name: str, body: str | None) -> None:
    change.field(kept.HASHES[kind], name, body)
    change.note(kind, name)
