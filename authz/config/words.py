"""Names, references to them, claims and file paths."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    Strict,
    ValidationInfo,
    WithJsonSchema,
    WrapValidator,
)
from pydantic_core.core_schema import ValidatorFunctionWrapHandler

from authz.config.base import Wrong, context, describe, nearest, shorten

Item = TypeVar("Item")
Some = Annotated[tuple[Item, ...], Field(min_length=1)]
"""A list of at least one."""

Flag = Annotated[bool, Strict()]


def text_of(value: Any, what: str) -> str:
    """The value if it is text. Raises Wrong."""
    if not isinstance(value, str):
        raise Wrong(f"{what} is wanted, not {describe(value)}")
    return value


_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_MODEL = r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}"
_WORD = re.compile(r"[^\x00-\x1f\x7f]{1,256}")


def _name(value: str) -> str:
    if not re.fullmatch(_NAME, value):
        raise Wrong("a name is 1 to 64 letters, digits and . _ -, beginning with a letter or digit")
    return value


def model_name(value: str) -> str:
    """A model's name. Raises Wrong."""
    if not re.fullmatch(_MODEL, value):
        raise Wrong(
            "a model's name is 1 to 128 letters, digits and . _ : / @ + -, beginning with a letter or digit"
        )
    return value


def _word(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise Wrong("text is wanted, not a number; write it in quotes")
    word = text_of(value, "text")
    if not _WORD.fullmatch(word):
        raise Wrong("this is 1 to 256 characters on one line")
    return word


Name = Annotated[str, AfterValidator(_name), WithJsonSchema({"type": "string", "pattern": f"^{_NAME}$"})]
ModelName = Annotated[
    str, AfterValidator(model_name), WithJsonSchema({"type": "string", "pattern": f"^{_MODEL}$"})
]
Word = Annotated[
    str, PlainValidator(_word), WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 256})
]


def _reference(section: str, noun: str) -> Callable[[Any, ValidationInfo], str]:
    def check(value: Any, info: ValidationInfo) -> str:
        name, known = text_of(value, f"the name of {noun}"), context(info).names.get(section, ())
        if name in known or (section == "models" and not known):
            # Without any configured model, models come from the store alone and cannot be checked here.
            return name
        defined = "" if known else f"; `{section}` defines none"
        raise Wrong(
            f"there is no {noun.split()[-1]} `{shorten(name)}`{defined}", suggestion=nearest(name, known)
        )

    return check


_REFERENCE = WithJsonSchema({"type": "string", "minLength": 1})
AuthenticatorRef = Annotated[
    str, PlainValidator(_reference("authenticators", "an authenticator")), _REFERENCE
]
LimitRef = Annotated[str, PlainValidator(_reference("limits", "a limit")), _REFERENCE]
ModelRef = Annotated[str, PlainValidator(_reference("models", "a model")), _REFERENCE]
BackendRef = Annotated[str, PlainValidator(_reference("backends", "a backend")), _REFERENCE]


def models_or(*words: str) -> Any:
    """The type of a list of models, or one of the words in its place."""

    def read(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        if not isinstance(value, str):
            return handler(value)
        if value not in words:
            raise Wrong(f"write {' or '.join(f'`{word}`' for word in words)}, or a list of models")
        return value

    spelled: Any = {
        "anyOf": [{"enum": list(words)}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]
    }
    return Annotated[
        Some[ModelRef], WrapValidator(read), PlainSerializer(lambda value: value), WithJsonSchema(spelled)
    ]


_CLAIM = re.compile(r"[^\x00-\x20\x7f]{1,256}")


def _claim(value: Any) -> str:
    claim = text_of(value, "the name of a claim")
    if not _CLAIM.fullmatch(claim) or "" in claim.split("."):
        raise Wrong(
            f"{shorten(claim)!r} is not a claim's name; join nested ones by dots, as in realm_access.roles"
        )
    return claim


Claim = Annotated[str, PlainValidator(_claim), WithJsonSchema({"type": "string", "minLength": 1})]


def _file(value: Any, info: ValidationInfo) -> Path:
    name = text_of(value, "a file's path")
    if not name or "\0" in name:
        raise Wrong("a file's path is needed")
    return context(info).directory / name


FilePath = Annotated[Path, PlainValidator(_file), WithJsonSchema({"type": "string", "minLength": 1})]
