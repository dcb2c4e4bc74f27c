"""Secrets: where they come from, and values that never show themselves."""

import hashlib
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    SecretStr,
    ValidationInfo,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from authz.config.base import ONE_KEY, LoadContext, Section, Wrong, context, describe

MAX_FILE = 1 << 20
SHORTEST_TOKEN = 16  # characters; fewer can be guessed by whoever reaches the address


class SecretMissing(Exception):
    """A secret that could not be read when the config was loaded is needed now. Says which."""


class Secret:
    """A secret of the config. Only `reveal` shows it; its repr, str and dump name where it came from."""

    __slots__ = ("_text", "mode", "origin")

    def __init__(self, text: str | None, origin: str, mode: int | None = None) -> None:
        self._text = text
        self.origin = origin  # "env AUTHZ_TOKEN", "file /run/secrets/edge" or "literal"
        self.mode = mode  # permission bits of its file

    def reveal(self) -> str:
        """The secret itself, without white space around it. Raises SecretMissing."""
        if self._text is None:
            raise SecretMissing(f"the secret from {self.origin} could not be read")
        return self._text

    @property
    def present(self) -> bool:
        return self._text is not None

    @property
    def digest(self) -> bytes:
        """SHA-256, to compare with what somebody presents."""
        return hashlib.sha256(self.reveal().encode()).digest()

    def __repr__(self) -> str:
        return f"Secret({self.origin})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text and self.origin == other.origin

    def __hash__(self) -> int:
        return hash((self._text, self.origin))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_wrap_validator_function(
            _from_file,
            handler.generate_schema(SecretRef),
            serialization=core_schema.plain_serializer_function_ser_schema(repr),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {
            "anyOf": [
                handler(schema),
                {"type": "string", "minLength": 1, "description": "the secret itself; loading warns"},
            ]
        }


def check_token(token: Secret) -> Secret:
    text = token.reveal() if token.present else ""
    if not text.isascii() or " " in text or (text and not text.isprintable()):
        raise Wrong("a token is printable ASCII without spaces, because it travels in a header")
    return token


Token = Annotated[Secret, AfterValidator(check_token)]
"""A secret that somebody shows in a header."""


class SecretRef(Section):
    """Where a secret is: exactly one of the three."""

    model_config = ConfigDict(json_schema_extra=ONE_KEY)

    env: str | None = Field(None, min_length=1)
    """Name of the environment variable that holds the secret."""

    file: str | None = Field(None, min_length=1)
    """File that holds the secret, relative to the config file. White space around it is dropped."""

    value: SecretStr | None = Field(None, min_length=1)
    """The secret itself. Loading warns: it is better kept elsewhere."""

    def resolve(self, load: LoadContext) -> Secret:
        """Reads the secret. Raises Wrong."""
        named = [key for key in ("env", "file", "value") if getattr(self, key) is not None]
        if len(named) != 1:
            raise Wrong("a secret is exactly one of {env: NAME}, {file: PATH} or {value: ...}", on_key=True)
        if self.value is not None:
            return Secret(_checked(self.value.get_secret_value(), "the secret", "value"), "literal")
        if self.env is not None:
            return _from_environment(self.env, load)
        return _from_path(str(self.file), load)


def _from_file(value: Any, handler: core_schema.ValidatorFunctionWrapHandler, info: ValidationInfo) -> Secret:
    if not isinstance(value, str | dict):
        raise Wrong(f"a secret is {{env: NAME}} or {{file: PATH}}, not {describe(value)}")
    ref: SecretRef = handler({"value": value} if isinstance(value, str) else value)
    try:
        return ref.resolve(context(info))
    except Wrong as wrong:
        if isinstance(value, str):
            raise Wrong(wrong.message) from None
        raise


def _from_environment(name: str, load: LoadContext) -> Secret:
    text = load.environ.get(name)
    if text is None:
        if load.secrets_required:
            raise Wrong(f"the environment variable {name} is not set", at=("env",))
        return Secret(None, f"env {name}")
    return Secret(_checked(text, f"the environment variable {name}", "env"), f"env {name}")


def _from_path(name: str, load: LoadContext) -> Secret:
    path = load.directory / Path(name)
    origin = f"file {path}"
    load.files.add(path)
    try:
        if not path.is_file():
            raise Wrong(
                f"{path} is not a file" if path.exists() else f"there is no file {path}", at=("file",)
            )
        with path.open("rb") as stream:
            content, mode = stream.read(MAX_FILE + 1), path.stat().st_mode & 0o777
    except OSError as error:
        raise Wrong(f"{path} cannot be read: {error.strerror}", at=("file",)) from None
    except Wrong:
        if load.secrets_required:
            raise
        return Secret(None, origin)
    if len(content) > MAX_FILE:
        raise Wrong(f"{path} is larger than {MAX_FILE >> 20} MiB", at=("file",))
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise Wrong(f"{path} is not text in UTF-8", at=("file",)) from None
    return Secret(_checked(text, str(path), "file"), origin, mode)


def _checked(text: str, what: str, key: str) -> str:
    text = text.strip()
    if not text:
        raise Wrong(f"{what} is empty", at=(key,))
    if "\0" in text:
        raise Wrong(f"{what} holds a NUL character", at=(key,))
    return text
