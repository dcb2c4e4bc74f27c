"""Growth: what a size says, and what all sizes say together."""

import pytest
from msgspec.structs import replace

from bench.growth import section
from bench.growth_run import Figures, measure

FEW = Figures(100, 20.0, 20.0, 20.0, 1.0, 600.0, 900.0, 9999.0, 7, 7)
MANY = Figures(1_000_000, 24.0, 25.0, 30.0, 4.0, 600.0, 900.0, 200.0, 7, 7)


def test_a_small_one_is_measured_and_exact() -> None:
    figures = measure(100, decisions=200)
    assert figures.admitted == figures.expected
    assert min(figures.uniform_us, figures.zipf_us, figures.growing_us, figures.pause_ms) > 0


@pytest.mark.parametrize(
    ("many", "held"),
    [
        pytest.param(MANY, [True, True, True], id="all hold"),
        pytest.param(replace(MANY, zipf_us=25.1), [False, True, True], id="slower"),
        pytest.param(replace(MANY, pause_ms=5.1), [True, False, True], id="a pause"),
        pytest.param(replace(MANY, bytes_per_counter=251.0), [True, True, False], id="larger"),
    ],
)
def test_the_bounds(many: Figures, held: list[bool]) -> None:
    assert [claim.held for claim in section([{100: FEW, 1_000_000: many}]).claims] == held


def test_a_wrong_total_is_told() -> None:
    rows = section([{100: FEW, 1_000_000: replace(MANY, admitted=8)}]).rows
    assert [row.admitted for row in rows] == ["7 of 7", "8 of 7 WRONG"]
