"""Sections as text: for a terminal, and as Markdown."""

from collections.abc import Sequence

from bench.figures import Spread
from bench.section import Row, Section


def number(value: float) -> str:
    """As many digits as a run can tell."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def cell(spread: Spread | None) -> str:
    """Median (least-most)."""
    if spread is None:
        return "-"
    if spread.least == spread.most:
        return number(spread.median)
    return f"{number(spread.median)} ({number(spread.least)}-{number(spread.most)})"


def cells(section: Section) -> list[list[str]]:
    """The heading, then a line for each row."""
    gate = any(row.admitted for row in section.rows)
    lines = [[section.title, *section.columns.values(), *(["admitted"] if gate else [])]]
    for row in section.rows:
        lines.append(
            [
                _named(row),
                *(cell(row.figures.get(column)) for column in section.columns),
                *([row.admitted] if gate else []),
            ]
        )
    return lines


def _named(row: Row) -> str:
    return f"{row.name} ({row.note})" if row.note else row.name


def plain(section: Section) -> str:
    """For a terminal."""
    lines = cells(section)
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    text = []
    for line in lines:
        first, *rest = [
            word.ljust(width) if not at else word.rjust(width)
            for at, (word, width) in enumerate(zip(line, widths, strict=True))
        ]
        text.append("  ".join([first, *rest]))
    return "\n".join([*text, *map(str, section.claims), *section.notes])


def markdown(section: Section) -> str:
    """For the documentation."""
    heading, *lines = cells(section)
    heading[0] = "Server"
    rows = [_line(heading), _line(["---", *["---:"] * (len(heading) - 1)]), *map(_line, lines)]
    said = [f"- {claim}" for claim in section.claims] + [f"- {note}" for note in section.notes]
    return "\n".join([f"## {section.title}", "", section.how, "", *rows, *(["", *said] if said else [])])


def _line(words: Sequence[str]) -> str:
    return "| " + " | ".join(word or "-" for word in words) + " |"
