"""`limits:` how much of what, counted for whom."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    TypeAdapter,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.config import JsonDict

from authz.config.amounts import TimeZone
from authz.config.base import WEEKDAYS, Section, Wrong, context, describe, nearest, shorten, spell
from authz.config.http import Header
from authz.config.limit_refusal import LimitRefusal
from authz.config.limit_when import When
from authz.config.words import Word, text_of
from authz.quota import Algorithm, BadQuota, Quota, Unit, Window, parse_amount, parse_quota, parse_window

DIMENSIONS = ("key", "user", "team", "model", "route", "ip", "ip_prefix", "method", "path")
PREFIXES = ("header", "query", "cookie", "claim")
WeekDay = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
"""Days from 0, Monday."""

_HEADER: TypeAdapter[str] = TypeAdapter(Header)


def _amount(value: Any, info: ValidationInfo, least: int = 0) -> int:
    """In the unit of the limit at hand; where that is not known, as precise as any."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise Wrong(f"an amount such as 60, 200k or 50M is wanted, not {describe(value)}")
    try:
        amount = parse_amount(value, context(info).unit or Unit.COST)
    except BadQuota as error:
        raise Wrong(str(error)) from None
    if amount < least:
        raise Wrong(f"at least {least} is needed")
    return amount


def _positive(value: Any, info: ValidationInfo) -> int:
    return _amount(value, info, 1)


_AMOUNT = {"type": ["number", "string"], "pattern": r"^[0-9_]+(\.[0-9]+)?[kKMG]?$"}
_QUOTA = {**_AMOUNT, "pattern": r"^([0-9_]+(\.[0-9]+)?[kKMG]?|[0-9]+ *r/ *[a-z0-9]+)$"}
Amount = Annotated[int, PlainValidator(_amount), WithJsonSchema({**_AMOUNT, "minimum": 0})]
PositiveAmount = Annotated[int, PlainValidator(_positive), WithJsonSchema({**_AMOUNT, "exclusiveMinimum": 0})]


def dimension(value: Any) -> str:
    """A way to tell callers apart. Raises Wrong."""
    name = text_of(value, "a partition key")
    kind, colon, rest = name.partition(":")
    if name in DIMENSIONS:
        return name
    if not colon or kind not in PREFIXES:
        prefixed = [f"{prefix}:NAME" for prefix in PREFIXES]
        message = f"{shorten(name)!r} is not one of {spell([*DIMENSIONS, *prefixed])}"
        raise Wrong(message, suggestion=nearest(name, DIMENSIONS))
    if not rest:
        raise Wrong(f"a name is missing after {kind}:")
    if kind == "header":
        if rest.lower() in {"authorization", "x-api-key", "cookie"}:
            raise Wrong("a credential does not tell callers apart; count by key or user")
        return f"header:{_HEADER.validate_python(rest)}"
    return name


def normal(name: str) -> str:
    """A partition key as it is compared: the name of a header in lower case."""
    return name.lower() if name.startswith("header:") else name


Dimension = Annotated[
    str,
    PlainValidator(dimension),
    WithJsonSchema(
        {"anyOf": [{"enum": list(DIMENSIONS)}, {"type": "string", "pattern": f"^({'|'.join(PREFIXES)}):.+$"}]}
    ),
]


def _window(value: Any, info: ValidationInfo) -> Window:
    unit: Unit | None = info.data.get("unit")
    if unit is Unit.CONCURRENCY:
        if value is not None:
            raise Wrong("concurrency has no window; leave it out", on_key=True)
        return Window(algorithm=Algorithm.CONCURRENCY)
    if unit is None and value is None:
        return Window(algorithm=Algorithm.CONCURRENCY)  # the unit itself is reported
    if value is None:
        raise Wrong("missing key `window`: 30s, 1m, 1h or 24h, or day, week or month", on_key=True)
    text = text_of(value, "a window such as 1m or day")
    algorithm, load = info.data.get("algorithm"), context(info)
    zone = info.data.get("timezone") or load.timezone
    first_day = WEEKDAYS.index(info.data.get("week_start") or load.week_start)
    try:
        # The unit only decides between GCRA and sliding; where it is unknown either will do.
        return parse_window(
            text, unit or Unit.REQUESTS, algorithm=algorithm, timezone=zone, week_start=first_day
        )
    except BadQuota as error:
        raise Wrong(str(error)) from None


def _burst(value: Any, info: ValidationInfo) -> int:
    window, quota = info.data.get("window"), info.data.get("quota")
    if value is None:
        return quota if quota is not None and window is not None and window.algorithm is Algorithm.GCRA else 0
    if window is not None and window.algorithm is not Algorithm.GCRA:
        raise Wrong(f"only gcra has a burst; this limit is {window.algorithm}", on_key=True)
    return _positive(value, info)


def _none(value: Any) -> Any:
    return [] if value == "none" else value


class Shadow(Section):
    """A figure tried beside the live one: it counts and reports, never denies."""

    quota: PositiveAmount
    """The figure, in the limit's unit."""


class Override(Section):
    """Another quota for one partition, such as `{team: vision, quota: 200M}`."""

    model_config = ConfigDict(extra="allow")

    __pydantic_extra__: dict[str, Word]

    quota: Amount
    """The quota there, in the limit's unit; 0 blocks it."""

    @property
    def partition(self) -> tuple[tuple[str, str], ...]:
        """Whom it is for, as (dimension, value); it may name some of the limit's dimensions only."""
        return tuple((normal(name), value) for name, value in (self.__pydantic_extra__ or {}).items())

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Wrong]:
        if not data.keys() - {"quota"}:
            yield Wrong("an override names whom it is for, such as {team: vision, quota: 200M}")


