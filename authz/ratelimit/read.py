"""One file of limits: https://github.com/envoyproxy/ratelimit#the-configuration-format

What that service takes is taken, and means the same. What it would read and ignore is refused here.
"""

import re
from collections.abc import Sequence
from typing import Any

from authz.config.base import describe, nearest, shorten
from authz.config.problem import Problem
from authz.config.yaml_scalar import resolve
from authz.config.yaml_source import DataPath, Source
from authz.ratelimit.limits import PERIODS, Limit, Node, wildcard

_FILE_KEYS = ("domain", "descriptors")
_DESCRIPTOR_KEYS = (
    "key",
    "value",
    "rate_limit",
    "descriptors",
    "shadow_mode",
    "detailed_metric",
    "value_to_metric",
    "share_threshold",
)
_LIMIT_KEYS = ("unit", "requests_per_unit", "unlimited", "name", "replaces")
_REPLACES_KEYS = ("name",)
_MOST_REQUESTS = 2**32 - 1  # it is a uint32 on the wire

# A plain scalar up to what ends it on its line: text is wanted as it is written, `1.10` with its zero.
_PLAIN = re.compile(r"[^\s,\[\]{}#]+")
_SWITCHES = {"yes": True, "on": True, "no": False, "off": False}  # as YAML 1.1 has them, in any case


