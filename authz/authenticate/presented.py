"""What a request presents: its slots for credentials, each parsed once and only when asked for."""

from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote_plus

from authz.request import Request


@dataclass(frozen=True, slots=True)
class Slot:
    """A place where a credential may be: a header, a query parameter or a cookie."""

    kind: Literal["header", "query", "cookie"]
    name: str  # headers in lower case

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


AUTHORIZATION = Slot("header", "authorization")


class Twice(Exception):
    """One slot was filled twice: nobody can say which value was meant (attacks 36, 37)."""

    def __init__(self, slot: Slot) -> None:
        super().__init__(f"The {slot} was sent twice. Send it once.")
        self.slot = slot


def bearer(value: str) -> str | None:
    """What follows `Bearer` and one space (RFC 6750 2.1); None for another scheme.

    Only one space is dropped: a credential that keeps a second one is no longer
    well-formed, and is refused as such. `Bearer` alone presents an empty one.
    """
    scheme, _, credential = value.partition(" ")
    return credential if scheme == "Bearer" or scheme.lower() == "bearer" else None


class Presented:
    """A request's credential slots. Lives for one decision; not frozen, because it parses lazily."""

    __slots__ = ("_cookies", "_query", "request")

    def __init__(self, request: Request) -> None:
        self.request = request
        self._query: dict[str, list[str]] | None = None
        self._cookies: dict[str, list[str]] | None = None

    def read(self, slot: Slot) -> str | None:
        """The slot's only value; None where it is empty. Raises Twice."""
        if slot.kind == "header":
            if slot.name in self.request.repeated:
                raise Twice(slot)
            return self.request.headers.get(slot.name) or None
        values = (self.query if slot.kind == "query" else self.cookies).get(slot.name)
        if not values:
            return None
        if len(values) > 1:
            raise Twice(slot)
        return values[0] or None

    def credential(self, slot: Slot) -> str | None:
        """Like `read`, but of `Authorization` only what follows `Bearer `. Raises Twice."""
        value = self.read(slot)
        if value is None or slot.name != "authorization" or slot.kind != "header":
            return value
        return value[7:] if value.startswith("Bearer ") else bearer(value)

    @property
    def query(self) -> dict[str, list[str]]:
        """Decoded query parameters. A name that is encoded oddly is the name that it decodes to."""
        if self._query is None:
            self._query = {}
            for pair in self.request.target.partition("?")[2].split("&"):
                name, _, value = pair.partition("=")
                if name:
                    self._query.setdefault(unquote_plus(name), []).append(unquote_plus(value))
        return self._query

    @property
    def cookies(self) -> dict[str, list[str]]:
        """Cookie pairs (RFC 6265 5.4). A malformed pair is no cookie.

        HTTP/2 clients may send one header per pair (RFC 9113 8.2.3), so a
        repeated `cookie` header is no fault; a repeated cookie name is.
        """
        if self._cookies is None:
            self._cookies = {}
            header = self.request.headers.get("cookie", "")
            if "cookie" in self.request.repeated:
                header = header.replace(", ", "; ")
            for pair in header.split(";"):
                name, equals, value = pair.strip().partition("=")
                if equals and name:
                    if len(value) > 1 and value[0] == value[-1] == '"':
                        value = value[1:-1]
                    self._cookies.setdefault(name, []).append(value)
        return self._cookies
