"""Reading what another system exported: JSON, JSON lines or CSV, as rows that know where they stand.

A message names the place and the field, never what the field holds: it may be a key.
"""

import csv
import io
import json
import re
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from authz.cli.errors import CommandError
from authz.quota import MAX_AMOUNT

MOST_BYTES: Final = 256 << 20

_TRUE: Final = frozenset({"t", "true", "1"})
_FALSE: Final = frozenset({"f", "false", "0"})
_OFFSET: Final = re.compile(r"(:\d\d(?:\.\d+)?[+-]\d\d)$")  # PostgreSQL leaves out the minutes: 10:00:00+00


class Wrong(Exception):
    """Something in an export that cannot be read. Says where and what would be right."""


class Table(Struct, frozen=True):
    """A document of an export: one JSON value, or one line of a table."""

    place: str  # "keys.csv, line 4"; for JSON a path goes on from here
    value: Any


def read_file(file: str) -> list[Table]:
    """The documents in a file, or in standard input (`-`). Raises CommandError, and Wrong with the line."""
    name = "standard input" if file == "-" else Path(file).name
    text = _text(file, name)
    start = text.lstrip()[:1]
    if not start:
        raise Wrong(f"{name} is empty")
    return list(_json(name, text) if start in "{[" else _csv(name, text))


def _text(file: str, name: str) -> str:
    try:
        data = sys.stdin.read().encode() if file == "-" else _bytes(Path(file))
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Wrong(f"{name} is not UTF-8") from None
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}.") from None


def _bytes(path: Path) -> bytes:
    if path.stat().st_size > MOST_BYTES:
        raise Wrong(f"{path.name} is larger than {MOST_BYTES >> 20} MiB")
    return path.read_bytes()


def _json(name: str, text: str) -> Iterator[Table]:
    """One document, or one after the other as `mongoexport` and `psql` write them."""
    decoder = json.JSONDecoder()
    at, number, line, counted = _skip(text, 0), 0, 1, 0
    while at < len(text):
        number += 1
        line, counted = line + text.count("\n", counted, at), at
        try:
            value, end = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise Wrong(f"{name}, line {error.lineno}, column {error.colno}: this is not JSON") from None
        except (RecursionError, ValueError):  # the latter: a number of thousands of digits
            raise Wrong(f"{name}, line {line}: this is nested too deep, or a number too long") from None
        at = _skip(text, end)
        alone = number == 1 and at == len(text)
        yield Table(name if alone else f"{name}, line {line}", value)


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _csv(name: str, text: str) -> Iterator[Table]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        header = reader.fieldnames or []
        if len(set(header)) < len(header):
            raise Wrong(f"{name}, line 1: a column is there twice")
        for row in reader:
            place = f"{name}, line {reader.line_num}"
            if None in row or None in row.values():
                raise Wrong(f"{place}: there are {len(header)} columns in line 1, and not as many here")
            yield Table(place, {column: value for column, value in row.items() if value != ""})
    except csv.Error as error:
        raise Wrong(f"{name}, after line {reader.line_num}: this is not CSV ({error})") from None


class Fields:
    """A row, as JSON or as PostgreSQL and `mongoexport` spell them in CSV. Each raises Wrong."""

    def __init__(self, place: str, values: Mapping[str, Any]) -> None:
        self.place = place
        self._values = values

    def wrong(self, name: str, what: str) -> Wrong:
        return Wrong(f"{self.place}, `{name}`: {what}")

    def has(self, name: str) -> bool:
        """Whether there is anything but nothing: null, false, 0 and what is empty are nothing."""
        value = self._values.get(name)
        return bool(value) and str(value) not in {"{}", "[]", "null", "f", "false", "0"}

    def raw(self, name: str) -> str:
        """As it is written, to tell rows apart."""
        return str(self._values.get(name))

    def text(self, name: str) -> str | None:
        value = self._values.get(name)
        if value is None:
            return None
        if not isinstance(value, str):
            raise self.wrong(name, "this is not text")
        return value.strip() or None

    def flag(self, name: str) -> bool | None:
        """None where there is nothing."""
        value = self._values.get(name)
        if value is None:
            return None
        spelled = str(value).lower()
        if spelled not in _TRUE | _FALSE:
            raise self.wrong(name, "this is neither true nor false")
        return spelled in _TRUE

    def number(self, name: str) -> Decimal | None:
        """Not below zero."""
        value = self._values.get(name)
        if value is None:
            return None
        try:
            if isinstance(value, bool) or not isinstance(value, int | float | str):
                raise InvalidOperation
            number = Decimal(str(value))
        except InvalidOperation:
            raise self.wrong(name, "this is not a number") from None
        if not number.is_finite() or number < 0:
            raise self.wrong(name, "this is not a number from 0 on")
        if number > MAX_AMOUNT:
            raise self.wrong(name, f"this is more than {MAX_AMOUNT}")
        return number

    def whole(self, name: str) -> int | None:
        number = self.number(name)
        if number is None:
            return None
        if number != number.to_integral_value():
            raise self.wrong(name, "this is not a whole number")
        return int(number)

    def names(self, name: str) -> list[str]:
        """A list of texts: JSON, or an array as PostgreSQL writes it (`{a,"b c"}`)."""
        value = self._values.get(name)
        if isinstance(value, str):
            value = _array(value) if value.startswith("{") else self._parsed(name, value)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.wrong(name, "this is not a list of texts")
        return [item.strip() for item in value if item.strip()]

    def mapping(self, name: str) -> Mapping[str, Any]:
        """An object; empty where there is nothing."""
        value = self._values.get(name)
        if isinstance(value, str):
            value = self._parsed(name, value)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise self.wrong(name, "this is not an object")
        return value

    def moment(self, name: str) -> int | None:
        """Milliseconds since the epoch. A moment without a zone is in UTC, as Prisma stores it."""
        text = self.text(name)
        if text is None:
            return None
        try:
            at = datetime.fromisoformat(_OFFSET.sub(r"\1:00", text))
        except ValueError:
            raise self.wrong(name, "this is not a date such as 2027-01-31T18:00:00Z") from None
        return round((at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp() * 1000)

    def _parsed(self, name: str, text: str) -> Any:
        try:
            return json.loads(text)
        except (RecursionError, ValueError):
            raise self.wrong(name, "this is not JSON") from None


def _array(text: str) -> list[str]:
    """https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO, of one dimension."""
    inside = text.strip()[1:-1]
    items = re.findall(r'"((?:[^"\\]|\\.)*)"|([^,"{}]+)', inside)
    return [re.sub(r"\\(.)", r"\1", quoted) if quoted else bare for quoted, bare in items]
