"""What a part of the bench found, as it is printed, drawn and kept."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from bench.figures import Sample, Spread, ratio, spread
from bench.rounds import Outcome


class Row(Struct, frozen=True):
    """One server. `figures` in the section's columns; a missing one does not exist for it."""

    name: str
    figures: dict[str, Spread]
    admitted: str = ""  # beside what should have been admitted
    note: str = ""


class Claim(Struct, frozen=True):
    """What the figures should show, and whether they do."""

    text: str
    held: bool
    found: str

    def __str__(self) -> str:
        return f"{'HOLDS' if self.held else 'MISSED'}: {self.text}: {self.found}"


class Section(Struct, frozen=True, kw_only=True):
    """One part."""

    name: str
    title: str
    how: str
    columns: dict[str, str]  # name of a figure, heading
    rows: list[Row]
    claims: list[Claim] = []
    notes: list[str] = []
    rounds: list[dict[str, Any]] = []
    drawn: str = ""  # the column that is drawn as bars


class Context(Struct, frozen=True):
    """How a part is to be run."""

    rounds: int
    scratch: Path
    say: Callable[[str], None]
    peers: Path  # where `python -m bench.peers` put them


RATES = {"per_second": "decisions/s", "cpu_us": "CPU µs", "ratio": "CPU / null"}


def rated(outcome: Outcome, beside: Mapping[str, str], more: Sequence[str] = ()) -> list[Row]:
    """A row for each server with decisions per second, CPU, and CPU beside that of another in the same round."""
    rows = []
    for name, other in beside.items():
        figures = {figure: spread(outcome.rounds, name, figure) for figure in ("per_second", "cpu_us")}
        figures["ratio"] = ratio(outcome.rounds, name, other, "cpu_us")
        samples: list[Sample] = [each[name] for each in outcome.rounds]
        for figure in more:
            if all(figure in each.other_us or figure in each.latency_us for each in samples):
                figures[figure] = spread(outcome.rounds, name, figure)
        rows.append(Row(name, figures))
    return rows


def with_admitted(rows: Sequence[Row], admitted: Mapping[str, str]) -> list[Row]:
    return [Row(row.name, row.figures, admitted.get(row.name, row.admitted), row.note) for row in rows]


def kept(outcome: Outcome) -> list[dict[str, Any]]:
    """Every round, for the file."""
    return [dict(each) for each in outcome.rounds]
