"""Numbers, sizes, durations and time zones."""

import re
from functools import lru_cache
from typing import Annotated, Any
from zoneinfo import available_timezones

from pydantic import PlainValidator, WithJsonSchema

from authz.config.base import Wrong, describe, nearest, shorten
from authz.config.words import text_of
from authz.quota import BadQuota, Unit, parse_amount, parse_duration


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise Wrong(f"a whole number is wanted, not {describe(value)}")
    try:
        number = parse_amount(value, Unit.TOKENS)
    except BadQuota:
        raise Wrong(
            f"{shorten(str(value))!r} is not a whole number; write for example 8192 or 128k"
        ) from None
    if number < 1:
        raise Wrong("at least 1 is needed")
    return number


_SIZE = re.compile(r"(\d{1,12})\s*(KiB|MiB|GiB|k|M|G)?\Z", re.ASCII)
_SIZES = {None: 1, "k": 10**3, "M": 10**6, "G": 10**9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_LARGEST_BODY = 1 << 30


def _size(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise Wrong(f"a size such as 4MiB is wanted, not {describe(value)}")
    match = _SIZE.match(str(value))
    if match is None:
        raise Wrong(f"{shorten(str(value))!r} is not a size; write for example 4MiB or 65536")
    size = int(match[1]) * _SIZES[match[2]]
    if not 1 <= size <= _LARGEST_BODY:
        raise Wrong("a size lies between 1 byte and 1GiB")
    return size


def _duration(value: Any) -> int:
    return parse_duration(text_of(value, "a duration such as 60s"))


_AMOUNT_JSON = {"type": ["integer", "string"], "pattern": r"^[0-9_]+(\.[0-9]+)?[kKMG]?$", "minimum": 1}
Count = Annotated[int, PlainValidator(_count), WithJsonSchema(_AMOUNT_JSON)]
Size = Annotated[
    int,
    PlainValidator(_size),
    WithJsonSchema(
        {"type": ["integer", "string"], "pattern": "^[0-9]+ *(KiB|MiB|GiB|k|M|G)?$", "minimum": 1}
    ),
]
Milliseconds = Annotated[
    int, PlainValidator(_duration), WithJsonSchema({"type": "string", "pattern": "^[0-9]+ *(ms|s|m|h|d)$"})
]


@lru_cache(maxsize=1)
def _zones() -> tuple[str, ...]:
    return tuple(sorted(available_timezones()))


def _timezone(value: Any) -> str:
    zone = text_of(value, "a time zone")
    if zone not in _zones():
        message = f"there is no time zone {shorten(zone)!r}; write an IANA name such as Europe/Helsinki"
        raise Wrong(message, suggestion=nearest(zone, _zones()))
    return zone


TimeZone = Annotated[
    str, PlainValidator(_timezone), WithJsonSchema({"type": "string", "examples": ["Europe/Helsinki"]})
]
