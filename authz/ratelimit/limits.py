"""Limits of domains as values: what the files say, ready to be looked up."""

from collections.abc import Mapping

from msgspec import Struct, field


class Period(Struct, frozen=True):
    """A unit of time. Windows of it are aligned to the epoch: a month is 30 days, a year 365."""

    name: str
    seconds: int
    number: int  # RateLimitResponse.RateLimit.Unit


PERIODS: Mapping[str, Period] = {
    name: Period(name, seconds, number)
    for name, seconds, number in (
        ("second", 1, 1),
        ("minute", 60, 2),
        ("hour", 3_600, 3),
        ("day", 86_400, 4),
        ("week", 7 * 86_400, 7),
        ("month", 30 * 86_400, 5),
        ("year", 365 * 86_400, 6),
    )
}
BY_NUMBER: Mapping[int, Period] = {period.number: period for period in PERIODS.values()}


class Limit(Struct, frozen=True):
    """One `rate_limit`. Without a period it is unlimited."""

    requests_per_unit: int
    period: Period | None
    name: str = ""
    replaces: frozenset[str] = frozenset()  # names of limits that do not apply beside this one
    shadow: bool = False  # counted, never refused


class Wildcard(Struct, frozen=True):
    """A value that holds `*`: each stands for any characters, or none."""

    prefix: str
    middle: tuple[str, ...]  # what must stand between the two, in this order
    suffix: str
    node: "Node"

    def meets(self, value: str) -> bool:
        """Whether all of the value is as the wildcard has it. Looks at no character twice."""
        at, end = len(self.prefix), len(value) - len(self.suffix)
        if at > end or not value.startswith(self.prefix) or not value.endswith(self.suffix):
            return False
        for part in self.middle:
            found = value.find(part, at, end)
            if found < 0:
                return False
            at = found + len(part)
        return True


def wildcard(value: str, node: "Node") -> Wildcard:
    """Of a value with at least one `*`."""
    prefix, *middle, suffix = value.split("*")
    return Wildcard(prefix, tuple(middle), suffix, node)


class Node(Struct):
    """A level of descriptors: by key and value, by wildcards in the order of the file, by key alone."""

    limit: Limit | None = None
    shared: str | None = None  # the wildcard by which all of its values are counted together
    exact: dict[tuple[str, str], "Node"] = field(default_factory=dict)
    wildcards: dict[str, list[Wildcard]] = field(default_factory=dict)
    keys: dict[str, "Node"] = field(default_factory=dict)

    def child(self, key: str, value: str) -> "Node | None":
        """The most specific descriptor for an entry: its very value, a wildcard, then the key alone."""
        found = self.exact.get((key, value))
        if found is not None:
            return found
        for each in self.wildcards.get(key, ()):
            if each.meets(value):
                return each.node
        return self.keys.get(key)


Rules = Mapping[str, Node]
"""By domain."""
