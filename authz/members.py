"""The members of a JSON object, read strictly and without building their values.

Parsers disagree about repeated keys, so a body in which they could is refused (attack 84).
"""

import re
from collections.abc import Mapping

import msgspec
from msgspec import Raw

MOST_QUOTES = 200_000  # bounds the work on a hostile body: at most 100,000 strings or keys
MOST_FIELDS = 256
LONGEST_NAME = 256

_NAME = rb'"(?:[^"\\]++|\\.)*+"[ \t\r\n]*:[ \t\r\n]*'
_OPENING = re.compile(rb"[ \t\r\n]*\{[ \t\r\n]*(?:" + _NAME + rb")?", re.DOTALL)
_NEXT = re.compile(rb"[ \t\r\n]*,[ \t\r\n]*" + _NAME, re.DOTALL)
_CLOSING = re.compile(rb"[ \t\r\n]*\}[ \t\r\n]*")
_decode = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode

Place = tuple[int, bytes]
"""Where in the body a member's value begins, and the value as it is written there."""


class NotAnObject(ValueError):
    """The text is no JSON object in UTF-8."""


class TooMuch(ValueError):
    """It holds more than anybody needs. The message says of what."""


class Repeated(ValueError):
    """A name appears twice."""

    def __init__(self, name: str | None) -> None:
        super().__init__("A field appears twice in the body.")
        self.name = name  # of the member, or of one that stands near it


def members_of(body: bytes) -> tuple[dict[str, bytes], int]:
    """Name and value of every member, and how many bytes they take without blanks between them.

    Raises NotAnObject, TooMuch and Repeated.
    """
    if len(body) > MOST_QUOTES and body.count(b'"') > MOST_QUOTES:
        raise TooMuch("The body holds too many fields.")
    try:
        if not body.isascii():
            body.decode("utf-8")
        members = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotAnObject("The body is not a valid JSON object in UTF-8.") from error
    if len(members) > MOST_FIELDS:
        raise TooMuch(f"The body has more than {MOST_FIELDS} fields.")
    if members and max(map(len, members)) > LONGEST_NAME:
        raise TooMuch(f"A field's name is longer than {LONGEST_NAME} characters.")
    values = {name: bytes(raw) for name, raw in members.items()}
    written = _encode(members)
    if not _say_the_same(written, body):
        _places(values, body)
    return values, len(written)


def place_of(name: str, body: bytes) -> Place | None:
    """Where the value of a member stands, in a body that `members_of` has read; None: there is none."""
    return _places({name: bytes(raw) for name, raw in _decode(body).items()}, body).get(name)


def _say_the_same(members: bytes, body: bytes) -> bool:
    """Whether the members alone, written down, are the body but for blanks.

    The decoder keeps the last of two equal names. So where nothing else is left, there was none.
    """
    return members == body or msgspec.json.format(members, indent=-1) == msgspec.json.format(body, indent=-1)


def _places(members: Mapping[str, bytes], body: bytes) -> dict[str, Place]:
    """Lay the members over the text; nothing may be left. Raises Repeated.

    They come in order of first appearance, so with a repeat either a value does not match or text
    remains. Costs one regex match a member.
    """
    pattern, position = _OPENING, 0
    places: dict[str, Place] = {}
    for name, raw in members.items():
        member = pattern.match(body, position)
        if member is None or not body.startswith(raw, member.end()):
            raise Repeated(name)
        places[name] = (member.end(), raw)
        position = member.end() + len(raw)
        pattern = _NEXT
    if members and _CLOSING.fullmatch(body, position) is None:
        raise Repeated(None)
    return places
