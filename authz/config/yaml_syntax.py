"""Syntax errors of the YAML parser in words for a person who edits a config file."""

import re
from collections.abc import Sequence

from ruamel.yaml.error import MarkedYAMLError

from authz.config.problem import START, Position

_UNCLOSED = {"[": "]", "{": "}", "'": "'", '"': '"'}
_CHARACTER = re.compile(r"found character '(.+)' that cannot start any token")


def explain_syntax(error: MarkedYAMLError, lines: Sequence[str]) -> tuple[str, Position]:
    """A sentence, and the place where to look: what was opened rather than where the file ended."""
    problem, context = str(error.problem or "the YAML cannot be read"), str(error.context or "")
    at, opened = _place(error.problem_mark), _place(error.context_mark)
    opener = _character(lines, opened) if opened else ""
    if opened and opener in _UNCLOSED and ("end of stream" in problem or "expected ','" in problem):
        return f"this {opener} is not closed by a {_UNCLOSED[opener]}", opened
    if "could not find expected ':'" in problem and opened:
        return "a key here lacks its colon", opened
    if "mapping values are not allowed" in problem and at:
        return (
            "a colon cannot stand here: indent the line like its neighbours, or put the text into quotes",
            at,
        )
    if "did not find expected" in problem or "but found" in problem:
        return "the indentation does not fit the lines before", at or opened or START
    found = _CHARACTER.search(problem)
    if found and at:
        if _character(lines, at) == "\t":
            return "a tab cannot indent YAML; use spaces", at
        return f"text that begins with {found[1]} must be in quotes", at
    return (f"{context}: {problem}" if context else problem), at or opened or START


def _place(mark: object) -> Position | None:
    line, column = getattr(mark, "line", None), getattr(mark, "column", None)
    return None if line is None or column is None else Position(line + 1, column + 1)


def _character(lines: Sequence[str], at: Position) -> str:
    line = lines[at.line - 1] if at.line <= len(lines) else ""
    return line[at.column - 1 : at.column]
