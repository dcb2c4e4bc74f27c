"""Lua scripts as they are sent: put together from small files, known to the server by their text alone."""

import re
from collections.abc import Mapping
from hashlib import sha1
from types import MappingProxyType

from authz.store.redis.sources import source

_COMMENT = re.compile(r"[ \t]*--[^\n]*")
_CONSTANT = re.compile(r"(?<!')\b(?!KEYS\b|ARGV\b)[A-Z][A-Z_]+\b(?!')")


_NONE: Mapping[str, int | str] = MappingProxyType({})


class Script:
    """A script. Another text is another script, so that processes of two versions never run each other's."""

    __slots__ = ("name", "sha", "source")

    def __init__(self, name: str, source: str) -> None:
        self.name = name
        self.source = source
        self.sha = sha1(source.encode(), usedforsecurity=False).hexdigest()  # as Redis names it

    def __repr__(self) -> str:
        return f"Script({self.name!r}, {self.sha})"


def compose(name: str, *parts: str, constants: Mapping[str, int | str] = _NONE) -> Script:
    """`lua/NAME.lua` behind the `parts` (each `lua/PART.lua`) that it stands on.

    Names in capitals are replaced by the constants: Lua has none, and a local of its own costs time in
    every run. KeyError: there is no such constant.
    """
    text = "\n".join(source(part) for part in (*parts, name))
    text = _CONSTANT.sub(lambda found: _literal(constants[found[0]]), _COMMENT.sub("", text))
    return Script(name, re.sub(r"\n{2,}", "\n", text).strip())


def _literal(value: int | str) -> str:
    return str(int(value)) if isinstance(value, int) else f"'{value}'"
