"""From a hundred keys to a million: CPU for each decision, the longest pause, memory of a counter."""

import subprocess
import sys
from collections.abc import Sequence

import msgspec

from bench.figures import Spread
from bench.growth_run import Figures
from bench.section import Claim, Context, Row, Section

SIZES = (100, 1_000, 10_000, 100_000, 1_000_000)
COLUMNS = {
    "uniform_us": "µs, evenly", "zipf_us": "µs, Zipf", "growing_us": "µs, new counters", "pause_ms": "longest ms",
    "bytes_per_key": "bytes / key", "bytes_per_caller": "bytes / caller", "bytes_per_counter": "bytes / counter",
}  # fmt: skip


def one(keys: int) -> Figures:
    """In a process of its own."""
    argv = [sys.executable, "-m", "bench.growth_run", str(keys)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=1800, check=True)
    return msgspec.json.decode(done.stdout, type=Figures)


def run(context: Context) -> Section:
    rounds = [{size: one(size) for size in SIZES} for _ in range(max(1, context.rounds // 3))]
    return section(rounds)


def section(rounds: Sequence[dict[int, Figures]]) -> Section:
    """What so many rounds over all sizes say."""
    sizes = list(rounds[0])
    least, most = sizes[0], sizes[-1]
    rows = []
    for size in sizes:
        # Their memory only shows where there are many.
        figures = {
            name: Spread.of([getattr(each[size], name) for each in rounds])
            for name in COLUMNS
            if not name.startswith("bytes") or size >= 100_000
        }
        admitted = sum(each[size].admitted for each in rounds)
        expected = sum(each[size].expected for each in rounds)
        rows.append(
            Row(
                f"{size:,} keys",
                figures,
                f"{admitted} of {expected}{'' if admitted == expected else ' WRONG'}",
            )
        )
    grown = {
        way: Spread.of([getattr(each[most], way) / getattr(each[least], way) for each in rounds])
        for way in ("uniform_us", "zipf_us")
    }
    worst = max(grown.values(), key=lambda each: each.median)
    pause = min(max(figures.pause_ms for figures in each.values()) for each in rounds)
    size_of = Spread.of([each[most].bytes_per_counter for each in rounds])
    return Section(
        name="growth",
        title="From a hundred keys to a million",
        how="In one process without a wire, in memory: one limit by key, so that each key has a counter. CPU of the deciding thread; the "
        "longest single decision, garbage collection or upkeep of the store.",
        columns=COLUMNS,
        rows=rows,
        claims=[
            Claim(
                "a decision among the most keys costs at most 1.25 times that among the fewest",
                worst.median <= 1.25,
                f"{worst.median:.2f}",
            ),
            Claim(
                "no pause above 5 ms of thread CPU time (in the quietest round)",
                pause <= 5,
                f"{pause:.2f} ms",
            ),
            Claim("at most 250 bytes for each counter", size_of.median <= 250, f"{size_of.median:.0f}"),
        ],
        rounds=[{str(size): figures for size, figures in each.items()} for each in rounds],
        drawn="uniform_us",
    )
