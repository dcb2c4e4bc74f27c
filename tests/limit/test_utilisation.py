"""What each admission makes of a quota under a demand sixty times as large (the demand of the quota notes)."""

import statistics

from tests.support.demand import ASKED, Demand

MINUTES, WARM = 12, 5


def test_the_worst_case_is_never_over_and_uses_a_third() -> None:
    run = Demand("worst_case", seed=1).run(MINUTES, WARM)
    assert run.over == 0
    assert run.cut == 0
    assert 0.25 < run.share < 0.5


def test_fitted_is_never_over_and_uses_nine_tenths() -> None:
    runs = [Demand("fitted", seed).run(MINUTES, WARM) for seed in range(3)]
    assert [run.over for run in runs] == [0, 0, 0]
    assert statistics.median(run.share for run in runs) >= 0.9
    assert statistics.median(run.share_cut for run in runs) <= 0.02
    assert all(max(run.limits) < ASKED for run in runs)
