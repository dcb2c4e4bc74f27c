"""The events of the YAML parser as a tree with a position on every node.

What would surprise is refused: tags, several documents, keys that are not words, deep nesting.
A duplicate key is noted, and its first value stays.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from authz.config.problem import START, Position, Problem
from authz.config.yaml_scalar import Scalar, resolve
from authz.config.yaml_syntax import explain_syntax

MAX_DEPTH = 24


class Stop(Exception):
    """Nothing after this can be read."""

    def __init__(self, message: str, at: Position) -> None:
        super().__init__(message)
        self.message = message
        self.at = at


@dataclass(frozen=True, slots=True)
class ScalarNode:
    at: Position
    value: Scalar


@dataclass(frozen=True, slots=True)
class ListNode:
    at: Position
    items: "list[Node]"


@dataclass(frozen=True, slots=True)
class Entry:
    at: Position
    key: str
    value: "Node"
    merge: bool  # the key is `<<`


@dataclass(frozen=True, slots=True)
class MapNode:
    at: Position
    entries: list[Entry]


@dataclass(frozen=True, slots=True)
class AliasNode:
    at: Position
    node: "ScalarNode | ListNode | MapNode"


Node = ScalarNode | ListNode | MapNode | AliasNode


class Tree:
    """Reads one document. `problems` fills with the duplicate keys."""

    def __init__(self, text: str, file: str) -> None:
        self.problems: list[Problem] = []
        self._file = file
        self._events = _events(text)
        self._anchors: dict[str, ScalarNode | ListNode | MapNode] = {}

    def read(self) -> Node:
        """The document's root. Raises Stop."""
        root: Node | None = None
        for event in self._events:
            if isinstance(event, DocumentStartEvent):
                if root is not None:
                    raise Stop("a second document begins here; a config file is one", _position(event))
                root = self._node(next(self._events), 0)
        if root is None:
            raise Stop("the file is empty", START)
        return root

    def _node(self, event: Event, depth: int) -> Node:
        at = _position(event)
        if depth > MAX_DEPTH:
            raise Stop(f"nested deeper than {MAX_DEPTH} levels", at)
        if isinstance(event, AliasEvent):
            if event.anchor not in self._anchors:
                raise Stop(
                    f"*{event.anchor} stands for nothing: no finished &{event.anchor} comes before it", at
                )
            return AliasNode(at, self._anchors[event.anchor])
        if not isinstance(event, NodeEvent):
            raise Stop("a value is missing here", at)
        if _tagged(event):
            raise Stop("tags are not used here; put text into quotes instead", at)
        node: ScalarNode | ListNode | MapNode
        if isinstance(event, SequenceStartEvent):
            node = ListNode(at, list(self._items(depth)))
        elif isinstance(event, MappingStartEvent):
            node = MapNode(at, list(self._entries(depth)))
        else:
            node = ScalarNode(at, _value(event))
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _items(self, depth: int) -> Iterator[Node]:
        while not isinstance(event := next(self._events), SequenceEndEvent):
            yield self._node(event, depth + 1)

    def _entries(self, depth: int) -> Iterator[Entry]:
        seen: dict[str, Position] = {}
        while not isinstance(event := next(self._events), MappingEndEvent):
            at = _position(event)
            if not isinstance(event, ScalarEvent) or event.value == "" or _tagged(event):
                raise Stop("a key is a word", at)
            key, plain = str(event.value), bool(event.implicit[0])
            value = self._node(next(self._events), depth + 1)
            if key in seen:
                self._twice(key, at, seen[key])
            else:
                seen[key] = at
                yield Entry(at, key, value, merge=plain and key == "<<")

    def _twice(self, key: str, at: Position, first: Position) -> None:
        message = (
            f"the key `{key[:60]}` is here twice; it is first on line {first.line}, column {first.column}"
        )
        self.problems.append(Problem(self._file, at.line, at.column, message))


def _events(text: str) -> Iterator[Event]:
    try:
        yield from YAML(typ="safe", pure=True).parse(text)
    except MarkedYAMLError as error:
        raise Stop(*explain_syntax(error, text.split("\n"))) from None


def _position(event: Event) -> Position:
    return Position(event.start_mark.line + 1, event.start_mark.column + 1)


def _tagged(event: Any) -> bool:
    return getattr(event, "tag", None) is not None


def _value(event: Any) -> Scalar:
    text, plain = str(event.value), bool(event.implicit[0])
    return resolve(text) if plain else text
