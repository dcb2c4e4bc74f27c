"""What a command prints: a table on a terminal, tab-separated rows in a pipe, JSON on request.

Every command describes its answer once, as rows of plain JSON values; the three forms follow from that.
Text from strangers (paths, user names) is stripped of control characters, so that it cannot steer a terminal.
"""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import TextIO

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

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
        case int() | float():
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
    told = [column for column in columns if any(row.get(column) not in (None, "", {}) for row in rows)]
    for column in spare:
        if sum(_least_width(rows, each) + _GAP for each in told) - _GAP <= console.width:
            break
        told = [other for other in told if other != column]
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for column in told:
        numeric = all(_is_number(row.get(column)) for row in rows)
        wraps = _wraps(rows, column)
        table.add_column(_title(column), justify="right" if numeric else "left", no_wrap=not wraps)
    for row in rows:
        table.add_row(*(_styled(_short(_cell(row, column))) for column in told))
    console.print(table)


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float | None) and not isinstance(value, bool)


def _wraps(rows: Sequence[Row], column: str) -> bool:
    """Lists and sentences may take several lines, single words not."""
    values = [row.get(column) for row in rows]
    return any(
        isinstance(value, list | Mapping) or (isinstance(value, str) and " " in value) for value in values
    )


def _least_width(rows: Sequence[Row], column: str) -> int:
    texts = [_title(column), *(_short(_cell(row, column)) for row in rows)]
    if _wraps(rows, column):
        texts = [word for text in texts for word in text.split()]
    return max(cell_len(text) for text in texts)


def _short(text: str) -> str:
    """A moment to the minute: columns are dear."""
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
