"""Whose a counter is, told from its name and the config: a Cluster keeps what has one owner together."""

from collections.abc import Callable

from authz.authenticate.inheritance import home
from authz.config import Config
from authz.limit.partition import owner_of, read_key
from authz.limit.policy import BESIDE
from authz.store.protocols import Registry

_USER = "user:"


def owners(config: Config, registry: Registry) -> Callable[[str], str]:
    """As `authz.limit.plan` has it of a running request. Empty: nobody's, or of a limit that is gone."""
    users = {user.name: user for user in registry.users()}
    keys = {key.id: key.user for key in registry.keys()}  # noqa: SIM118  (no dict)

    def of_user(name: str) -> str:
        return home(users.get(name)) or f"{_USER}{name}"

    def owner(counter: str) -> str:
        name = counter.partition("|")[0]
        limit = config.limits.get(name.removesuffix(BESIDE))
        kind = name.partition(":")[0]  # a limit of one key, user or team: `key:tokens=1000/day`
        partition = read_key(name, (kind,) if limit is None else tuple(limit.partition_by), counter)
        if partition is None:
            return ""
        values = dict(partition)
        if "team" in values:
            return owner_of(partition)
        if "user" in values:
            return of_user(values["user"]) if limit is not None else home(users.get(values["user"]))
        if "key" not in values:
            return ""
        key = values["key"]
        user = key.removeprefix(_USER) if key.startswith(_USER) else keys.get(key, "")
        return of_user(user) if limit is not None else home(users.get(user))

    return owner
