"""Sums, rows and a ledger in plain Python agree, whatever happens in whatever order."""

from collections.abc import Sequence
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from authz.store.records import Entry, Source
from authz.store.sqlite.database import Database, in_memory
from authz.store.sqlite.ledger import save
from authz.store.sqlite.ledger_reading import SqliteLedger
from authz.store.sqlite.ledger_upkeep import set_timezone, trim
from authz.usage import Usage
from tests.ledger.kit import DIMENSIONS, at, day_of, entry, matches, sums, told

ZONE = "Europe/Helsinki"
HOUR, DAY = 3_600_000, 86_400_000
RETENTION = 7 * DAY
SPRING, AUTUMN = at("2026-03-29 00:00", ZONE), at("2026-10-25 00:00", ZONE)  # days of 23 and 25 hours
END = at("2027-01-01 00:00", ZONE)

moments = st.one_of(
    st.builds(
        lambda day, offset: day + offset,
        st.sampled_from([SPRING, AUTUMN]),
        st.one_of(
            st.integers(-2 * DAY, 3 * DAY), st.sampled_from([-1, 0, 1, 23 * HOUR, 24 * HOUR, 25 * HOUR])
        ),
    ),
)
tokens = st.integers(0, 2**53 - 1)
entries = st.builds(
    lambda name, moment, source, who, model, amounts: entry(
        name,
        moment,
        source=source,
        user=who[0],
        team=who[1],
        model=model,
        usage=Usage(*amounts[:4]),
        cost=amounts[4],
    ),
    st.integers(0, 10),
    moments,
    st.sampled_from(Source),
    st.sampled_from([("alice", "nlp"), ("bob", ""), ('zoë, "q"', "nlp")]),
    st.sampled_from(["llama3", "", "big"]),
    st.tuples(tokens, tokens, tokens, tokens, tokens),
)
numbers = st.lists(st.integers(0, 30), max_size=8)
actions = st.lists(
    st.one_of(
        st.tuples(st.just("save"), numbers),
        st.tuples(st.just("crash"), numbers),
        st.tuples(st.sampled_from(Source), numbers),  # told again, and otherwise
        st.tuples(st.just("trim"), moments),
    ),
    max_size=12,
)
spans = st.one_of(st.integers(0, 4 * DAY), st.integers(0, 12 * HOUR))
ranges = st.lists(st.tuples(moments, spans), min_size=1, max_size=4)


class Oracle:
    """What the ledger should hold. Sums outlive rows: nothing is ever forgotten here."""

    def __init__(self) -> None:
        self.entries: dict[tuple[str, int], Entry] = {}
        self.kept_from = 0

    def save(self, saved: Sequence[Entry]) -> None:
        for each in saved:
            name = each.reservation, each.at  # an id may come again, long after
            known = self.entries.get(name)
            expired = known is not None and known.note.source is Source.EXPIRED
            if known is None or (expired and each.note.source is Source.CORRECTED):
                self.entries[name] = each

    def within(self, since: int, until: int) -> list[Entry]:
        """Days of which a part has no rows any more are counted whole."""
        return [each for each in self.entries.values() if self._counts(each, since, until)]

    def _counts(self, each: Entry, since: int, until: int) -> bool:
        day = day_of(each.at, ZONE)
        begin = at(day, ZONE)
        if since < self.kept_from and day == day_of(since, ZONE) and until > begin:
            return since < until
        whole_tail = begin < until and begin < self.kept_from and day == day_of(until, ZONE)
        if whole_tail and not (since >= self.kept_from and day == day_of(since, ZONE)):
            return since < until and each.at >= since
        return since <= each.at < until


@settings(max_examples=300, deadline=None)
@given(st.lists(entries, min_size=1, max_size=31), actions, ranges, st.data())
def test_sums_are_rows_are_the_oracle(
    pool: list[Entry], todo: list[tuple[str, list[int]]], asked: list[tuple[int, int]], data: st.DataObject
) -> None:
    database, oracle = in_memory(), Oracle()
    set_timezone(database, ZONE)
    for what, argument in todo:
        _act(database, oracle, pool, what, argument)
    ledger = SqliteLedger(database)
    every = ("day", *DIMENSIONS)
    assert told(ledger.usage(since=0, until=END, by=every)) == sums(oracle.entries.values(), every, ZONE)
    rows = ledger.entries(limit=1000)
    assert {(each.reservation, each.at): each for each in rows} == {
        name: each for name, each in oracle.entries.items() if each.at >= oracle.kept_from
    }
    by = data.draw(st.lists(st.sampled_from(every), unique=True, max_size=3))
    only = data.draw(st.sampled_from([{}, {"user": "alice"}, {"model": "", "team": "nlp"}]))
    for since, span in asked:
        until = since + span
        expected = [each for each in oracle.within(since, until) if matches(each, only)]
        found = ledger.usage(since=since, until=until, by=by, only=only)
        assert told(found) == sums(expected, by, ZONE)
        assert [list(row.group.values()) for row in found] == sorted(
            list(row.group.values()) for row in found
        )


def _act(database: Database, oracle: Oracle, pool: list[Entry], what: str, argument: list[int] | int) -> None:
    if isinstance(argument, int):
        with database.change() as connection:
            assert not trim(connection, argument + RETENTION, RETENTION)
        if any(oracle.kept_from <= each.at < argument for each in oracle.entries.values()):
            oracle.kept_from = argument
        return
    # The retention is longer than anything that may come late.
    chosen = [pool[number % len(pool)] for number in argument]
    chosen = [each for each in chosen if each.at >= oracle.kept_from]
    if isinstance(what, Source):
        chosen = [_again(each, what) for each in chosen]
    with suppress(KeyboardInterrupt), database.change() as connection:
        save(connection, chosen)
        if what == "crash":
            raise KeyboardInterrupt
        oracle.save(chosen)


def _again(each: Entry, source: Source) -> Entry:
    """Another story of the same request; only its late report counts."""
    name = each.reservation.removeprefix("rsv_")
    return entry(
        name,
        each.at,
        source=source,
        user=each.facts.user,
        team=each.facts.team,
        model=each.facts.model,
        usage=Usage(each.note.usage.input // 2, 1),
        cost=1,
    )
