"""What a key, its user and its team add up to."""

from authz.quota import OwnedQuotas
from authz.store.records import Key, Team, User


def models(key: Key | None, user: User | None, team: Team | None) -> frozenset[str] | None:
    """The nearest model list: key, user, team. None inherits, an empty list is a list."""
    for owner in (key, user, team):
        if owner is not None and owner.models is not None:
            return owner.models
    return None


def quotas(key: Key | None, user: User | None, team: Team | None) -> tuple[OwnedQuotas, ...]:
    """The quotas of each owner that has any. They add; none replaces another."""
    owned = []
    if key is not None and key.quotas:
        owned.append(OwnedQuotas(kind="key", owner=key.id, home=home(user), quotas=key.quotas))
    if user is not None and user.quotas:
        owned.append(OwnedQuotas(kind="user", owner=user.name, home=home(user), quotas=user.quotas))
    if team is not None and team.quotas:
        owned.append(OwnedQuotas(kind="team", owner=team.name, home=f"team:{team.name}", quotas=team.quotas))
    return tuple(owned)


def home(user: User | None) -> str:
    """Where a user's counters are, and those of its keys: see `Subject.home`.

    By the record alone. A key or token that names another team moves none of them, or the user would
    count anew there.
    """
    if user is None:
        return ""
    return f"team:{user.team}" if user.team else f"user:{user.name}"
