"""One sentence and one place for each mistake that pydantic found."""

from collections.abc import Callable, Iterator
from typing import Any

from pydantic_core import ErrorDetails

from authz.config.base import Wrong, describe, nearest, shorten
from authz.config.problem import Position, Problem
from authz.config.shape import keys_at
from authz.config.yaml_source import DataPath, Source

_SECRET_KEYS = ("env", "file", "value")


def explain(errors: list[ErrorDetails], source: Source) -> Iterator[tuple[DataPath, Problem]]:
    """Each mistake with the path that it concerns."""
    for error in errors:
        path = _path(error["loc"])
        if error["type"] == "too_short" and source.at(path):
            continue  # pydantic counts only the items that are right
        yield path, _problem(error, path, source)


def _path(loc: tuple[int | str, ...]) -> DataPath:
    """The place in the file: without what pydantic adds for the kind of authenticator and for keys."""
    if loc[:1] == ("authenticators",) and len(loc) > 2 and loc[2] != "[key]":
        loc = (*loc[:2], *loc[3:])
    return loc[:-1] if loc and loc[-1] == "[key]" else loc


def _problem(error: ErrorDetails, path: DataPath, source: Source) -> Problem:
    kind = error["type"]
    if kind == "value_error":
        return _wrong(error, path, source)
    if kind == "extra_forbidden":
        return _unknown_key(path, source)
    if kind == "missing":
        return _at(source.key_position(path[:-1]), f"missing key `{path[-1]}`", source)
    if kind == "union_tag_not_found":
        return _at(source.key_position(path), "missing key `type`", source)
    if kind == "union_tag_invalid":
        path = (*path, "type")
    message, suggestion = _sentence(error, source.at(path))
    return _at(source.value_position(path), message, source, suggestion)


def _at(at: Position, message: str, source: Source, suggestion: str | None = None) -> Problem:
    return Problem(source.file, at.line, at.column, message, suggestion)


def _wrong(error: ErrorDetails, path: DataPath, source: Source) -> Problem:
    wrong = error["ctx"]["error"]
    if not isinstance(wrong, Wrong):
        return _at(source.value_position(path), str(wrong), source)
    place = (*path, *wrong.at)
    value = source.at(place)
    if error["loc"][-1:] == ("[key]",) or wrong.on_key:
        at = source.key_position(place)
    elif wrong.offset is not None and isinstance(value, str):
        at = source.inside(place, value, wrong.offset)
    else:
        at = source.value_position(place)
    return _at(at, wrong.message, source, wrong.suggestion)


def _unknown_key(path: DataPath, source: Source) -> Problem:
    known, key = keys_at(path[:-1], source), str(path[-1])
    suggestion = nearest(key, known)
    at = source.key_position(path)
    if set(_SECRET_KEYS) <= set(known) and suggestion is None:
        # What stands here may be the secret itself, in braces by mistake.
        return _at(at, f"unknown key; a secret is one of {', '.join(_SECRET_KEYS)}", source)
    return _at(at, f"unknown key `{shorten(key)}`", source, suggestion)


def _sentence(error: ErrorDetails, value: Any) -> tuple[str, str | None]:
    kind, context = error["type"], error.get("ctx", {})
    if kind in {"literal_error", "enum", "union_tag_invalid"}:
        expected = (
            str(context.get("expected") or context.get("expected_tags"))
            .replace("'", "")
            .replace(" or ", ", ")
        )
        choices = expected.split(", ")
        if not isinstance(value, str):
            return f"one of {expected} is wanted, not {describe(value)}", None
        return f"{shorten(value)!r} is not one of {expected}", nearest(value, choices)
    wanted = _WANTED.get(kind)
    if wanted is not None:
        return wanted(value), None
    return error["msg"][:1].lower() + error["msg"][1:], None


def _list(value: Any) -> str:
    hint = f"; write [{shorten(value)}]" if isinstance(value, str) else ""
    return f"a list is wanted, not {describe(value)}{hint}"


def _text(value: Any) -> str:
    quotes = "; write it in quotes" if isinstance(value, int | float) else ""
    return f"text is wanted, not {describe(value)}{quotes}"


def _mapping(value: Any) -> str:
    return f"a mapping of keys is wanted, not {describe(value)}"


_WANTED: dict[str, Callable[[Any], str]] = {
    "tuple_type": _list,
    "list_type": _list,
    "string_type": _text,
    "model_type": _mapping,
    "model_attributes_type": _mapping,
    "dict_type": _mapping,
    "mapping_type": _mapping,
    "bool_type": lambda value: f"true or false is wanted, not {describe(value)}",
    "too_short": lambda value: "the list is empty; name at least one" if value == [] else "the text is empty",
    "string_too_short": lambda value: "the text is empty",
}
