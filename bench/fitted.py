"""How much of a quota is used: the worst case held, what is learned and enforced, what is learned alone.

`python -m bench.fitted [SEEDS] [MINUTES]`: medians over the seeds, after five minutes that do not count.
"""

import statistics
import sys
import time

from tests.support.demand import Demand


def main(seeds: int = 5, minutes: int = 30) -> None:
    print(
        f"{'admission':<12} {'used':>7} {'cut':>7} {'requests/min':>13} {'limit':>7} {'minutes over':>13}"
        f"   ({seeds} seeds, {minutes} simulated minutes each)"
    )
    for admission in ("worst_case", "fitted", "learned"):
        begun = time.perf_counter()
        runs = [Demand(admission, seed).run(minutes, warm=5) for seed in range(seeds)]
        print(
            f"{admission:<12} {statistics.median(run.share for run in runs):>7.1%} "
            f"{statistics.median(run.share_cut for run in runs):>7.2%} "
            f"{statistics.median(run.admitted / minutes for run in runs):>13.0f} "
            f"{statistics.median(statistics.fmean(run.limits) for run in runs):>7.0f} "
            f"{sum(run.over for run in runs) / (seeds * minutes):>13.1%}"
            f"   {time.perf_counter() - begun:.0f} s"
        )


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
