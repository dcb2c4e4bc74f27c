"""Servers take turns; a round between two null runs that differ does not count."""

from collections.abc import Iterator

from bench.figures import Sample
from bench.rounds import EXTRA, Contestant, interleave


class Fake:
    """Contestants whose null runs cost what is listed, one after the other: the first warms."""

    def __init__(self, *nulls: float) -> None:
        self.order: list[str] = []
        self.said: list[str] = []
        self._nulls: Iterator[float] = iter(nulls)

    def contestants(self) -> list[Contestant]:
        return [Contestant("null", self.null, null=True), Contestant("ours", self.ours)]

    def null(self) -> Sample:
        self.order.append("null")
        return Sample(1.0, next(self._nulls))

    def ours(self) -> Sample:
        self.order.append("ours")
        return Sample(1.0, float(len(self.order)))


def test_null_runs_enclose_each_round() -> None:
    fake = Fake(5, 10, 10, 10, 10)
    outcome = interleave(fake.contestants(), 2, fake.said.append)
    assert fake.order == ["null", "ours", *["null", "ours", "null"] * 2]
    assert [each["ours"].cpu_us for each in outcome.rounds] == [4, 7]
    assert outcome.dropped == fake.said == []


def test_another_round_takes_the_place_of_a_noisy_one() -> None:
    fake = Fake(10, 10, 12, *[10] * 6)
    outcome = interleave(fake.contestants(), 3, fake.said.append)
    assert [each["ours"].cpu_us for each in outcome.rounds] == [7, 10, 13]
    assert fake.said == ["round 1 dropped, the null runs differ: null 10.0 and 12.0 µs"]


def test_extra_rounds_are_bounded() -> None:
    fake = Fake(10, *[10, 10] * 4, *[10, 20] * (1 + EXTRA))
    outcome = interleave(fake.contestants(), 5, fake.said.append)
    assert len(outcome.rounds) == 4
    assert len(outcome.dropped) == 1 + EXTRA


def test_where_hardly_a_round_is_quiet_all_count_and_that_is_said() -> None:
    fake = Fake(10, 10, 10, *[10, 20] * (2 + EXTRA))
    outcome = interleave(fake.contestants(), 3, fake.said.append)
    assert len(outcome.rounds) == 3 + EXTRA
    assert outcome.dropped[-1] == f"only 1 quiet rounds of {3 + EXTRA}: all are counted"
    assert outcome.dropped == fake.said