class Reading:
    """Reads one file. `problems` fills with all that is wrong."""

    def __init__(self, source: Source) -> None:
        self.problems = list(source.problems)
        self._source = source

    def read(self) -> tuple[str, Sequence[Any]]:
        """The domain, "" where there is none, and its list of descriptors, for `add`."""
        data = self._source.data
        self._known((), data, _FILE_KEYS)
        domain = self._text((), data, "domain")
        if not domain and not self._has_problem(("domain",)):
            self._wrong(
                ("domain",), "a file needs a domain; write `domain: NAME`, as in the gateway's filter"
            )
        return domain, self._list((), data, "descriptors")

    def add(self, to: Node, descriptors: Sequence[Any], path: DataPath = ("descriptors",)) -> None:
        """The descriptors of a list, and what is nested in them, to a level."""
        for index, data in enumerate(descriptors):
            here = (*path, index)
            if not isinstance(data, dict):
                self._wrong(here, f"a descriptor is a mapping with a `key`, not {describe(data)}")
                continue
            self._known(here, data, _DESCRIPTOR_KEYS)
            key = self._text(here, data, "key")
            if not key:
                if not self._has_problem((*here, "key")):
                    self._wrong(here, "a descriptor needs a key; write `key: NAME`")
                continue
            value = self._text(here, data, "value")
            shadow = self._switch(here, data, "shadow_mode")
            for name in ("detailed_metric", "value_to_metric"):
                self._switch(here, data, name)
            node = Node(limit=self._limit(here, data, shadow))
            if self._switch(here, data, "share_threshold"):
                if "*" in value:
                    node.shared = value
                else:
                    self._wrong(
                        (*here, "share_threshold"),
                        "only values with a * share a threshold; put one into the value, or remove this",
                    )
            self._put(to, key, value, node, here)
            self.add(node, self._list(here, data, "descriptors"), (*here, "descriptors"))

    def _put(self, to: Node, key: str, value: str, node: Node, path: DataPath) -> None:
        known = (key, value) in to.exact if value else key in to.keys
        if known:
            named = f"`{shorten(key)}`" + (f" with the value `{shorten(value)}`" if value else "")
            self._wrong(
                (*path, "key"), f"the descriptor {named} is there already; join the two, or remove one"
            )
            return
        if not value:
            to.keys[key] = node
            return
        to.exact[key, value] = node
        if "*" in value:
            to.wildcards.setdefault(key, []).append(wildcard(value, node))

    def _limit(self, path: DataPath, descriptor: dict[str, Any], shadow: bool) -> Limit | None:
        data, path = descriptor.get("rate_limit"), (*path, "rate_limit")
        if data is None:
            return None
        if not isinstance(data, dict):
            self._wrong(
                path, f"a rate_limit is a mapping with `unit` and `requests_per_unit`, not {describe(data)}"
            )
            return None
        self._known(path, data, _LIMIT_KEYS)
        name = self._text(path, data, "name")
        replaces = self._replaces(path, data, name)
        unit = self._text(path, data, "unit").lower()
        if self._switch(path, data, "unlimited"):
            if unit in PERIODS:
                self._wrong((*path, "unit"), "what is unlimited has no unit; remove `unit`, or `unlimited`")
            return Limit(0, None, name, replaces, shadow)
        if unit not in PERIODS and not self._has_problem((*path, "unit")):
            units = ", ".join(PERIODS)
            message = f"`{shorten(unit)}` is no unit; it is" if unit else "missing key `unit`; it is"
            self._wrong((*path, "unit"), f"{message} one of {units}", nearest(unit, tuple(PERIODS)))
        return Limit(self._requests(path, data), PERIODS.get(unit), name, replaces, shadow)

    def _requests(self, path: DataPath, data: dict[str, Any]) -> int:
        value, path = data.get("requests_per_unit"), (*path, "requests_per_unit")
        if value is None:
            self._wrong(path, "missing key `requests_per_unit`; 0 refuses every request")
            return 0
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MOST_REQUESTS:
            self._wrong(path, f"requests_per_unit is a whole number from 0 to {_MOST_REQUESTS}")
            return 0
        return value

    def _replaces(self, path: DataPath, data: dict[str, Any], name: str) -> frozenset[str]:
        names = set()
        for index, item in enumerate(self._list(path, data, "replaces")):
            here = (*path, "replaces", index)
            if not isinstance(item, dict):
                self._wrong(here, f"an entry of replaces is `name: NAME`, not {describe(item)}")
                continue
            self._known(here, item, _REPLACES_KEYS)
            other = self._text(here, item, "name")
            if not other:
                self._wrong(here, "an entry of replaces needs the name of another limit; write `name: NAME`")
            elif other == name:
                self._wrong(here, "a limit cannot replace itself; name another one")
            names.add(other)
        return frozenset(names)

    def _known(self, path: DataPath, data: dict[str, Any], keys: Sequence[str]) -> None:
        for key in data:
            if key not in keys:
                problem = self._source.key_position((*path, key))
                suggestion = nearest(key, keys)
                message = f"unknown key `{shorten(key)}`; here may stand {', '.join(keys)}"
                self._add(Problem(self._source.file, problem.line, problem.column, message, suggestion))

    def _list(self, path: DataPath, data: dict[str, Any], key: str) -> Sequence[Any]:
        value = data.get(key)
        if value is None or isinstance(value, list):
            return value or ()
        self._wrong((*path, key), f"{key} is a list, not {describe(value)}")
        return ()

    def _switch(self, path: DataPath, data: dict[str, Any], key: str) -> bool:
        value = data.get(key)
        if isinstance(value, str):
            value = _SWITCHES.get(value.lower(), value)
        if value is None or isinstance(value, bool):
            return bool(value)
        self._wrong((*path, key), f"{key} is true or false, not {describe(value)}")
        return False

    def _text(self, path: DataPath, data: dict[str, Any], key: str) -> str:
        """As it is written, be it a number or not; "" for none."""
        value, path = data.get(key), (*path, key)
        if value is None or isinstance(value, str):
            return value or ""
        if isinstance(value, list | dict):
            self._wrong(path, f"{key} is text, not {describe(value)}")
            return ""
        at = self._source.value_position(path)
        written = _PLAIN.match(self._source.lines[at.line - 1], at.column - 1)
        return written[0] if written and resolve(written[0]) == value else str(value)

    def _has_problem(self, path: DataPath) -> bool:
        at = self._source.value_position(path)
        return path in self._source.values and any(
            (p.line, p.column) == (at.line, at.column) for p in self.problems
        )

    def _wrong(self, path: DataPath, message: str, suggestion: str | None = None) -> None:
        at = self._source.value_position(path)
        self._add(Problem(self._source.file, at.line, at.column, message, suggestion))

    def _add(self, problem: Problem) -> None:
        self.problems.append(problem)
