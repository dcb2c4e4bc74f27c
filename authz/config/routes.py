"""`routes:` which requests are let in, by whom and how much. What matches no route is refused."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
)

from authz.config.amounts import Count
from authz.config.base import ONE_KEY, Section, Wrong, context
from authz.config.http import Header, Method, PathPattern
from authz.config.network import Host
from authz.config.preferences import Preferences, RequestId
from authz.config.words import AuthenticatorRef, LimitRef, Name, Some, Word, models_or
from authz.edit_request import IncludeUsage
from authz.limit.admission import Admission


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
            offset, suggestion = getattr(error, "offset", None), getattr(error, "suggestion", None)
            raise Wrong(str(error), offset=offset, suggestion=suggestion) from None
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


def _include_usage(value: Any) -> IncludeUsage:
    if isinstance(value, bool):
        return value
    if value == "continuous":
        return "continuous"
    raise Wrong("true, false or `continuous` is wanted")


AskForUsage = Annotated[
    IncludeUsage,
    PlainValidator(_include_usage),
    WithJsonSchema({"anyOf": [{"type": "boolean"}, {"const": "continuous"}]}),
]


class Caps(Section):
    """The most that one request may be. What is larger is refused and charged nowhere."""

    characters: Count | None = None
    """Characters of the body."""

    tokens: Count | None = None
    """Tokens that it may use at most, input and output together."""

    inputs: Count | None = None
    """Prompts of a completion, texts to embed, documents to rank."""

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Wrong]:
        if not data:
            message = "`caps` without `characters`, `tokens` or `inputs` caps nothing; leave it out"
            yield Wrong(message, on_key=True)


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

    admission: Admission | None = None
    """How much a request holds while it runs. Left out: what its model says, else `worst_case`."""

    include_usage: AskForUsage = True
    """Whether streams are asked for their usage; `continuous`: in each chunk, as vLLM can."""

    caps: Caps | None = None
    """The most that one request may be."""

    preferences: Preferences | None = None
    """What clients may wish for a single request."""

    request_id: RequestId | None = None
    """A request id of the client's own, which goes upstream and into the records."""

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Wrong]:
        own, wished = data.get("request_id"), data.get("preferences")
        if isinstance(own, dict) and isinstance(wished, dict):
            others = [wished.get(key) for key in ("header", "model_header", "target_header")]
            name = own.get("header")
            if isinstance(name, str) and name.lower() in [str(other).lower() for other in others]:
                yield Wrong("`preferences` has this header already", at=("request_id", "header"))
