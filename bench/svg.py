"""Bars with whiskers as SVG: a row for each server, the median as its length, least and most as a line."""

from collections.abc import Sequence
from xml.sax.saxutils import escape

from bench.figures import Spread
from bench.table import number

WIDTH, LABEL, ROW, TOP = 860, 300, 26, 46
_RIGHT = 120  # for the figure behind the bar
_INK, _BAR, _NULL = "#24292f", "#4078c0", "#9aa4ad"


def bars(title: str, unit: str, rows: Sequence[tuple[str, Spread]]) -> str:
    """A whole SVG file. Rows whose name begins with `null` are drawn in grey."""
    if not rows:
        raise ValueError("there is nothing to draw")
    height = TOP + ROW * len(rows) + 16
    most = max(spread.most for _, spread in rows) or 1.0
    scale = (WIDTH - LABEL - _RIGHT) / most
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" font-family="sans-serif" font-size="13" fill="{_INK}">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="12" y="24" font-size="15" font-weight="bold">{escape(title)}</text>',
        f'<text x="{WIDTH - 12}" y="24" text-anchor="end">{escape(unit)}</text>',
    ]
    for at, (name, spread) in enumerate(rows):
        top = TOP + ROW * at
        middle, end = top + ROW / 2 - 4, LABEL + spread.most * scale
        colour = _NULL if name.startswith("null") else _BAR
        lines += [
            f'<text x="{LABEL - 8}" y="{middle + 5:.1f}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{LABEL}" y="{top}" width="{spread.median * scale:.1f}" height="{ROW - 8}" fill="{colour}"/>',
            f'<line x1="{LABEL + spread.least * scale:.1f}" x2="{end:.1f}" y1="{middle:.1f}" y2="{middle:.1f}" '
            f'stroke="{_INK}" stroke-width="2"/>',
            f'<text x="{end + 8:.1f}" y="{middle + 5:.1f}">{number(spread.median)}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])
