"""YAML read into plain data that remembers where everything stood.

One pass over the tree gives the data and two maps from a path (`("limits", "key-rpm", "quota")`) to the
position of its key and of its value.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from authz.config.problem import START, ConfigErrors, Position, Problem
from authz.config.yaml_tree import (
    MAX_DEPTH,
    AliasNode,
    Entry,
    ListNode,
    MapNode,
    Node,
    ScalarNode,
    Stop,
    Tree,
)

DataPath = tuple[str | int, ...]

MAX_BYTES = 1 << 20
MAX_ALIASED = 10_000  # values that aliases and merge keys may add

# What YAML 1.2 does not allow (5.1), and the separators that it calls text but editors call line ends.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class Source:
    """A config file as data. `problems` are those that did not stop the reading: duplicate keys."""

    file: str
    data: Any = field(repr=False)  # may hold literal secrets, as do the lines
    keys: Mapping[DataPath, Position] = field(repr=False)
    values: Mapping[DataPath, Position] = field(repr=False)
    problems: tuple[Problem, ...]
    lines: tuple[str, ...] = field(repr=False)

    def key_position(self, path: DataPath) -> Position:
        """Where the key stands; for a list's item, or where nothing is, the nearest thing around it."""
        while path:
            if path in self.keys:
                return self.keys[path]
            if path in self.values:
                return self.values[path]
            path = path[:-1]
        return START

    def value_position(self, path: DataPath) -> Position:
        """Where the value stands; where nothing is, the nearest key around it."""
        return self.values[path] if path in self.values else self.key_position(path)

    def inside(self, path: DataPath, text: str, offset: int) -> Position:
        """Where a character of a text value stands; the value's start where the text is escaped or folded."""
        start = self.value_position(path)
        line, at = self.lines[start.line - 1], start.column - 1
        at += line[at : at + 1] in ("'", '"')
        return Position(start.line, at + 1 + offset) if line.startswith(text, at) else start

    def at(self, path: DataPath) -> Any:
        """The plain value at a path; None where nothing is."""
        value = self.data
        for part in path:
            try:
                value = value[part]
            except (TypeError, KeyError, IndexError):
                return None
        return value


def parse(content: bytes, file: str) -> Source:
    """Raises ConfigErrors where the content is not one YAML mapping in UTF-8 of at most 1 MiB."""
    text = _decode(content, file)
    tree = Tree(text, file)
    try:
        root = tree.read()
        if not isinstance(root, MapNode):
            raise Stop("a config file is a mapping of keys, such as `store: memory://`", root.at)
        expansion = _Expansion()
        data = expansion.data_of(root, (), 0)
    except Stop as stop:
        problem = Problem(file, stop.at.line, stop.at.column, stop.message)
        raise ConfigErrors([*tree.problems, problem]) from None
    lines = tuple(text.split("\n"))
    return Source(file, data, expansion.keys, expansion.values, tuple(tree.problems), lines)


def _decode(content: bytes, file: str) -> str:
    if len(content) > MAX_BYTES:
        raise ConfigErrors([Problem(file, 1, 1, f"the file is larger than {MAX_BYTES >> 20} MiB")])
    if content.startswith(b"\xef\xbb\xbf"):
        message = "the file begins with a byte order mark; save it as UTF-8 without one"
        raise ConfigErrors([Problem(file, 1, 1, message)])
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8")
        place = _place(before, len(before))
        raise ConfigErrors([Problem(file, place.line, place.column, "the file is not UTF-8 here")]) from None
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    control = _CONTROL.search(text)
    if control:
        place = _place(text, control.start())
        message = (
            f"the character U+{ord(control[0]):04X} cannot stand here; in double quotes write its escape"
        )
        raise ConfigErrors([Problem(file, place.line, place.column, message)])
    return text


def _place(text: str, index: int) -> Position:
    return Position(text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index))


class _Expansion:
    """A tree as plain data. Notes the positions on the way and counts what aliases add."""

    def __init__(self) -> None:
        self.keys: dict[DataPath, Position] = {}
        self.values: dict[DataPath, Position] = {}
        self._aliased = 0

    def data_of(self, node: Node, path: DataPath, depth: int, alias: Position | None = None) -> Any:
        """`alias` is where the alias stands that leads here, if one does. Raises Stop."""
        self.values[path] = node.at
        if depth > MAX_DEPTH:
            raise Stop(f"nested deeper than {MAX_DEPTH} levels", alias or node.at)
        if alias is not None:
            self._aliased += 1
            if self._aliased > MAX_ALIASED:
                raise Stop(f"aliases add more than {MAX_ALIASED} values", alias)
        if isinstance(node, AliasNode):
            data = self.data_of(node.node, path, depth + 1, alias or node.at)
            self.values[path] = node.at
            return data
        if isinstance(node, ScalarNode):
            return node.value
        if isinstance(node, ListNode):
            items = enumerate(node.items)
            return [self.data_of(item, (*path, index), depth + 1, alias) for index, item in items]
        return self._mapping(node, path, depth, alias)

    def _mapping(self, node: MapNode, path: DataPath, depth: int, alias: Position | None) -> dict[str, Any]:
        data: dict[str, Any] = {}

        def put(entry: Entry, alias: Position | None) -> None:
            inner = (*path, entry.key)
            self.keys[inner] = entry.at
            data[entry.key] = self.data_of(entry.value, inner, depth + 1, alias)

        for entry in node.entries:
            if not entry.merge:
                put(entry, alias)
        for entry in node.entries:
            for merged, at in _merged(entry):
                for inherited in merged.entries:
                    if inherited.key not in data:
                        put(inherited, alias or at)
        return data


def _merged(entry: Entry) -> Iterator[tuple[MapNode, Position]]:
    """The mappings that a merge key (`<<: *base` or `<<: [*a, *b]`) brings in, earlier ones first."""
    if not entry.merge:
        return
    for item in entry.value.items if isinstance(entry.value, ListNode) else [entry.value]:
        target = item.node if isinstance(item, AliasNode) else item
        if not isinstance(target, MapNode):
            raise Stop("`<<` takes an alias of a mapping, or a list of such aliases", item.at)
        if any(inner.merge for inner in target.entries):
            raise Stop("what `<<` brings in has a `<<` of its own; name both here instead", item.at)
        yield target, item.at
