"""Growth: what a size says, and what all sizes say together."""

import pytest
from msgspec.structs import replace

from bench.growth import OfSize, section
from bench.growth_run import measure
from bench.taking import longest_ms

FEW = OfSize(100, 20.0, 20.0, 20.0, 20.0, 1.0, 600.0, 900.0, 9999.0, 7, 7, 0.5)
MANY = OfSize(1_000_000, 20.0, 24.0, 25.0, 30.0, 4.0, 600.0, 900.0, 200.0, 7, 7, 0.5)


def test_a_small_one_is_measured_and_exact() -> None:
    figures = measure(100, decisions=200)
    assert figures.admitted == figures.expected
    assert min(figures.few_us, figures.uniform_us, figures.zipf_us, figures.growing_us, figures.pause_ms) > 0


@pytest.mark.parametrize(
    ("many", "held"),
    [
        pytest.param(MANY, [True, True, True], id="all hold"),
        pytest.param(replace(MANY, zipf_us=25.1), [False, True, True], id="slower"),
        pytest.param(replace(MANY, pause_ms=5.1), [True, False, True], id="a pause"),
        pytest.param(replace(MANY, bytes_per_counter=251.0), [True, True, False], id="larger"),
    ],
)
def test_the_bounds(many: OfSize, held: list[bool]) -> None:
    assert [claim.held for claim in section([{100: FEW, 1_000_000: many}]).claims] == held


def test_the_pause_of_the_machine_alone_stands_beside() -> None:
    told = section([{100: FEW, 1_000_000: replace(MANY, pause_ms=20.0, taking_ms=33.0)}]).claims[1]
    assert not told.held
    assert told.found == "20.00 ms; a process that only takes as much memory: 33.00 ms"


def test_taking_memory_takes_time() -> None:
    assert 0 < longest_ms(1 << 20) < 10_000


def test_a_wrong_total_is_told() -> None:
    rows = section([{100: FEW, 1_000_000: replace(MANY, admitted=8)}]).rows
    assert [row.admitted for row in rows] == ["7 of 7", "8 of 7 WRONG"]
