"""What a command prints: a table on a terminal, tab-separated rows in a pipe, JSON on request.

Every command describes its answer once, as rows of plain JSON values; the three forms follow from that.
Text from strangers (paths, user names) is stripped of control characters, so that it cannot steer a terminal.
"""

import json
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Literal, TextIO

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from authz.cli.values import spell_wait

Value = str | int | float | bool | None | Sequence["Value"] | Mapping[str, "Value"]
Row = Mapping[str, Value]

NOTHING = "-"
_WORDS_FOR_NOTHING = {
    "models": "inherited",
    "expires_at": "never",
    "last_used_at": "never",
    "until": "for ever",
}

_GAP = 3  # between two columns
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_STYLES = {
    "active": "green",
    "revoked": "red",
    "expired": "yellow",
    "disabled": "red",
    "yes": "green",
    "no": "red",
}


def show_rows(
    rows: Sequence[Row], columns: Sequence[str], *, as_json: bool, none: str, spare: Sequence[str] = ()
) -> None:
    """Print many things. A table shows `columns`, JSON everything; `none` is said where there are none.

    Where the terminal is too narrow, columns in `spare` are left out, one after the other.
    """
    if as_json:
        show_json(rows)
    elif sys.stdout.isatty():
        _show_table(rows, columns, none, spare)
    else:
        _line(columns)
        for row in rows:
            _line([_cell(row, column) for column in columns])


def show_record(row: Row, *, as_json: bool) -> None:
    """Print one thing: a line per field."""
    if as_json:
        show_json(row)
    elif sys.stdout.isatty():
        console = Console(highlight=False)
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for name in row:
            table.add_row(_title(name), _styled(_cell(row, name)))
        console.print(table)
    else:
        for name in row:
            _line([name, _cell(row, name)])


def show_json(value: Value) -> None:
    """Print JSON, indented, one document."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def say(text: str) -> None:
    """One plain line of an answer."""
    sys.stdout.write(printable(text) + "\n")


def note(text: str) -> None:
    """For the person at the terminal, beside the answer: goes to stderr."""
    _stderr(text, "dim")


def complain(message: str, hint: str = "") -> None:
    """An error, and what to do next, on stderr."""
    _stderr(message, "", lead="error: ")
    if hint:
        _stderr(hint, "dim", lead="  ")


def spell(value: Value) -> str:
    """A value for a person: one line, nothing that a terminal would obey."""
    match value:
        case None:
            return NOTHING
        case bool():
            return "yes" if value else "no"
        case str():
            return printable(value) or NOTHING
        case float():
            return f"{Decimal(repr(value)):f}"  # the shortest that is exact, and never 1e-05
        case int():
            return str(value)
        case Mapping():
            parts = [f"{printable(key)}={spell(inner)}" for key, inner in value.items() if inner]
            return ", ".join(parts) or NOTHING
    return ", ".join(spell(inner) for inner in value) or "none"


def printable(text: str) -> str:
    """The text without control and formatting characters (attacks on whoever reads a log)."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _show_table(rows: Sequence[Row], columns: Sequence[str], none: str, spare: Sequence[str]) -> None:
    console = Console(highlight=False)
    if not rows:
        console.print(Text(none, style="dim"))
        return
    told = {
        column: _Column(column, rows)
        for column in columns
        if any(row.get(column) not in (None, "", {}) for row in rows)
    }
    for name in spare:
        if _left_over(told.values(), console.width) >= 0:
            break
        told.pop(name, None)
    left = max(0, _left_over(told.values(), console.width))
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for column in told.values():
        more = min(column.most - column.least, left)
        left -= more
        side: Literal["left", "right"] = "right" if column.numeric else "left"
        table.add_column(column.title, justify=side, width=column.least + more, overflow="fold")
    for cells in zip(*(column.cells for column in told.values()), strict=True):
        table.add_row(*map(_styled, cells))
    console.print(table)


class _Column:
    """A column's cells, and how wide it must and may be. Lists and sentences may take several lines."""

    def __init__(self, name: str, rows: Sequence[Row]) -> None:
        values = [row.get(name) for row in rows]
        self.title = _title(name)
        self.cells = [_short(row, name) for row in rows]
        self.numeric = all(
            isinstance(value, int | float | None) and not isinstance(value, bool) for value in values
        )
        texts = [self.title, *self.cells]
        self.most = max(map(cell_len, texts))
        wraps = any(
            " " in value if isinstance(value, str) else isinstance(value, list | Mapping) for value in values
        )
        self.least = max(cell_len(word) for text in texts for word in text.split()) if wraps else self.most


def _left_over(columns: Collection[_Column], width: int) -> int:
    return width - sum(column.least for column in columns) - _GAP * (len(columns) - 1)


def _short(row: Row, column: str) -> str:
    """A moment to the minute, for columns are dear; a time to wait in words."""
    value = row.get(column)
    if column.endswith("_after") and isinstance(value, int | float):
        return spell_wait(value)
    text = _cell(row, column)
    return f"{text[:10]} {text[11:16]}" if _MOMENT.fullmatch(text) else text


def _cell(row: Row, column: str) -> str:
    value = row.get(column)
    return _WORDS_FOR_NOTHING.get(column, NOTHING) if value is None else spell(value)


def _title(name: str) -> str:
    return name.removesuffix("_at").replace("_", " ")


def _styled(text: str) -> Text:
    style = "dim" if text == NOTHING else _STYLES.get(text, "")
    return Text(text, style=style)


def _line(cells: Sequence[str]) -> None:
    sys.stdout.write("\t".join(cells) + "\n")


def _stderr(text: str, style: str, *, lead: str = "") -> None:
    stream: TextIO = sys.stderr
    clean = "\n".join(printable(line) for line in _without_secrets(text).split("\n"))
    if stream.isatty():
        console = Console(file=stream, highlight=False, soft_wrap=True)
        console.print(Text.assemble((lead, "bold red" if lead.strip() else ""), (clean, style)))
    else:
        stream.write(lead + clean + "\n")


_SECRET = re.compile(r"sk-[\w-]{8,}|eyJ[\w.-]{16,}")


def _without_secrets(text: str) -> str:
    """A message without the key or token that somebody pasted into a command line by mistake."""
    return _SECRET.sub("(a secret, not repeated)", text)
