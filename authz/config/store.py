"""`store:` where keys, counters and records live."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from authz.config.base import Wrong, context, nearest, spell
from authz.config.secret import Secret
from authz.config.words import text_of

REMOTE = ("redis", "rediss", "redis+cluster", "rediss+cluster", "redis+sentinel", "rediss+sentinel")
SCHEMES = ("memory", "sqlite", *REMOTE)


class Store:
    """A store's URL. It may carry a password, so only `reveal` shows all of it."""

    __slots__ = ("_url", "path", "scheme")

    def __init__(self, url: Secret, scheme: str, path: Path | None = None) -> None:
        self._url = url
        self.scheme = scheme
        self.path = path  # of SQLite's file

    def reveal(self) -> str:
        """The whole URL. Raises SecretMissing."""
        return self._url.reveal()

    @property
    def url(self) -> str:
        """The whole URL by which the store is opened, any path made absolute. Raises SecretMissing."""
        return self.reveal() if self.path is None else f"sqlite://{self.path.absolute()}"

    @property
    def known(self) -> bool:
        """Whether the URL is there: it may stand in a file or variable that is not."""
        return self._url.present

    @property
    def secret(self) -> Secret | None:
        """The URL as a secret where it holds a password."""
        return self._url if self._url.origin != "literal" or _password(self._url.reveal()) else None

    def __repr__(self) -> str:
        return f"Store({self})"

    def __str__(self) -> str:
        """Safe to show: a URL without user, password and query."""
        if self.path is not None:
            return f"sqlite:{self.path}" if not self.path.is_absolute() else f"sqlite://{self.path}"
        if not self._url.present:
            return self._url.origin
        parts = urlsplit(self.reveal())
        if "@" in f"{parts.path}{parts.query}{parts.fragment}":  # of a password that is not percent-encoded
            return f"{self.scheme}://..."
        return f"{self.scheme}://{parts.netloc.rpartition('@')[2]}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Store) and self._url == other._url and self.path == other.path

    def __hash__(self) -> int:
        return hash(self._url)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_wrap_validator_function(
            _parse,
            handler.generate_schema(Secret),
            serialization=core_schema.plain_serializer_function_ser_schema(str),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        reference, _ = handler(schema)["anyOf"]
        schemes = "|".join(re.escape(scheme) for scheme in SCHEMES)
        return {"anyOf": [reference, {"type": "string", "pattern": f"^({schemes}):"}]}


def default_store(directory: Path) -> Store:
    """Where no store is named: a file beside the config."""
    path = directory / "authz.db"
    return Store(Secret(f"sqlite:{path}", "literal"), "sqlite", path)


def _parse(value: Any, handler: core_schema.ValidatorFunctionWrapHandler, info: ValidationInfo) -> Store:
    if not isinstance(value, dict):
        text_of(value, "a store's URL")
    url: Secret = handler(value)
    return _store(url, context(info).directory) if url.present else Store(url, "")


def _store(url: Secret, directory: Path) -> Store:
    """Says nothing of the URL itself: it may carry a password."""
    text = url.reveal()
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018  (a port that is no number raises)
    except ValueError:
        # Several hosts are not one netloc with one port; the store reads them itself.
        if not text.startswith(tuple(f"{scheme}://" for scheme in REMOTE if "+" in scheme)):
            raise Wrong(
                "this is not a store's URL; write for example sqlite:///var/lib/authz/authz.db"
            ) from None
        parts = urlsplit(text.partition(":")[0] + "://hosts")
    scheme = parts.scheme
    if scheme not in SCHEMES:
        known = spell(SCHEMES)
        raise Wrong(
            f"a store's URL begins with one of {known}",
            suggestion=nearest(scheme, SCHEMES) if scheme else None,
        )
    if scheme == "memory":
        if text not in {"memory:", "memory://"}:
            raise Wrong("a store in memory is just memory://")
        return Store(url, scheme)
    if scheme == "sqlite":
        if parts.netloc or not parts.path or parts.path == "/" or parts.query or parts.fragment:
            raise Wrong(
                "SQLite's URL is sqlite:///absolute/path.db, or sqlite:path.db beside the config file"
            )
        return Store(url, scheme, directory / unquote(parts.path))
    if not parts.netloc.rpartition("@")[2]:
        raise Wrong(f"the store's URL lacks a host; write for example {scheme}://localhost:6379/0")
    return Store(url, scheme)


def _password(text: str) -> bool:
    return "@" in text.partition("://")[2].partition("/")[0]
