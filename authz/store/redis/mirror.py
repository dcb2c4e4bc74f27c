"""The records in memory: dictionaries, in which a record is replaced whole."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from operator import itemgetter
from threading import Lock

from authz.store.records import Adjustment, Key, Model, Team, User
from authz.store.redis import kept
from authz.store.redis.kept import Kind

Partition = tuple[tuple[str, str], ...]
Adjustments = Mapping[Partition, Sequence[Adjustment]]

Found = tuple[Kind, str, bytes | None]
"""A record as it stands in Redis: its kind, its name, its body; None: it is gone."""


_REVISIONS = count(1)  # no two mirrors have the same


class Mirror:
    """What was read, as of `seen`: the id of the latest note of a change that is in it; None: of none.

    Any thread may `advance` it, and look-ups never see a half of a record.
    """

    def __init__(self, seen: bytes | None) -> None:
        self.seen = seen
        self.revision = next(_REVISIONS)
        self._advancing = Lock()
        self.keys: dict[bytes, Key] = {}
        self.users: dict[str, User] = {}
        self.teams: dict[str, Team] = {}
        self.models: Mapping[str, Model] = {}
        self.adjustments: dict[str, Adjustments] = {}
        self._given: dict[str, dict[str, tuple[int, Adjustment]]] = {}  # by policy and id
        self._policies: dict[str, str] = {}  # of an adjustment's id

    def advance(self, since: bytes | None, seen: bytes, found: Iterable[Found]) -> bool:
        """Take over what was read after the note `seen`, by one who had read what was after `since`.

        False, and nothing is taken over, where another was faster: what it read may be newer.
        """
        with self._advancing:
            if self.seen != since:
                return False
            self.put(found)
            self.seen = seen
            return True

    def skip_to(self, seen: bytes | None) -> None:
        """What was noted up to here is never taken over."""
        with self._advancing:
            self.seen = seen

    def put(self, found: Iterable[Found]) -> None:
        """Raises StoreUnavailable for a record that cannot be read."""
        try:
            self._put(found)
        finally:
            self.revision = next(_REVISIONS)

    def _put(self, found: Iterable[Found]) -> None:
        models, policies = None, set()
        for kind, name, body in found:
            match kind:
                case "key":
                    if body is not None:  # keys are never dropped, only revoked
                        _, key = kept.unnumbered(body, kept.read_key)
                        self.keys[key.digest] = key
                case "user":
                    _put(self.users, name, None if body is None else kept.read_user(body))
                case "team":
                    _put(self.teams, name, None if body is None else kept.read_team(body))
                case "model":
                    models = dict(self.models) if models is None else models
                    _put(models, name, None if body is None else kept.read_model(body))
                case "adjustment":
                    policies |= self._give(name, body)
        if models is not None:
            self.models = models
        for policy in policies:
            self.adjustments[policy] = by_partition(
                each for _, each in sorted(self._given[policy].values(), key=itemgetter(0))
            )

    def _give(self, id: str, body: bytes | None) -> set[str]:
        """The policies that it is, or was, a change of."""
        touched = set()
        if id in self._policies:
            policy = self._policies.pop(id)
            del self._given[policy][id]
            touched.add(policy)
        if body is not None:
            number, adjustment = kept.unnumbered(body, kept.read_adjustment)
            self._given.setdefault(adjustment.policy, {})[id] = (number, adjustment)
            self._policies[id] = adjustment.policy
            touched.add(adjustment.policy)
        return touched


def _put(records: dict[str, kept.Record], name: str, record: kept.Record | None) -> None:
    if record is None:
        records.pop(name, None)
    else:
        records[name] = record


def by_partition(given: Iterable[Adjustment]) -> Adjustments:
    """In each partition as they come."""
    found: dict[Partition, list[Adjustment]] = {}
    for adjustment in given:
        found.setdefault(adjustment.partition, []).append(adjustment)
    return found