def _unit_may_be_said_in_the_quota(schema: JsonDict) -> None:
    schema["required"] = ["quota"]


class LimitEntry(Section):
    """One limit. `60r/m` alone is short for 60 requests a minute by key."""

    model_config = ConfigDict(json_schema_extra=_unit_may_be_said_in_the_quota)

    # Validated in this order: what later fields mean depends on earlier ones.
    unit: Unit
    """What is counted."""

    algorithm: Literal["gcra", "fixed", "sliding"] | None = None
    """How a rolling window forgets. Left out: gcra for requests, sliding for everything else."""

    timezone: TimeZone | None = None
    """IANA time zone of a calendar window. Left out: the config's."""

    week_start: WeekDay | None = None
    """First day of a calendar week. Left out: the config's."""

    quota: Annotated[int, PlainValidator(_positive), WithJsonSchema({**_QUOTA, "exclusiveMinimum": 0})]
    """How much: 60, 200k, 50M; cost in the currency. `2r/m`: two requests a minute, the unit said too."""

    window: Annotated[
        Window,
        PlainValidator(_window),
        PlainSerializer(str),
        WithJsonSchema({"type": "string", "examples": ["1m", "24h", "day", "month"]}),
        Field(validate_default=True),
    ] = None  # type: ignore[assignment]  # the validator makes one, or says that it is missing
    """`30s`, `1m`, `24h` roll; `day`, `week`, `month` follow the calendar. Concurrency has none."""

    burst: Annotated[
        int,
        PlainValidator(_burst),
        WithJsonSchema({**_AMOUNT, "exclusiveMinimum": 0}),
        Field(validate_default=True),
    ] = None  # type: ignore[assignment]  # likewise
    """Most at one moment, with gcra. Left out: the quota."""

    partition_by: Annotated[
        tuple[Dimension, ...],
        BeforeValidator(_none, json_schema_input_type=tuple[Dimension, ...] | Literal["none"]),
    ] = ()
    """Who is counted apart. Empty or left out: one counter for all."""

    when: When | None = None
    """When the limit applies. Left out: always."""

    overrides: tuple[Override, ...] = ()
    """Other quotas for single partitions."""

    mode: Literal["live", "shadow"] = "live"
    """`shadow` counts and reports, and never denies."""

    shadow: Shadow | None = None
    """A figure tried beside the live one."""

    on_store_failure: Literal["deny", "allow", "local"] = "deny"
    """What to do while the store does not answer."""

    allowance: PositiveAmount | None = None
    """Units that each replica may set aside ahead, of a store that others share. Left out: none."""

    refusal: LimitRefusal | None = None
    """How it refuses. Left out: 429, with the figures."""

    @property
    def value(self) -> Quota:
        """Unit, amount, window and burst as one value."""
        return Quota(unit=self.unit, amount=self.quota, window=self.window, burst=self.burst)

    @model_validator(mode="before")
    @classmethod
    def _begin(cls, data: Any, info: ValidationInfo) -> Any:
        context(info).unit = None
        return data

    @field_validator("unit")
    @classmethod
    def _remember(cls, unit: Unit, info: ValidationInfo) -> Unit:
        context(info).unit = unit
        return unit

    @field_validator("algorithm")
    @classmethod
    def _not_for_concurrency(cls, algorithm: str | None, info: ValidationInfo) -> str | None:
        if algorithm is not None and info.data.get("unit") is Unit.CONCURRENCY:
            raise Wrong("concurrency has no algorithm; leave it out", on_key=True)
        return algorithm

    @field_validator("allowance")
    @classmethod
    def _of_what_is_used_up(cls, allowance: int | None, info: ValidationInfo) -> int | None:
        if allowance is not None and info.data.get("unit") is Unit.CONCURRENCY:
            raise Wrong("what runs at once cannot be set aside; leave it out", on_key=True)
        return allowance

    @field_validator("shadow")
    @classmethod
    def _beside_a_live_one(cls, shadow: Shadow | None, info: ValidationInfo) -> Shadow | None:
        if shadow is not None and info.data.get("mode") == "shadow":
            raise Wrong(
                "the whole limit is a shadow already; leave out one of `mode` and `shadow`", on_key=True
            )
        return shadow


_RATE = re.compile(r"\s*(\d+)\s*r/\s*(\w+)\s*", re.ASCII)


def _rate(data: dict[str, Any]) -> dict[str, Any]:
    """`quota: 2r/m` says unit and window too."""
    quota = data.get("quota")
    rate = _RATE.fullmatch(quota) if isinstance(quota, str) else None
    if rate is None:
        return data
    said = [key for key in ("unit", "window") if key in data]
    if said:
        raise Wrong(f"`quota: {quota}` says `{said[0]}` already; leave it out", at=(said[0],), on_key=True)
    try:
        parse_quota(str(quota))
    except BadQuota as error:
        raise Wrong(str(error), at=("quota",)) from None
    return {**data, "unit": Unit.REQUESTS.value, "quota": rate[1], "window": rate[2]}


def _shorthand(data: Any) -> Any:
    """`60r/m` and `tokens=10k/day` as the whole limit, by key."""
    if isinstance(data, dict):
        return _rate(data)
    if not isinstance(data, str):
        return data
    try:
        quota = parse_quota(data)
    except BadQuota as error:
        raise Wrong(f"{error}; in short 60r/m") from None
    spelled = data.partition("=")[2] or data.strip().replace("r/", "/", 1)
    amount, _, window = spelled.partition("/")
    rest = {"window": window} if window else {}
    return {"unit": quota.unit.value, "quota": amount, "partition_by": ["key"], **rest}


Limit = Annotated[LimitEntry, BeforeValidator(_shorthand, json_schema_input_type=LimitEntry | str)]
