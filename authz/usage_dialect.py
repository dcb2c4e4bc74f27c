"""What APIs call the tokens they counted, read into `Usage`: one table for every dialect.

https://platform.openai.com/docs/api-reference/chat/object (chat, completions, embeddings),
https://platform.openai.com/docs/api-reference/responses/object,
https://docs.anthropic.com/en/api/messages (its `input_tokens` leaves the cached ones out).

A count comes from a model server, through a gateway: it is believed only where it
can be one. What cannot is as if it were missing, and the charge an estimate
(attacks 100 to 103); no value makes a balance negative or absurd.
"""

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct

from authz.usage import Usage

MOST_TOKENS = 10**9
"""Of one request. No model reads or writes so much: a larger count is a fault."""


class Fault(StrEnum):
    """Why a count was not believed."""

    NOT_AN_OBJECT = "not_an_object"
    NO_COUNTS = "no_counts"  # no name that we know
    INCOMPLETE = "incomplete"  # output without input
    NOT_A_NUMBER = "not_a_number"  # a text, a flag, an object, a fraction, NaN
    NEGATIVE = "negative"
    TOO_LARGE = "too_large"
    ZERO = "zero"  # a model that answered read something
    CACHED_ABOVE_INPUT = "cached_above_input"
    REASONING_ABOVE_OUTPUT = "reasoning_above_output"
    BAD_DETAIL = "bad_detail"  # cached or reasoning is no count


class Reading(Struct, frozen=True):
    """What a raw usage says. A fault beside a usage: a part of it was put right or left out."""

    usage: Usage | None
    fault: Fault | None = None


_Path = tuple[str, ...]
_MISPLACED = object()  # something else than the object that a count stands in


class Dialect(Struct, frozen=True, kw_only=True):
    """Where one API puts its counts. A path is keys from the outside in."""

    marks: tuple[str, ...]  # a count under any of these names tells the dialect
    input: _Path
    more_input: tuple[_Path, ...] = ()  # counted apart from `input`
    output: _Path = ()
    cached: _Path = ()
    reasoning: _Path = ()


DIALECTS = (
    Dialect(
        marks=("prompt_tokens", "completion_tokens"),
        input=("prompt_tokens",),
        output=("completion_tokens",),
        cached=("prompt_tokens_details", "cached_tokens"),
        reasoning=("completion_tokens_details", "reasoning_tokens"),
    ),
    Dialect(
        marks=("cache_read_input_tokens", "cache_creation_input_tokens"),
        input=("input_tokens",),
        more_input=(("cache_read_input_tokens",), ("cache_creation_input_tokens",)),
        output=("output_tokens",),
        cached=("cache_read_input_tokens",),
    ),
    Dialect(
        marks=("input_tokens", "output_tokens"),
        input=("input_tokens",),
        output=("output_tokens",),
        cached=("input_tokens_details", "cached_tokens"),
        reasoning=("output_tokens_details", "reasoning_tokens"),
    ),
    Dialect(marks=("total_tokens",), input=("total_tokens",)),  # rerank, classify: nothing is written
)
"""In the order in which they are tried."""

METADATA = (
    Dialect(
        marks=("cache_read", "cache_creation"),
        input=("input",),
        more_input=(("cache_read",), ("cache_creation",)),
        output=("output",),
        cached=("cache_read",),
        reasoning=("reasoning",),
    ),
    Dialect(
        marks=("input", "output"),
        input=("input",),
        output=("output",),
        cached=("cached",),
        reasoning=("reasoning",),
    ),
    Dialect(marks=("total",), input=("total",)),
)
"""The names that our Envoy configuration gives to the same counts in dynamic metadata."""


def read_usage(raw: object, dialects: tuple[Dialect, ...] = DIALECTS) -> Reading:
    """The counts of a raw usage object."""
    if not isinstance(raw, Mapping):
        return Reading(None, Fault.NOT_AN_OBJECT)
    for dialect in dialects:
        for mark in dialect.marks:
            if raw.get(mark) is not None:
                return _read(raw, dialect)
    return Reading(None, Fault.NO_COUNTS)


def _read(raw: Mapping[str, object], dialect: Dialect) -> Reading:
    read, written = _count(_at(raw, dialect.input)), _count(_at(raw, dialect.output))
    more = [_count(_at(raw, path)) for path in dialect.more_input]
    total = 0
    for count in (read, *more):
        if isinstance(count, Fault):
            return Reading(None, count)
        total += count or 0
    if isinstance(written, Fault):
        return Reading(None, written)
    if read is None:
        return Reading(None, Fault.INCOMPLETE)
    output = written or 0
    if total > MOST_TOKENS:
        return Reading(None, Fault.TOO_LARGE)
    if not total and not output:
        return Reading(None, Fault.ZERO)
    cached, fault = _part(_at(raw, dialect.cached), total, Fault.CACHED_ABOVE_INPUT)
    reasoning, second = _part(_at(raw, dialect.reasoning), output, Fault.REASONING_ABOVE_OUTPUT)
    return Reading(Usage(total, output, cached, reasoning), fault or second)


def _at(raw: Mapping[str, object], path: _Path) -> object:
    """The value at a path; None where there is none."""
    value: object = raw if path else None
    for key in path:
        if not isinstance(value, Mapping):
            return value if value is None else _MISPLACED
        value = value.get(key)
    return value


def _count(value: object) -> int | Fault | None:
    """A whole number that can be a count of tokens. Metadata and JavaScript write it as a float."""
    if value is None:
        return None
    if type(value) is float:
        if not value.is_integer():  # NaN and infinity are none either
            return Fault.NOT_A_NUMBER
        value = int(value)
    elif type(value) is not int:
        return Fault.NOT_A_NUMBER
    if value < 0:
        return Fault.NEGATIVE
    return value if value <= MOST_TOKENS else Fault.TOO_LARGE


def _part(value: object, whole: int, above: Fault) -> tuple[int, Fault | None]:
    """A count that is part of another, held to it."""
    count = _count(value)
    if isinstance(count, Fault):
        return 0, Fault.BAD_DETAIL
    if count is None:
        return 0, None
    return (count, None) if count <= whole else (whole, above)
