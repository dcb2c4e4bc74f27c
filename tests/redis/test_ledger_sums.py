"""The ledger in Redis, its sums and a ledger in plain Python agree, whatever happens in whatever order."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authz.store.records import Entry, Source
from authz.store.redis.ledger.plan import Command, Plan, ask, carry_out, fold_script
from authz.store.redis.ledger.reading import RedisLedger
from authz.store.redis.ledger.rows import DAY_MS
from authz.store.redis.ledger.saving import save
from authz.store.redis.ledger.upkeep import keep, set_timezone, trim
from authz.usage import Usage
from tests.contract.kit import Clock
from tests.ledger.kit import DIMENSIONS, at, day_of, entry, matches, sums, told
from tests.ledger.test_sums import AUTUMN, END, HOUR, SPRING, ZONE, _again, ranges
from tests.support.redis import RedisServer

RETENTION = 7 * DAY_MS
SHARD = "0"

tokens = st.integers(0, 2**53 - 1)
moments = st.builds(  # few, around the days of 23 and 25 hours: ids and moments come again
    lambda day, offset: day + offset * HOUR,
    st.sampled_from([SPRING, AUTUMN]),
    st.sampled_from([-26, -1, 0, 1, 2, 3, 23, 24, 25, 26, 50]),
)
entries = st.builds(
    lambda name, moment, source, who, amounts: entry(
        name, moment, source=source, user=who[0], team=who[1], usage=Usage(*amounts[:4]), cost=amounts[4]
    ),
    st.integers(0, 5),
    moments,
    st.sampled_from([Source.EXPIRED, Source.EXPIRED, Source.REPORTED, Source.CORRECTED]),
    st.sampled_from([("alice", "nlp"), ("bob", ""), ('zoë, "q"', "nlp")]),
    st.tuples(tokens, tokens, tokens, tokens, tokens),
)
numbers = st.lists(st.integers(0, 11), min_size=1, max_size=8)
actions = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["save", "save", "crash"]), numbers),
        st.tuples(st.sampled_from([Source.CORRECTED, Source.CORRECTED, Source.REPORTED]), numbers),
        st.tuples(st.just("trim"), moments),
    ),
    min_size=2,
    max_size=10,
)


@pytest.fixture
def client(server: RedisServer) -> Iterator["redis.Redis"]:
    with server.client() as client:
        yield client


def one(client: "redis.Redis", plan: Plan[Any]) -> Any:
    (result,) = carry_out(client, [plan])
    return result


class Oracle:
    """What the ledger should hold. Sums outlive entries: nothing is ever forgotten here."""

    def __init__(self) -> None:
        self.entries: dict[tuple[str, int], Entry] = {}
        self.kept_from = 0

    def save(self, saved: Sequence[Entry]) -> None:
        for each in saved:
            name = each.reservation, each.at
            known = self.entries.get(name)
            expired = known is not None and known.note.source is Source.EXPIRED
            if known is None or (expired and each.note.source is Source.CORRECTED):
                self.entries[name] = each

    def trim(self, now: int) -> None:
        """Whole UTC days go."""
        days = {each.at // DAY_MS for each in self.entries.values() if each.at >= self.kept_from}
        gone = [day for day in days if (day + 1) * DAY_MS <= now - RETENTION]
        if gone:
            self.kept_from = max(self.kept_from, (max(gone) + 1) * DAY_MS)

    def within(self, since: int, until: int) -> list[Entry]:
        """Days of which a part has no entries any more are counted whole."""
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


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)  # every example empties the server itself
@given(st.lists(entries, min_size=4, max_size=12), actions, ranges, st.data())
def test_sums_are_entries_are_the_oracle(
    server: RedisServer,
    pool: list[Entry],
    todo: list[tuple[str, list[int]]],
    asked: list[tuple[int, int]],
    data: st.DataObject,
) -> None:
    server.call("FLUSHALL")
    begin = data.draw(st.sampled_from(["2026-03-25", "2026-10-28"]))
    clock, oracle = Clock(at(begin)), Oracle()
    with server.client() as client:
        assert one(client, set_timezone(SHARD, ZONE, clock.now))
        assert one(client, keep(SHARD, RETENTION, clock.now))
        for what, argument in todo:
            _act(client, oracle, clock, pool, what, argument)
        ledger = RedisLedger(client, (SHARD,), clock)
        every = ("day", *DIMENSIONS)
        assert told(ledger.usage(since=0, until=END, by=every)) == sums(oracle.entries.values(), every, ZONE)
        rows = ledger.entries(limit=1000)
        assert {(each.reservation, each.at): each for each in rows} == {
            name: each for name, each in oracle.entries.items() if each.at >= oracle.kept_from
        }
        assert [each.at for each in rows] == sorted((each.at for each in rows), reverse=True)
        few = data.draw(st.integers(0, 6))
        assert ledger.entries(limit=few) == rows[:few]
        for each in rows:
            assert each.reservation == getattr(ledger.entry(each.reservation), "reservation", None)
            assert each.facts.request_id == ledger.entry(each.facts.request_id).facts.request_id  # type: ignore[union-attr]
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
            assert ledger.entries(since=since, until=until, only=only, limit=1000) == [
                each for each in rows if since <= each.at < until and matches(each, only)
            ]


def _act(
    client: "redis.Redis",
    oracle: Oracle,
    clock: Clock,
    pool: list[Entry],
    what: str,
    argument: list[int] | int,
) -> None:
    if isinstance(argument, int):
        clock.now = max(clock.now, argument + RETENTION)
        one(client, trim(SHARD, clock.now))
        oracle.trim(clock.now)
        return
    # The retention is longer than anything that may come late.
    kept_from = max(oracle.kept_from, clock.now - RETENTION)
    chosen = [pool[number % len(pool)] for number in argument]
    chosen = [each for each in chosen if each.at >= kept_from]
    if isinstance(what, Source):
        chosen = [_again(each, what) for each in chosen]
    plan = save(SHARD, chosen, clock.now)
    if what == "crash" and chosen:
        _die_before_the_change(client, plan)
        return
    assert one(client, plan)
    oracle.save(chosen)


def _die_before_the_change(client: "redis.Redis", plan: Plan[bool]) -> Command:
    """The change that is not sent."""
    commands = next(plan)
    while commands[0][:2] != fold_script((), ())[:2]:
        commands = plan.send(ask(client, commands))
    return commands[0]


def test_of_two_that_thought_at_once_one_is_in_force(client: "redis.Redis") -> None:
    clock = Clock(at("2026-10-28"))
    plans = [save(SHARD, [entry(number, clock.now)], clock.now) for number in range(5)]
    assert sorted(carry_out(client, plans)) == [False, False, False, False, True]
    ledger = RedisLedger(client, (SHARD,), clock)
    assert len(ledger.entries()) == 1
    (row,) = ledger.usage(since=0, until=END, by=())
    assert row.requests == 1


def test_a_change_that_is_sent_twice_is_made_once(client: "redis.Redis") -> None:
    """A connection may break after the script ran and before its answer came."""
    clock = Clock(at("2026-10-28"))
    command = _die_before_the_change(client, save(SHARD, [entry(1, clock.now)], clock.now))
    assert [ask(client, [command]) for _ in range(2)] == [[1], [1]]
    ledger = RedisLedger(client, (SHARD,), clock)
    assert len(ledger.entries()) == 1
    (row,) = ledger.usage(since=0, until=END, by=())
    assert row.requests == 1
    assert one(client, save(SHARD, [entry(2, clock.now)], clock.now))
    assert ask(client, [command]) == [0], "later it is an old one"
