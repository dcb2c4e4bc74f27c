"""Runs servers in turns, between two runs of the null servers, and drops a round in which those differ."""

from collections.abc import Callable, Sequence

from msgspec import Struct

from bench.figures import DRIFT, Sample, drifted

EXTRA = 3
"""So many rounds more than asked for, at most, in place of those that were dropped."""


class Contestant(Struct, frozen=True):
    """One server under one load."""

    name: str
    run: Callable[[], Sample]
    null: bool = False  # also runs at the end of a round


class Outcome(Struct, frozen=True):
    """The rounds that count, and what was said of the others."""

    rounds: list[dict[str, Sample]]
    dropped: list[str]


def interleave(
    contestants: Sequence[Contestant], rounds: int, say: Callable[[str], None], *, drift: float = DRIFT
) -> Outcome:
    """Each once in every round, in the same order. If too few rounds are quiet, all are kept and that is said."""
    for each in contestants:
        each.run()  # warm
    kept: list[dict[str, Sample]] = []
    noisy: list[dict[str, Sample]] = []
    dropped: list[str] = []
    for number in range(1, rounds + EXTRA + 1):
        samples = {each.name: each.run() for each in contestants}
        differing = []
        for each in contestants:
            if each.null:
                again, first = each.run(), samples[each.name]
                if drifted(first.cpu_us, again.cpu_us, drift):
                    differing.append(f"{each.name} {first.cpu_us:.1f} and {again.cpu_us:.1f} µs")
        if differing:
            noisy.append(samples)
            dropped.append(f"round {number} dropped, the null runs differ: {', '.join(differing)}")
            say(dropped[-1])
        else:
            kept.append(samples)
        if len(kept) == rounds:
            break
    if len(kept) < min(3, rounds):
        dropped.append(f"only {len(kept)} quiet rounds of {len(kept) + len(noisy)}: all are counted")
        say(dropped[-1])
        kept += noisy
    return Outcome(kept, dropped)
