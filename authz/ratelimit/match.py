"""Which limit a descriptor meets, and in which counter.

https://github.com/envoyproxy/ratelimit#examples (3, 4, 7 and 9 are about this)
"""

from collections.abc import Sequence
from hashlib import blake2b

from msgspec import Struct

from authz.ratelimit.limits import BY_NUMBER, Limit, Node, Rules

Entries = Sequence[tuple[str, str]]


class BadRequest(ValueError):
    """The request says nothing that could be answered. The message is for whoever configured the gateway."""


class Descriptor(Struct, frozen=True):
    """One descriptor of a request."""

    entries: Entries
    hits: int | None = None  # None: those of the request
    override: tuple[int, int] | None = None  # requests per unit, number of the unit


class Match(Struct, frozen=True):
    """A limit, and the values that it counts apart; of a shared threshold it is the wildcard."""

    limit: Limit
    counted: Entries


def match(domain: Node, descriptor: Descriptor) -> Match | None:
    """None: no limit is meant for it. Every entry must meet a level, and the last one a limit.

    An override in the request is the limit, whatever the files say. Raises BadRequest.
    """
    entries = descriptor.entries
    if descriptor.override is not None:
        requests, number = descriptor.override
        period = BY_NUMBER.get(number)
        if period is None:
            raise BadRequest("a limit override needs a unit")
        return Match(Limit(requests, period), entries)
    node, counted = domain, entries
    for index, (key, value) in enumerate(entries):
        found = node.child(key, value)
        if found is None:
            return None
        node = found
        if node.shared is not None:
            counted = [*counted]
            counted[index] = (key, node.shared)
    return Match(node.limit, counted) if node.limit is not None else None


def match_all(rules: Rules, domain: str, descriptors: Sequence[Descriptor]) -> list[Match | None]:
    """A match for each descriptor. What one of them replaces applies to none. Raises BadRequest."""
    root = rules.get(domain)
    if root is None:
        return [None] * len(descriptors)
    found = [match(root, descriptor) for descriptor in descriptors]
    replaced: set[str] = set()
    for each in found:
        if each is not None and each.limit.replaces:
            replaced |= each.limit.replaces
    if not replaced:
        return found
    return [each if each is None or not _is_replaced(each.limit, replaced) else None for each in found]


def _is_replaced(limit: Limit, replaced: set[str]) -> bool:
    return limit.period is not None and limit.name in replaced


def counter_of(domain: str, counted: Entries, period: str) -> str:
    """Names a counter, by a hash: a descriptor may hold a credential, and is as long as a client likes.

    The length of each part keeps `a` + `bc` apart from `ab` + `c`.
    """
    content = f"{len(domain)}:{domain}"
    for key, value in counted:
        content += f"|{len(key)}:{key}{len(value)}:{value}"
    return f"rls:{period}|{blake2b(content.encode(), digest_size=16).hexdigest()}"
