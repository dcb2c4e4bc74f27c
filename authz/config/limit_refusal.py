"""`limits.NAME.refusal:` how a limit refuses, where not as usual."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import PlainValidator, WithJsonSchema

from authz.config.base import Section, Wrong, spell
from authz.config.words import text_of

STATUSES = (402, 403, 429, 503)
"""With which a limit may refuse: gateways know these as answers of authz."""

LONGEST_MESSAGE = 300  # characters


def _status(value: Any) -> int:
    if value not in STATUSES or isinstance(value, bool):
        raise Wrong(f"one of {spell([str(status) for status in STATUSES])} is wanted")
    return int(value)


def _message(value: Any) -> str:
    message = text_of(value, "a sentence")
    if not message.strip() or not message.isprintable() or len(message) > LONGEST_MESSAGE:
        raise Wrong(f"this is 1 to {LONGEST_MESSAGE} characters on one line")
    return message.strip()


class LimitRefusal(Section):
    """How a limit refuses, where not as usual."""

    status: Annotated[int, PlainValidator(_status), WithJsonSchema({"enum": list(STATUSES)})] | None = None
    """The HTTP status in the place of 429."""

    message: (
        Annotated[
            str,
            PlainValidator(_message),
            WithJsonSchema({"type": "string", "minLength": 1, "maxLength": LONGEST_MESSAGE}),
        ]
        | None
    ) = None
    """What the client is told in the place of the figures."""

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Wrong]:
        if not data:
            yield Wrong("`refusal` without `status` or `message` says nothing; leave it out", on_key=True)
