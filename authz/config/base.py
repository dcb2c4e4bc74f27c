"""What every section of the config shares."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic.config import JsonDict
from pydantic_core import ErrorDetails, InitErrorDetails

from authz.quota import Unit

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

ConditionCompiler = Callable[[str], object]
"""Compiles a CEL expression. Raises ValueError, with an `offset` and a `suggestion` if they are known."""


TokenizerReader = Callable[[Path], object]
"""Reads a `tokenizer.json`. Raises ValueError."""


class Section(BaseModel):
    """A mapping of the config file: frozen, and every key that it does not know is an error."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        arbitrary_types_allowed=True,
        defer_build=True,  # once, of the whole, when a file is read; not of every section beforehand
    )

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator["Wrong"]:
        """What is wrong with the keys of one section together. Sees the data as written, right or not."""
        yield from ()

    @model_validator(mode="wrap")
    @classmethod
    def _with_mistakes(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Reports `mistakes` beside those of the single fields: a person wants to see all of them at once."""
        found = [
            InitErrorDetails(type="value_error", loc=(), input=None, ctx={"error": wrong})
            for wrong in (cls.mistakes(data) if isinstance(data, dict) else ())
        ]
        try:
            section = handler(data)
        except ValidationError as error:
            found += [_again(details) for details in error.errors(include_url=False)]
        else:
            if not found:
                return section
        raise ValidationError.from_exception_data(cls.__name__, found, hide_input=True)


def _again(details: ErrorDetails) -> InitErrorDetails:
    copy = InitErrorDetails(type=details["type"], loc=details["loc"], input=None)
    if "ctx" in details:
        copy["ctx"] = details["ctx"]
    return copy


class Wrong(ValueError):
    """A value that cannot be.

    `at` leads from the validated value to the part that is wrong; `offset` counts into a text value;
    `on_key` blames the key instead of the value.
    """

    def __init__(
        self,
        message: str,
        *,
        at: tuple[str | int, ...] = (),
        suggestion: str | None = None,
        offset: int | None = None,
        on_key: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.at = at
        self.suggestion = suggestion
        self.offset = offset
        self.on_key = on_key


@dataclass(slots=True, kw_only=True)
class LoadContext:
    """What validators need to know beyond the value at hand. Lives for one load.

    `unit` and the calendar's defaults belong to the limit that is being read.
    """

    directory: Path
    environ: Mapping[str, str]
    names: Mapping[str, Sequence[str]]  # what each section defines, for references to it
    compile_condition: ConditionCompiler | None = None
    read_tokenizer: TokenizerReader | None = None
    secrets_required: bool = True
    timezone: str = "UTC"
    week_start: str = "monday"
    unit: Unit | None = None
    files: set[Path] = field(default_factory=set)  # secret files and tokenizers, read or missing


def context(info: ValidationInfo) -> LoadContext:
    """The load at hand. A section is only ever made by `authz.config.load`."""
    if not isinstance(info.context, LoadContext):
        raise RuntimeError("a config is made by authz.config.load or loads")
    return info.context


def nearest(word: str, among: Sequence[str]) -> str | None:
    """The name that was probably meant."""
    folded = {name.casefold(): name for name in among}
    close = get_close_matches(word[:100].casefold(), list(folded), n=1, cutoff=0.6)
    return folded[close[0]] if close else None


def describe(value: object) -> str:
    """The kind of a YAML value, for a sentence. Never the value."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
    return "a mapping"


ONE_KEY: JsonDict = {"minProperties": 1, "maxProperties": 1}
"""For the schema of sections that take exactly one of their keys."""


def shorten(text: str) -> str:
    """A value of the file, for a message."""
    return text if len(text) <= 60 else text[:57] + "..."


def spell(names: Sequence[str]) -> str:
    return ", ".join(names)
