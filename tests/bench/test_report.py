"""Tables, plots and the generated part of the documentation."""

from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest

from bench.figures import Sample, Spread
from bench.report import BEGIN, END, PAGE, Report, between
from bench.section import Claim, Row, Section
from bench.svg import LABEL, bars
from bench.table import cell, markdown, number, plain

SECTION = Section(
    name="part",
    title="Some <part>",
    how="How it was.",
    columns={"cpu_us": "CPU µs", "redis": "Redis CPU µs"},
    rows=[
        Row("null", {"cpu_us": Spread(100, 90, 110)}),
        Row("ours", {"cpu_us": Spread(12.34, 10, 20), "redis": Spread(5, 5, 5)}, "20 of 20", "with a note"),
    ],
    claims=[Claim("it is fast", True, "1/8.1"), Claim("it is small", False, "no")],
    notes=["round 1 dropped"],
    rounds=[{"ours": Sample(1.0, 12.34)}],
    drawn="cpu_us",
)
REPORT = Report({"cpu": "some"}, [SECTION], {"other": "not to be had"})


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.123, "0.12"), (9.5, "9.50"), (12.34, "12.3"), (123.4, "123"), (12345.6, "12,346")],
    ids=str,
)
def test_a_number_has_the_digits_that_a_run_can_tell(value: float, expected: str) -> None:
    assert number(value) == expected


def test_a_cell_is_the_median_and_the_ends() -> None:
    assert cell(Spread(12.34, 10, 20)) == "12.3 (10.0-20.0)"
    assert cell(Spread(5, 5, 5)) == "5.00"
    assert cell(None) == "-"


def test_a_table_for_a_terminal() -> None:
    assert [line.split() for line in plain(SECTION).splitlines()] == [
        ["Some", "<part>", "CPU", "µs", "Redis", "CPU", "µs", "admitted"],
        ["null", "100", "(90.0-110)", "-"],
        ["ours", "(with", "a", "note)", "12.3", "(10.0-20.0)", "5.00", "20", "of", "20"],
        ["HOLDS:", "it", "is", "fast:", "1/8.1"],
        ["MISSED:", "it", "is", "small:", "no"],
        ["round", "1", "dropped"],
    ]
    table = plain(SECTION).splitlines()[:3]
    assert len({len(line) for line in table}) == 1


def test_a_table_for_the_documentation() -> None:
    assert markdown(SECTION).splitlines() == [
        "## Some <part>",
        "",
        "How it was.",
        "",
        "| Server | CPU µs | Redis CPU µs | admitted |",
        "| --- | ---: | ---: | ---: |",
        "| null | 100 (90.0-110) | - | - |",
        "| ours (with a note) | 12.3 (10.0-20.0) | 5.00 | 20 of 20 |",
        "",
        "- HOLDS: it is fast: 1/8.1",
        "- MISSED: it is small: no",
        "- round 1 dropped",
    ]


def test_bars_are_drawn_to_scale() -> None:
    drawn = ElementTree.fromstring(
        bars("a & b", "µs", [("null", Spread(50, 40, 60)), ("ours", Spread(100, 80, 120))])
    )
    ground, *rects = [each for each in drawn if each.tag.endswith("rect")]
    widths = [float(each.attrib["width"]) for each in rects]
    assert widths[1] == pytest.approx(2 * widths[0], abs=0.2)
    assert rects[0].attrib["fill"] != rects[1].attrib["fill"]
    assert all(LABEL + width < float(ground.attrib["width"]) for width in widths)
    texts = ["".join(each.itertext()) for each in drawn if each.tag.endswith("text")]
    assert texts == ["a & b", "µs", "null", "50.0", "ours", "100"]


def test_nothing_is_not_drawn() -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        bars("a", "b", [])


def test_a_report_is_drawn_and_kept(tmp_path: Path) -> None:
    REPORT.write_json(tmp_path / "all.json")
    kept = msgspec.json.decode((tmp_path / "all.json").read_bytes())
    assert kept["machine"] == {"cpu": "some"}
    assert kept["sections"][0]["rounds"][0]["ours"]["cpu_us"] == 12.34
    REPORT.draw(tmp_path / "plots")
    assert [each.name for each in (tmp_path / "plots").iterdir()] == ["performance-part.svg"]


def test_only_the_generated_part_of_a_page_is_replaced() -> None:
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert between(page, "new") == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    assert between(between(page, "new"), "new") == between(page, "new")
    with pytest.raises(ValueError, match="lacks"):
        between("before\nafter\n", "new")


def test_the_documentation_has_a_generated_part() -> None:
    text = between(PAGE.read_text(), REPORT.markdown())
    assert "Taken on cpu some." in text
    assert "- other: not to be had" in text
    assert "![Some <part>](performance-part.svg)" in text
