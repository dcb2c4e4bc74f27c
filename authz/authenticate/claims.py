"""Reading claims by path, and writing them into headers."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

LONGEST_NAME = 256  # characters of a user or team
LONGEST_HEADER_VALUE = 2048


def claim(claims: Mapping[str, Any], path: str) -> Any:
    """The claim at a dotted path; None where there is none.

    A claim may have dots in its own name (`https://example.com/roles`), so a
    member that is called like the whole path, or a longer part of it, counts too.
    """
    if path in claims:
        return claims[path]
    dot = path.find(".")
    while dot > 0:
        inner = claims.get(path[:dot])
        if isinstance(inner, dict) and (found := claim(inner, path[dot + 1 :])) is not None:
            return found
        dot = path.find(".", dot + 1)
    return None


def first_claim(claims: Mapping[str, Any], paths: Iterable[str]) -> Any:
    """The first of these claims that is there; None where none is."""
    return next((value for path in paths if (value := claim(claims, path)) is not None), None)


def first_identifier(claims: Mapping[str, Any], paths: Iterable[str]) -> str | None:
    """The first of these claims that is a non-empty string or a whole number; others are passed over."""
    for path in paths:
        value = claim(claims, path)
        if isinstance(value, str) and value:
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
    return None


def is_name(text: str) -> bool:
    """Whether a text can name a user or team: short, printable, no blanks around it."""
    return 0 < len(text) <= LONGEST_NAME and text.isprintable() and text == text.strip()


def names(value: Any) -> frozenset[str]:
    """A claim as a set of names: a list's strings, or one string. Anything else names nothing."""
    if isinstance(value, str):
        return frozenset((value,)) if value else frozenset()
    if isinstance(value, list):
        return frozenset(item for item in value if isinstance(item, str) and item)
    return frozenset()


def words(value: Any) -> frozenset[str]:
    """Like `names`, but a string is a list separated by spaces (RFC 8693 4.2: `scope`)."""
    return frozenset(value.split()) if isinstance(value, str) else names(value)


def spell(value: Any) -> str:
    """A claim as text: strings as they are, everything else as compact JSON (`true`, `12`, `["a","b"]`)."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
