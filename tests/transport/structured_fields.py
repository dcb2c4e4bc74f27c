"""A strict reader of RFC 9651 Lists of Strings with Parameters: the second opinion on our rate headers."""

import re
from base64 import b64decode

_STRING = re.compile(r'"((?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
_KEY = re.compile(r"[a-z*][a-z0-9_.*-]*")
_INTEGER = re.compile(r"-?\d{1,15}(?![\d.])")
_BYTES = re.compile(r":([A-Za-z0-9+/]*={0,2}):")

Bare = str | int | bytes


def parse_list(text: str) -> list[tuple[str, dict[str, Bare]]]:
    """Every member and its parameters. Raises ValueError where the grammar is broken (RFC 9651 4.2.1)."""
    members: list[tuple[str, dict[str, Bare]]] = []
    at = 0
    while True:
        match = _STRING.match(text, at)
        if match is None:
            raise ValueError(f"no String at {at} of {text!r}")
        at = match.end()
        parameters: dict[str, Bare] = {}
        while text[at : at + 1] == ";":
            at += 1 + len(text[at + 1 :]) - len(text[at + 1 :].lstrip(" "))
            key = _KEY.match(text, at)
            if key is None or text[key.end() : key.end() + 1] != "=":
                raise ValueError(f"no parameter at {at} of {text!r}")
            if key[0] in parameters:
                raise ValueError(f"parameter {key[0]} twice in {text!r}")
            value, at = _bare(text, key.end() + 1)
            parameters[key[0]] = value
        members.append((re.sub(r"\\(.)", r"\1", match[1]), parameters))
        rest = text[at:].lstrip(" \t")
        if not rest:
            return members
        if not rest.startswith(","):
            raise ValueError(f"no comma at {at} of {text!r}")
        at = len(text) - len(rest[1:].lstrip(" \t"))


def _bare(text: str, at: int) -> tuple[Bare, int]:
    if integer := _INTEGER.match(text, at):
        return int(integer[0]), integer.end()
    if octets := _BYTES.match(text, at):
        return b64decode(octets[1], validate=True), octets.end()
    if string := _STRING.match(text, at):
        return string[1], string.end()
    raise ValueError(f"no bare item at {at} of {text!r}")
