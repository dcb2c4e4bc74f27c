"""`routes:` which requests are let in, by whom and how much. What matches no route is refused."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    ValidationInfo,
    WithJsonSchema,
)

from authz.config.base import ONE_KEY, Section, Wrong, context
from authz.config.http import Header, Method, PathPattern
from authz.config.network import Host
from authz.config.words import AuthenticatorRef, LimitRef, Name, Some, Word, models_or


class Match(Section):
    """What a request must be. Every part that is given must hold; the first route that matches counts."""

    api: Some[Literal["openai", "anthropic"]] | None = None
    """API families: their methods and paths."""

    methods: Some[Method] | None = None
    """Any of these methods."""

    paths: Some[PathPattern] | None = None
    """Any of these paths: `/v1/x` exactly, `/v1/*` whatever lies below, `/v1/{id}/x` with any one segment."""

    hosts: Some[Host] | None = None
    """Any of these hosts; `*.example.com` stands for one label more."""

    headers: Mapping[Header, Word] = {}
    """Headers with exactly this value; `*` for any value."""

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Wrong]:
        if not {"api", "paths"} & data.keys():
            yield Wrong("missing key `api` or `paths`; write `paths: [/*]` for every path", on_key=True)


class Authenticate(Section):
    """Who must vouch for the caller: one of the two."""

    model_config = ConfigDict(json_schema_extra=ONE_KEY)

    any_of: Some[AuthenticatorRef] | None = None
    """One of these authenticators is enough."""

    all_of: Some[AuthenticatorRef] | None = None
    """All of these authenticators must agree."""

    @property
    def names(self) -> tuple[str, ...]:
        return self.any_of or self.all_of or ()

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Wrong]:
        if len({"any_of", "all_of"} & data.keys()) != 1:
            yield Wrong("exactly one of `any_of` and `all_of` is wanted", on_key=True)


if TYPE_CHECKING:
    ModelChoice = Literal["allowed", "any"] | tuple[str, ...]
else:
    ModelChoice = models_or("allowed", "any")


def _condition(text: str, info: ValidationInfo) -> str:
    if not text.strip():
        raise Wrong("the condition is empty")
    compiler = context(info).compile_condition
    if compiler is not None:
        try:
            compiler(text)
        except ValueError as error:
            raise Wrong(str(error), offset=getattr(error, "offset", None)) from None
    return text


Condition = Annotated[str, AfterValidator(_condition), WithJsonSchema({"type": "string", "minLength": 1})]


class AuthorizeEntry(Section):
    """One rule: exactly one of the four."""

    model_config = ConfigDict(json_schema_extra=ONE_KEY)

    models: ModelChoice | None = None
    """`allowed`: those of the caller's own list. `any`: every configured one. A list: these alone."""

    scopes: Some[Word] | None = None
    """The caller has all of these scopes."""

    roles: Some[Word] | None = None
    """The caller has any of these roles."""

    when: Condition | None = None
    """A CEL expression that must be true."""

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Wrong]:
        if len(data) != 1:
            yield Wrong("each entry is exactly one of `models`, `scopes`, `roles` and `when`")


class RouteEntry(Section):
    """One route."""

    name: Name
    """Its name, in logs, metrics and decisions."""

    match: Match
    """What a request must be."""

    authenticate: Authenticate
    """Who must vouch for the caller."""

    authorize: Some[AuthorizeEntry]
    """What the caller must be allowed; all entries must agree."""

    limits: tuple[LimitRef, ...] = ()
    """Limits that apply, beside those of the key, its user and its team."""
