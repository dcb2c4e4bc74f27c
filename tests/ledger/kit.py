"""Entries in few words, and a ledger in plain Python to compare with."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from authz.store.protocols import UsageRow
from authz.store.records import Entry, Facts, Note, Source
from authz.usage import Usage

FIGURES = (
    "requests",
    "input_tokens",
    "output_tokens",
    "cached_input_tokens",
    "reasoning_tokens",
    "cost",
    "estimated_input_tokens",
    "estimated_output_tokens",
)
DIMENSIONS = ("user", "team", "key", "model", "route", "gateway", "source")

USED = Usage(10, 20, 3, 4)

Sums = dict[tuple[str, ...], tuple[int, ...]]


def entry(
    name: str | int,
    at: int,
    *,
    source: Source = Source.REPORTED,
    user: str = "alice",
    team: str = "nlp",
    key: str = "key_1",
    model: str = "llama3",
    route: str = "inference",
    gateway: str = "edge",
    usage: Usage = USED,
    cost: int = 9_000_000,
) -> Entry:
    """One request that used something."""
    return Entry(
        reservation=f"rsv_{name}",
        gateway=gateway,
        at=at,
        ended_at=at + 532,
        facts=Facts(request_id=f"req_{name}", user=user, team=team, key=key, model=model, route=route),
        note=Note(usage=usage, cost=cost, source=source, status=200, duration_ms=532),
    )


def at(local: str, zone: str = "UTC", fold: int = 0) -> int:
    """`2026-10-25 03:30` in the zone, as ms since the epoch."""
    moment = datetime.fromisoformat(local).replace(tzinfo=ZoneInfo(zone), fold=fold)
    return int(moment.timestamp() * 1000)


def day_of(moment: int, zone: str) -> str:
    return datetime.fromtimestamp(moment / 1000, ZoneInfo(zone)).date().isoformat()


def sums(entries: Iterable[Entry], by: Sequence[str], zone: str) -> Sums:
    """What `usage` should tell of these entries."""
    found: dict[tuple[str, ...], list[int]] = defaultdict(lambda: [0] * len(FIGURES))
    for each in entries:
        named = {
            **{name: getattr(each.facts, name) for name in ("user", "team", "key", "model", "route")},
            "gateway": each.gateway,
            "source": str(each.note.source),
            "day": day_of(each.at, zone),
        }
        used, guessed = each.note.usage, each.note.source in (Source.ESTIMATED, Source.EXPIRED)
        uncounted = (used.input, used.output) if guessed else (0, 0)
        figures = (1, used.input, used.output, used.cached, used.reasoning, each.note.cost, *uncounted)
        group = found[tuple(named[name] for name in by)]
        for index, figure in enumerate(figures):
            group[index] += figure
    return {group: tuple(figures) for group, figures in found.items()}


def told(rows: Iterable[UsageRow]) -> Sums:
    """What `usage` did tell."""
    found: Sums = {}
    for row in rows:
        group = tuple(row.group.values())
        assert group not in found
        found[group] = tuple(getattr(row, name) for name in FIGURES)
    return found


def matches(each: Entry, only: Mapping[str, str]) -> bool:
    named = {"gateway": each.gateway, "source": str(each.note.source)}
    return all(named.get(name, getattr(each.facts, name, None)) == value for name, value in only.items())
