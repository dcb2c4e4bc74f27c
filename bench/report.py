"""All parts of a run: as JSON, as plots, and as the generated half of docs/performance.md."""

from pathlib import Path

import msgspec
from msgspec import Struct

from bench.section import Section
from bench.svg import bars
from bench.table import markdown

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = DOCS / "performance.md"
BEGIN, END = "<!-- figures: written by `python -m bench --write-docs` -->", "<!-- end of the figures -->"


class Report(Struct, frozen=True):
    """What `--json` keeps."""

    machine: dict[str, str]
    sections: list[Section]
    left_out: dict[str, str] = {}  # peers that could not be built, and why

    def write_json(self, file: Path) -> None:
        file.write_bytes(msgspec.json.format(msgspec.json.encode(self)) + b"\n")

    def draw(self, directory: Path) -> None:
        """`performance-NAME.svg` of each part that is drawn."""
        directory.mkdir(parents=True, exist_ok=True)
        for section in self.sections:
            rows = [
                (row.name, row.figures[section.drawn]) for row in section.rows if section.drawn in row.figures
            ]
            if rows:
                drawn = bars(section.title, section.columns[section.drawn], rows)
                (directory / f"performance-{section.name}.svg").write_text(drawn)

    def markdown(self) -> str:
        told = ", ".join(f"{name} {value}" for name, value in self.machine.items())
        parts = []
        for section in self.sections:
            parts.append(markdown(section))
            if section.drawn:
                parts.append(f"![{section.title}](performance-{section.name}.svg)")
        absent = [f"- {name}: {reason}" for name, reason in self.left_out.items()]
        if absent:
            parts.append(
                "\n".join(
                    [
                        "## Left out",
                        "",
                        "What could not be built from its registry on this machine:",
                        "",
                        *absent,
                    ]
                )
            )
        return "\n\n".join([f"Taken on {told}.", *parts])


def between(page: str, text: str) -> str:
    """The page with its generated part replaced. ValueError: it has none."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page lacks {BEGIN} or {END}")
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def write_docs(report: Report) -> None:
    """The tables and plots of the documentation, from this run alone."""
    PAGE.write_text(between(PAGE.read_text(), report.markdown()))
    report.draw(DOCS)
