"""From a hundred keys to a million: CPU for each decision, the longest pause, memory of a counter."""

import subprocess
import sys
from collections.abc import Sequence

import msgspec

from bench.figures import Spread
from bench.growth_run import FEW, Figures
from bench.section import Claim, Context, Row, Section

SIZES = (100, 1_000, 10_000, 100_000, 1_000_000)
COLUMNS = {
    "few_us": f"µs, {FEW} keys beside", "uniform_us": "µs, evenly", "zipf_us": "µs, Zipf", "growing_us": "µs, new counters", "pause_ms": "longest ms",
    "taking_ms": "ms of taking memory", "bytes_per_key": "bytes / key", "bytes_per_caller": "bytes / caller", "bytes_per_counter": "bytes / counter",
}  # fmt: skip


class OfSize(Figures, frozen=True):
    """And the longest pause of a process that only takes as much memory."""

    taking_ms: float


def one(keys: int) -> OfSize:
    """In a process of its own, and its memory in another."""
    figures = msgspec.json.decode(_told("bench.growth_run", keys), type=Figures)
    size = round(keys * (figures.bytes_per_key + figures.bytes_per_caller))
    return OfSize(**msgspec.structs.asdict(figures), taking_ms=float(_told("bench.taking", size)))


def _told(module: str, size: int) -> str:
    argv = [sys.executable, "-m", module, str(size)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=1800, check=True).stdout


def run(context: Context) -> Section:
    rounds = [{size: one(size) for size in SIZES} for _ in range(max(1, context.rounds // 3))]
    return section(rounds)


def section(rounds: Sequence[dict[int, OfSize]]) -> Section:
    """What so many rounds over all sizes say."""
    sizes = list(rounds[0])
    most = sizes[-1]
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
        way: Spread.of([getattr(each[most], way) / each[most].few_us for each in rounds])
        for way in ("uniform_us", "zipf_us")
    }
    worst = max(grown.values(), key=lambda each: each.median)
    pause, taking = min(
        (max(each[size].pause_ms for size in sizes), max(each[size].taking_ms for size in sizes))
        for each in rounds
    )
    size_of = Spread.of([each[most].bytes_per_counter for each in rounds])
    return Section(
        name="growth",
        title="From a hundred keys to a million",
        how="In one process without a wire, in memory: one limit by key, so that each key has a counter. CPU of the deciding thread, in turns with "
        "a second service in the same process that has a hundred keys; the longest single decision, garbage collection or upkeep of the store, by the thread's CPU and by the wall, beside the longest of a process "
        "that only takes as much memory, page by page: what the machine alone pauses for.",
        columns=COLUMNS,
        rows=rows,
        claims=[
            Claim(
                "a decision among the most keys costs at most 1.25 times one among a hundred, in turns with it",
                worst.median <= 1.25,
                f"{worst.median:.2f}",
            ),
            Claim(
                "no pause above 5 ms of thread CPU time (in the quietest round)",
                pause <= 5,
                f"{pause:.2f} ms; a process that only takes as much memory: {taking:.2f} ms",
            ),
            Claim("at most 250 bytes for each counter", size_of.median <= 250, f"{size_of.median:.0f}"),
        ],
        rounds=[{str(size): figures for size, figures in each.items()} for each in rounds],
        drawn="uniform_us",
    )
