"""`python -m bench`: what a decision costs, beside null servers and peers in the same run.

The server has core 0, the load core 1; all of it is on the loopback interface, bounded in count and time.
"""

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench import behind_envoy, growth, http, lanes, latency, mixes, ratelimits
from bench.machine import LOAD_CORE, facts, pin, require_tools
from bench.peers import cache, reasons
from bench.report import Report, write_docs
from bench.section import Context, Section
from bench.table import plain

PARTS: dict[str, Callable[[Context], Section]] = {
    "grpc": lanes.run,
    "http": http.run,
    "envoy": behind_envoy.run,
    "ratelimit": ratelimits.run,
    "mixes": mixes.run,
    "latency": latency.run,
    "growth": growth.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each part (5)")
    parser.add_argument(
        "--only",
        action="append",
        choices=list(PARTS),
        metavar="NAME",
        help=f"of {', '.join(PARTS)}; may be repeated",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write everything there, every round included"
    )
    parser.add_argument("--svg", type=Path, metavar="DIRECTORY", help="draw the parts into it")
    parser.add_argument(
        "--write-docs", action="store_true", help="write the tables and plots of docs/performance.md anew"
    )
    told = parser.parse_args()
    require_tools()
    pin(os.getpid(), LOAD_CORE)
    sections = []
    machine = facts()
    print("; ".join(f"{name} {value}" for name, value in machine.items()), flush=True)
    left_out = reasons(cache())
    for name, reason in left_out.items():
        print(f"left out: {name}: {reason}", flush=True)
    for name in told.only or PARTS:
        with tempfile.TemporaryDirectory() as scratch:
            context = Context(told.rounds, Path(scratch), lambda line: print(line, flush=True), cache())
            sections.append(PARTS[name](context))
        print(f"\n{plain(sections[-1])}", flush=True)
    report = Report(machine, sections, left_out)
    if told.json is not None:
        report.write_json(told.json)
    if told.svg is not None:
        report.draw(told.svg)
    if told.write_docs:
        write_docs(report)


if __name__ == "__main__":
    main()
