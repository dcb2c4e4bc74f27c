"""What an import would make, compared with what the store has; and making it.

Nothing is ever loosened by accident: whatever was restricted in a way that cannot be said here is left out
unless that is accepted, and what the store holds already is left as it is unless an update is asked for.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from authz.store.protocols import Registry
from authz.store.records import Key, Team, User

Record = Key | User | Team

_SPOKEN: Final = {"quotas": "limits", "expires_at": "expiry"}


class Action(StrEnum):
    """What an import does with a row."""

    NEW = "new"
    CHANGED = "changed"  # the store has another version, which is replaced
    SAME = "same"
    DIFFERS = "differs"  # the store has another version, which stays
    SKIPPED = "skipped"


class Found(Struct, frozen=True, kw_only=True):
    """A row of an export as it would be here."""

    place: str
    record: Record
    told: tuple[str, ...]  # the fields that the export tells; the others are left as they are
    lost: tuple[str, ...] = ()  # restrictions that cannot be said here: without them more would be allowed
    notes: tuple[str, ...] = ()  # what else is different from before
    skip: str = ""  # why it is not taken over at all


class Step(Struct, frozen=True, kw_only=True):
    """What is done with a row, and why."""

    action: Action
    record: Record
    place: str
    why: tuple[str, ...] = ()


class Plan(Struct, frozen=True, kw_only=True):
    """Every row once, in the order in which they are made."""

    steps: tuple[Step, ...]

    def of(self, kind: type[Record]) -> list[Record]:
        """The records of a kind that the import writes."""
        written = (Action.NEW, Action.CHANGED)
        return [
            step.record for step in self.steps if step.action in written and isinstance(step.record, kind)
        ]


def make_plan(found: Sequence[Found], registry: Registry, *, now: int, update: bool, looser: bool) -> Plan:
    """Compare with the store. `looser` accepts that restrictions are lost, `update` that records change."""
    there: dict[object, Record] = {identity(each): each for each in registry.teams()}
    there.update((identity(each), each) for each in registry.users())
    there.update((identity(each), each) for each in list(registry.keys()))
    steps: list[Step] = []
    skipped: set[object] = set()
    for each in found:
        step = _step(each, there.get(identity(each.record)), skipped, now, update=update, looser=looser)
        if step.action is Action.SKIPPED:
            skipped.add(identity(each.record))
        steps.append(step)
    return Plan(steps=tuple(steps))


def apply(plan: Plan, registry: Registry) -> None:
    """Write what the plan says: all of it, or nothing."""
    teams = [each for each in plan.of(Team) if isinstance(each, Team)]
    users = [each for each in plan.of(User) if isinstance(each, User)]
    keys = [each for each in plan.of(Key) if isinstance(each, Key)]
    if teams or users or keys:
        registry.put_together(teams=teams, users=users, keys=keys)


def identity(record: Record) -> object:
    """What makes it the same record: a key's hash, a name."""
    return (type(record), record.digest if isinstance(record, Key) else record.name)


def _step(
    found: Found, before: Record | None, skipped: set[object], now: int, *, update: bool, looser: bool
) -> Step:
    record, place = found.record, found.place
    why = _obstacles(found, skipped, now, absent=before is None, looser=looser)
    if why:
        return Step(action=Action.SKIPPED, record=record, place=place, why=why)
    notes = (*(f"allowed more than before: {each}" for each in found.lost), *found.notes)
    if before is None:
        return Step(action=Action.NEW, record=record, place=place, why=notes)
    merged = _merged(before, record, found.told)
    if merged == before:
        return Step(action=Action.SAME, record=before, place=place, why=notes)
    fields = f"changes {', '.join(_differences(before, merged))}"
    if update:
        return Step(action=Action.CHANGED, record=merged, place=place, why=(fields, *notes))
    told = f"{fields}: left as it is in the store; --update changes it"
    return Step(action=Action.DIFFERS, record=before, place=place, why=(told, *notes))


def _obstacles(
    found: Found, skipped: set[object], now: int, *, absent: bool, looser: bool
) -> tuple[str, ...]:
    """Why a row is left out; nothing if it is not."""
    if found.skip:
        return (found.skip,)
    record = found.record
    if found.lost and not looser:
        return (*(f"would be allowed more: {each}" for each in found.lost), "--accept-looser takes it over")
    if isinstance(record, Key):
        if (User, record.user) in skipped:
            return (f"its user {record.user!r} is skipped",)
        if (Team, record.team) in skipped:
            return (f"its team {record.team!r} is skipped",)
        if absent and record.expires_at is not None and record.expires_at <= now:
            return ("it has expired",)
    return ()


def _merged(before: Record, wanted: Record, told: Sequence[str]) -> Record:
    """What the store has, with what the export says. A revoked key stays revoked."""
    changes = {name: getattr(wanted, name) for name in told}
    if isinstance(before, Key) and isinstance(wanted, Key):
        changes["revoked_at"] = before.revoked_at or wanted.revoked_at
    return replace(before, **changes)


def _differences(before: Record, after: Record) -> Iterable[str]:
    old, new = msgspec.structs.asdict(before), msgspec.structs.asdict(after)
    for name in new:
        if old[name] != new[name]:
            yield "revokes" if name == "revoked_at" else _SPOKEN.get(name, name)
