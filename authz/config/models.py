"""`models:` what can be asked for, and `backends:` who answers."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from authz.config.amounts import Count
from authz.config.base import Section, Wrong, context, describe
from authz.config.http import Header
from authz.config.network import Origin
from authz.config.secret import Secret
from authz.config.words import FilePath, Some, Word, models_or
from authz.limit.admission import Admission
from authz.quota import BadQuota, Unit, parse_amount


def _price(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise Wrong(f"a price is a number such as 0.40, not {describe(value)}")
    spelled = format(Decimal(repr(value)), "f") if isinstance(value, float) else value
    try:
        return parse_amount(spelled, Unit.COST)
    except BadQuota:
        raise Wrong("a price is a number such as 0.40, not below 0, with at most 9 decimals") from None


NanoPrice = Annotated[
    int,
    PlainValidator(_price),
    WithJsonSchema({"type": ["number", "string"], "minimum": 0, "pattern": r"^[0-9.]+[kKM]?$"}),
]


class Price(Section):
    """Prices per million tokens in the currency; held as integers of 1e-9 of it."""

    input: NanoPrice = 0
    """A million input tokens."""

    cached_input: NanoPrice | None = None
    """A million input tokens that came from the cache. Left out: as `input`."""

    output: NanoPrice = 0
    """A million output tokens."""


class Access(Section):
    """Who may use a model when no list names it: any of the roles and, if given, any of the teams."""

    roles: Some[Word] | None = None
    """Any of these roles."""

    teams: Some[Word] | None = None
    """Any of these teams."""

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Wrong]:
        if not data:
            message = "`access` without `roles` or `teams` says nothing; leave it out to let everybody in"
            yield Wrong(message, on_key=True)


class ModelEntry(Section):
    """One model."""

    context: Count | None = None
    """Tokens that fit in, input and output together."""

    max_output: Count | None = None
    """Most tokens that it writes. A request for more is refused."""

    price: Price = Price()
    """Prices per million tokens."""

    access: Access | None = None
    """Who may use it when no list names it. Left out: everybody."""

    admission: Admission | None = None
    """How much a request for it holds while it runs, where its route does not say. Left out: `worst_case`."""

    tokenizer: FilePath | None = None
    """Its `tokenizer.json`, to count input exactly. Left out: a token is reckoned for each byte."""

    @field_validator("tokenizer")
    @classmethod
    def _readable(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        load = context(info)
        if path is None or load.read_tokenizer is None:
            return path
        load.files.add(path)
        try:
            load.read_tokenizer(path)
        except ValueError as error:
            raise Wrong(str(error)) from None
        return path

    @field_validator("max_output")
    @classmethod
    def _fits(cls, most: int | None, info: ValidationInfo) -> int | None:
        context = info.data.get("context")
        if most is not None and context is not None and most > context:
            raise Wrong(f"`max_output` is more than the context of {context} tokens")
        return most


if TYPE_CHECKING:
    ServedModels = Literal["any"] | tuple[str, ...]
else:
    ServedModels = models_or("any")


class BackendEntry(Section):
    """A model server behind the gateway."""

    url: Origin
    """Scheme, host and port."""

    models: ServedModels
    """The models that it serves under these very names, or `any`."""

    bearer: Secret | None = None
    """Its own key. The client's never reaches it."""

    header: Header = "authorization"
    """The header that carries the key: `authorization` as `Bearer KEY`, any other bare."""

    @field_validator("bearer")
    @classmethod
    def _one_line(cls, bearer: Secret | None) -> Secret | None:
        if (
            bearer is not None
            and bearer.present
            and not (bearer.reveal().isascii() and bearer.reveal().isprintable())
        ):
            raise Wrong("the key is not one line of printable ASCII, so no header can carry it")
        return bearer
