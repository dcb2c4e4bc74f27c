"""What a check of the config has to say, before it has a line and a column."""

from dataclasses import dataclass
from typing import Literal

from authz.config.problem import Problem
from authz.config.yaml_source import DataPath, Source


@dataclass(frozen=True, slots=True)
class Finding:
    """A mistake or a warning about the key or the value at a path."""

    path: DataPath
    message: str
    on: Literal["key", "value"] = "value"
    suggestion: str | None = None

    def at(self, source: Source) -> Problem:
        place = source.key_position(self.path) if self.on == "key" else source.value_position(self.path)
        return Problem(source.file, place.line, place.column, self.message, self.suggestion)
