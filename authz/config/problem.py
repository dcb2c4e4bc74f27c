"""What is wrong in a config file, and where."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in a file. Line and column count from 1; the column counts characters."""

    line: int
    column: int


START = Position(1, 1)
MOST_PROBLEMS = 500


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake or warning. The message never repeats a secret."""

    file: str
    line: int
    column: int
    message: str
    suggestion: str | None = None  # a spelling that would be right

    def __str__(self) -> str:
        hint = f" (did you mean `{self.suggestion}`?)" if self.suggestion else ""
        return f"{self.file}:{self.line}:{self.column}: {self.message}{hint}"


class ConfigErrors(Exception):
    """Every mistake of a config file at once, in the order of the file.

    `files` are those that were read or looked for: when one of them changes, loading again may succeed.
    """

    def __init__(self, problems: Iterable[Problem], files: Iterable[Path] = ()) -> None:
        found = sorted(set(problems), key=lambda p: (p.line, p.column, p.message))
        if len(found) > MOST_PROBLEMS:
            last = found[MOST_PROBLEMS]
            more = f"and {len(found) - MOST_PROBLEMS} more mistakes from here on"
            found[MOST_PROBLEMS:] = [Problem(last.file, last.line, last.column, more)]
        self.problems = tuple(found)
        self.files = frozenset(files)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class ConfigNotFound(Exception):
    """No config file was named and none is in its usual place."""
