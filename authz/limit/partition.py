"""Whom a policy counts apart: the dimensions of `partition_by`, and the names of counters."""

from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import Literal

from authz.authenticate.presented import Slot, Twice
from authz.limit.spending import Spending

Partition = tuple[tuple[str, str], ...]
"""(dimension, value) in the order of `partition_by`."""

Reader = Callable[[Spending], str]

LONGEST_VALUE = 256  # characters of what a client chooses


def counter_key(policy: str, partition: Partition) -> str:
    """Names a counter. Lengths keep `a:b` + `c` apart from `a` + `b:c` (attack 83)."""
    return policy + "".join([f"|{len(value)}:{value}" for _, value in partition])


def read_key(policy: str, dimensions: Sequence[str], counter: str) -> Partition | None:
    """What `counter_key` was made of; None where the counter is not the policy's as it is now."""
    rest, values = counter.removeprefix(policy), []
    while rest:
        length, colon, behind = rest.removeprefix("|").partition(":")
        if rest[0] != "|" or not colon or not length.isdecimal():
            return None
        values.append(behind[: int(length)])
        rest = behind[int(length) :]
    if len(values) != len(dimensions) or not counter.startswith(policy):
        return None
    return tuple(zip(dimensions, values, strict=True))


def spell(partition: Partition) -> str:
    """For a person: `team=nlp, model=llama3`."""
    return ", ".join(f"{dimension}={value}" for dimension, value in partition)


Values = str | tuple[str, ...]
"""What a policy's dimensions are in one request: of most policies one, which stands by itself."""


def reader_of(dimensions: Sequence[str]) -> Callable[[Spending], Values]:
    """Reads the values of all dimensions of a policy."""
    readers = readers_of(dimensions)
    if len(readers) == 1:
        return readers[0]
    return lambda spending: tuple([read(spending) for read in readers])


def partition_of(dimensions: Sequence[str], values: Values) -> Partition:
    """The values with their dimensions."""
    return tuple(zip(dimensions, (values,) if isinstance(values, str) else values, strict=True))


def owner_reader(dimensions: Sequence[str]) -> Reader | None:
    """Whose the counters of a policy are (`Hold.owner`); None where its partitions say it."""
    if "team" in dimensions:
        return None
    if "user" in dimensions:
        return lambda spending: spending.subject.owner
    if "key" in dimensions:
        return lambda spending: spending.subject.key_owner
    return None


def owner_of(partition: Partition) -> str:
    """Whose a counter is, as far as its partition says it: a team's, or a user's without one."""
    team = next((value for dimension, value in partition if dimension == "team"), "")
    return f"team:{team}" if team and not team.startswith(_USER) else team


def readers_of(dimensions: Sequence[str]) -> tuple[Reader, ...]:
    """One reader per dimension of a policy."""
    return tuple(_READERS.get(dimension) or _named(*dimension.split(":", 1)) for dimension in dimensions)


_USER = "user:"


def _key(spending: Spending) -> str:
    # A caller without a key of ours is told apart by its user; so is one without a team.
    # No name of a team and no id of a key begins with `user:`, so neither is somebody's `user:NAME`.
    return spending.subject.key or _USER + spending.subject.user


def _team(spending: Spending) -> str:
    return spending.subject.team or _USER + spending.subject.user


def _prefix(spending: Spending) -> str:
    """/24 of an IPv4 address, /64 of an IPv6 one: what one customer usually holds."""
    if spending.request.ip is None:
        return ""
    address = ip_address(spending.request.ip)
    return str(ip_network((address, 24 if address.version == 4 else 64), strict=False))


_READERS: dict[str, Reader] = {
    "key": _key,
    "user": lambda spending: spending.subject.user,
    "team": _team,
    "model": lambda spending: spending.model or "",
    "route": lambda spending: spending.route,
    "method": lambda spending: spending.target.method,
    "path": lambda spending: spending.target.path[:LONGEST_VALUE],
    "ip": lambda spending: spending.request.ip or "",
    "ip_prefix": _prefix,
}


def _named(kind: str, name: str) -> Reader:
    """`header:x`, `query:x`, `cookie:x` or `claim:x`."""
    if kind == "claim":
        return lambda spending: _claim(spending, name)
    assert kind in ("header", "query", "cookie"), kind
    dimension = f"{kind}:{name}"

    def read(spending: Spending) -> str:
        try:
            return sent(dimension, spending)
        except Twice:
            return ""

    return read


def sent(dimension: str, spending: Spending) -> str:
    """What the client sent as `header:x`, `query:x` or `cookie:x`, as far as it counts. Raises Twice."""
    kind, _, name = dimension.partition(":")
    slot_kind: Literal["header", "query", "cookie"] = kind  # type: ignore[assignment]  # no other is written so
    return (spending.presented.read(Slot(slot_kind, name)) or "")[:LONGEST_VALUE]


def _claim(spending: Spending, name: str) -> str:
    return spell_claim(claim(spending.subject.claims, name))


def claim(claims: Mapping[str, object], name: str) -> object:
    """A claim by its name, nested ones joined by dots; None where there is none."""
    value: object = claims
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def spell_claim(value: object) -> str:
    """Text, numbers, true and false; empty for anything else."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)[:LONGEST_VALUE] if isinstance(value, str | int) else ""
