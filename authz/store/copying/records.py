"""Keys, users, teams, models, overrides and grants: as they are in one store, so in the other."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from authz.store.protocols import Registry
from authz.store.records import Adjustment, Key, Model, Team, User

TOGETHER = 500  # records in one change

Record = TypeVar("Record", Key, User, Team, Model, Adjustment)


class Records:
    """Copies again what has changed since the last time, and takes away what it brought and is gone."""

    def __init__(self, source: Registry, target: Registry) -> None:
        self._source = source
        self._target = target
        self._users: Mapping[str, User] = {}
        self._teams: Mapping[str, Team] = {}
        self._models: Mapping[str, Model] = {}
        self._adjustments: Mapping[str, Adjustment] = {}

    def copy(self) -> None:
        source, target = self._source, self._target
        keys = {key.id: key for key in source.keys()}  # noqa: SIM118  (no dict)
        users, teams, models = _named(source.users()), _named(source.teams()), _named(source.models())
        adjustments = {each.id: each for each in source.adjustments()}
        for name in self._adjustments.keys() - adjustments.keys():
            target.remove_adjustment(name)
        for name in self._models.keys() - models.keys():
            target.remove_model(name)
        for name in self._users.keys() - users.keys():
            target.remove_user(name)
        self._put(teams, users, keys)
        for name in self._teams.keys() - teams.keys():
            target.remove_team(name)
        self._put_rest(models, adjustments)
        self._users, self._teams, self._models, self._adjustments = users, teams, models, adjustments

    def _put(self, teams: Mapping[str, Team], users: Mapping[str, User], keys: Mapping[str, Key]) -> None:
        target = self._target
        for some_teams in _pieces(_changed(teams, _named(target.teams()))):
            target.put_together(teams=some_teams, users=(), keys=())
        for some_users in _pieces(_changed(users, _named(target.users()))):
            target.put_together(teams=(), users=some_users, keys=())
        there = {key.id: key for key in target.keys()}  # noqa: SIM118
        for some_keys in _pieces(_changed(keys, there)):
            target.put_together(teams=(), users=(), keys=some_keys)

    def _put_rest(self, models: Mapping[str, Model], adjustments: Mapping[str, Adjustment]) -> None:
        target = self._target
        for model in _changed(models, _named(target.models())):
            target.put_model(model)
        there = {each.id: each for each in target.adjustments()}
        for adjustment in _changed(adjustments, there):
            if adjustment.id in there:
                target.remove_adjustment(adjustment.id)
            target.add_adjustment(adjustment)


Named = TypeVar("Named", User, Team, Model)


def _named(records: Sequence[Named]) -> dict[str, Named]:
    return {each.name: each for each in records}


def _changed(wanted: Mapping[str, Record], there: Mapping[str, Record]) -> list[Record]:
    return [each for name, each in wanted.items() if there.get(name) != each]


def _pieces(records: Sequence[Record]) -> list[Sequence[Record]]:
    return [records[begin : begin + TOGETHER] for begin in range(0, len(records), TOGETHER)]
