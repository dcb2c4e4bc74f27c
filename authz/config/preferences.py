"""`routes[].preferences:` what clients may wish for a single request, and how far that goes."""

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field, PlainValidator, WithJsonSchema, field_validator

from authz.config.amounts import Milliseconds
from authz.config.base import Section, Wrong, describe, shorten
from authz.config.http import UpstreamHeader
from authz.config.words import BackendRef, Some, Word
from authz.preference import FIELDS, origin_of

MOST_RETRIES = 10
MOST_CONCURRENT = 1_000_000
_JSON = ("timeout", "max_retries", "hedge_delay", "max_concurrent_requests", "ignored")


def _up_to(most: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise Wrong(f"a whole number is wanted, not {describe(value)}")
        if not 1 <= value <= most:
            raise Wrong(f"a whole number from 1 to {most} is wanted")
        return value

    return read


def _json(most: int) -> WithJsonSchema:
    return WithJsonSchema({"type": "integer", "minimum": 1, "maximum": most})


Retries = Annotated[int, PlainValidator(_up_to(MOST_RETRIES)), _json(MOST_RETRIES)]
Concurrent = Annotated[int, PlainValidator(_up_to(MOST_CONCURRENT)), _json(MOST_CONCURRENT)]


def _own(name: str) -> str:
    if name == "x-request-id":
        raise Wrong("gateways set x-request-id themselves; choose another header")
    return name


ClientHeader = Annotated[UpstreamHeader, AfterValidator(_own)]
"""A header by which clients say something that gateways neither read nor set."""


class Preferences(Section):
    """Each key that is given offers something; what is not offered is refused with 400."""

    header: ClientHeader | None = None
    """The header that holds the preferences, a JSON object."""

    model_header: ClientHeader | None = None
    """The header that names the model; where the body names one too they must agree."""

    target_header: ClientHeader | None = None
    """The header that names the target; it goes before the field `target_host`."""

    timeout: Milliseconds | None = None
    """Offers `timeout_s`: the most that it may be."""

    max_retries: Retries | None = None
    """Offers `max_retries`: the most that it may be."""

    hedge_delay: Milliseconds | None = None
    """Offers `hedge_delay`: the least that it may be. Needs `max_retries`."""

    max_concurrent_requests: Concurrent | None = None
    """Offers `max_concurrent_requests`: the most that it may be, of one key at a time."""

    targets: Annotated[Mapping[str, BackendRef], Field(min_length=1)] | None = None
    """Offers targets: the URL that a client names, and the backend that it means."""

    ignored: Some[Word] | None = None
    """Fields that are accepted and change nothing."""

    @field_validator("targets")
    @classmethod
    def _origins(cls, targets: Mapping[str, str] | None) -> Mapping[str, str] | None:
        found: dict[str, str] = {}
        for url, backend in (targets or {}).items():
            origin = origin_of(url)
            if origin is None:
                message = f"{shorten(url)!r} is not scheme, host and port, such as https://gpu.example.com"
                raise Wrong(message, at=(url,), on_key=True)
            if origin in found:
                raise Wrong(f"{shorten(url)!r} is on the list already", at=(url,), on_key=True)
            found[origin] = backend
        return found or None

    @field_validator("ignored")
    @classmethod
    def _others(cls, ignored: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for index, field in enumerate(ignored or ()):
            if field in FIELDS:
                raise Wrong(f"`{field}` has a meaning here; offer it, or leave it out", at=(index,))
        return ignored

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Wrong]:
        names = ("header", "model_header", "target_header")
        if not set(names) & data.keys():
            yield Wrong(f"missing key `header`, or one of {', '.join(names[1:])}", on_key=True)
        for key in _JSON:
            if key in data and "header" not in data:
                yield Wrong(f"`{key}` needs `header`, in which clients say it", at=(key,), on_key=True)
        if "targets" in data and not {"header", "target_header"} & data.keys():
            message = "`targets` needs `target_header` or `header`, in which clients say it"
            yield Wrong(message, at=("targets",), on_key=True)
        if "target_header" in data and "targets" not in data:
            yield Wrong(
                "`target_header` needs `targets`, the list of them", at=("target_header",), on_key=True
            )
        if "hedge_delay" in data and "max_retries" not in data:
            message = "`hedge_delay` needs `max_retries`: the second request is one"
            yield Wrong(message, at=("hedge_delay",), on_key=True)
        first: dict[str, str] = {}
        for key in names:
            value = data.get(key)
            if isinstance(value, str) and first.setdefault(value.lower(), key) != key:
                yield Wrong(f"this is the header of `{first[value.lower()]}`", at=(key,))


class RequestId(Section):
    """A request id of the client's own."""

    header: ClientHeader
    """The header that holds it. It goes upstream, made where it is missing, and into the records."""
