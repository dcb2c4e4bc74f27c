"""JSON objects that every parser reads alike: of tokens, key sets and discovery documents."""

import json
import math
from typing import Any

DEEPEST = 32


class Malformed(ValueError):
    """Not a JSON object, or one that parsers could read differently. Says what is wrong, without the text."""


def read_object(raw: bytes) -> dict[str, Any]:
    """The object. Raises Malformed for repeated names, NaN, 1e400, UTF-16, lone surrogates and deep nesting.

    Attacks 61, 65 and 66.
    """
    try:
        text = raw.decode("utf-8")
        value = json.loads(
            text, object_pairs_hook=_members, parse_float=_finite, parse_constant=_refuse_constant
        )
    except UnicodeDecodeError as error:
        raise Malformed("is not UTF-8") from error
    except RecursionError as error:
        raise Malformed("is nested too deeply") from error
    except Malformed:
        raise
    except ValueError as error:  # json's own, and a whole number of more than 4300 digits
        raise Malformed("is not JSON") from error
    if not isinstance(value, dict):
        raise Malformed("is not a JSON object")
    _refuse_depth(value)
    if "\\u" in text:
        _refuse_surrogates(value)
    return value


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Malformed("names a member twice")
    return members


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise Malformed("holds a number that is too large")
    return number


def _refuse_constant(name: str) -> float:
    raise Malformed(f"holds {name}, which is not JSON")


def _refuse_depth(value: Any) -> None:
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return
    raise Malformed("is nested too deeply")


def _refuse_surrogates(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise Malformed("holds half of a surrogate pair") from error
