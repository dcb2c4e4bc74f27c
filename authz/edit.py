"""A change of a request's body, told so that a gateway can make it without reading JSON.

Written as `LENGTH SPLICE SPLICE...`, separated by one space. LENGTH is the whole
body's, in bytes. A splice is `OFFSET+REMOVE=TEXT`: at byte OFFSET of the original
body, REMOVE bytes give way to TEXT, printable ASCII without a space. Splices come
in ascending order and do not overlap: `512 1+0="a":1, 77+4=621`.

Whoever cannot make the change exactly, because the body at hand has another
length, refuses the request: what was held may depend on it.
"""

from collections.abc import Iterable

from msgspec import Struct


class Splice(Struct, frozen=True, order=True):
    """One place of a body that changes."""

    offset: int
    remove: int
    text: str


def spell(length: int, splices: Iterable[Splice]) -> str:
    """The wire form. ValueError for what it cannot carry: a space, an overlap, no ASCII."""
    parts, end = [str(length)], 0
    for splice in sorted(splices):
        if splice.offset < end or splice.offset + splice.remove > length:
            raise ValueError("splices overlap or leave the body")
        if not splice.text.isascii() or not splice.text.isprintable() or " " in splice.text:
            raise ValueError("a splice's text is printable ASCII without a space")
        end = splice.offset + splice.remove
        parts.append(f"{splice.offset}+{splice.remove}={splice.text}")
    return " ".join(parts)
