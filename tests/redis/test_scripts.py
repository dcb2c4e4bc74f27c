"""The scripts by themselves: what they name, keep, forget and take back, and numbers at the end of a double."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from authz.quota import MAX_AMOUNT, Unit
from authz.store.counting import gcra as exact
from authz.store.protocols import Exhausted, Hold, Level, Outcome, Remembered, Reserved, StoreUnavailable
from authz.store.redis import names, scripts
from authz.store.redis.calls import CANCELLED_MS
from authz.store.redis.counters import RedisCounters
from authz.store.redis.fineness import too_fine
from authz.store.redis.script import Script, compose
from authz.store.redis.standing import decode_counter
from authz.store.reservations import GRAIN, LATE, LATE_GRAIN, REPLAY, SETTLED
from tests.contract.kit import DAY, HOUR, MINUTE, Clock, calendar, fixed, gcra, note, sliding, slot
from tests.redis.direct import DirectLink, at_once
from tests.redis.twins import awaited, closed_of
from tests.support.redis import RedisServer

HOLDS = (gcra(60), fixed(1000, 400), sliding(1000, 400), slot(2))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def link(server: RedisServer) -> Iterator[DirectLink]:
    link = DirectLink(server.port)
    yield link
    link.connection.disconnect()


@pytest.fixture
def counters(link: DirectLink, clock: Clock) -> RedisCounters:
    return RedisCounters(link, clock)


def reserve(
    counters: RedisCounters, name: str, *holds: Hold, ttl: int = MINUTE, known: bytes = b"facts"
) -> Reserved | Exhausted:
    answer: Reserved | Exhausted = at_once(counters.reserve(name, "edge", holds, ttl, known))
    return answer


def left(counters: RedisCounters, *holds: Hold) -> list[int]:
    bare = [
        Hold(hold.key, hold.kind, hold.unit, hold.quota, 0, hold.window, hold.rate, hold.bounds)
        for hold in holds
    ]
    answer = at_once(counters.peek(bare))
    return [level.remaining for level in answer.levels]


def settle(counters: RedisCounters, name: str, **used: int) -> Outcome:
    actual = {Unit(unit): amount for unit, amount in used.items()}
    outcome: Outcome = at_once(counters.settle(name, "edge", actual, note())).outcome
    return outcome


def undo(link: DirectLink) -> Any:
    (last,) = link.undos
    return at_once(awaited(link.run(last.script, last.keys, last.args)))


def ended(link: DirectLink) -> list[Any]:
    return [closed_of(fields[1]) for _, fields in link.command("XRANGE", names.closed("0"), "-", "+").value]


class TestTexts:
    @pytest.mark.parametrize("script", scripts.ALL, ids=lambda script: script.name)
    def test_each_is_known_by_its_text(self, link: DirectLink, script: Script) -> None:
        assert link.command("SCRIPT", "LOAD", script.source).value.decode() == script.sha
        assert script.name in repr(script)

    def test_a_name_that_is_no_constant_is_a_mistake(self) -> None:
        with pytest.raises(KeyError):
            compose("settle", constants={})

    def test_one_call_for_eight_limits(self, link: DirectLink, counters: RedisCounters, clock: Clock) -> None:
        eight = [kind(1000, 4, key=f"{kind.__name__}{n}") for kind in (gcra, fixed, sliding) for n in (1, 2)]
        eight += [calendar(1000, 4, clock.now), slot(9)]
        reserve(counters, "warm", *eight)
        link.command("CONFIG", "RESETSTAT")
        for n in range(10):
            assert isinstance(reserve(counters, f"r{n}", *eight[:7]), Reserved)
            assert settle(counters, f"r{n}", tokens=3) is Outcome.SETTLED
        stats = link.command("INFO", "commandstats").value.decode()
        assert "cmdstat_evalsha:calls=20," in stats
        assert "cmdstat_eval:" not in stats


class TestNamesAndLives:
    def test_every_key_is_one_of_names(self, link: DirectLink, counters: RedisCounters, clock: Clock) -> None:
        reserve(counters, "gone", slot(9), ttl=50)
        clock.pass_(HOUR)
        reserve(counters, "a", *HOLDS)
        reserve(counters, "b", gcra(60))
        undo(link)
        undo(link)
        (last,) = link.undos
        expected = {
            *(names.counter("0", key) for key in "gfs"),
            names.leases("0", "slots"),
            names.reservation("0", "a"),
            names.reservation("0", "gone"),
            names.running("0"),
            names.closed("0"),
            names.late("0"),
            names.cancelled("0", str(last.args[2])),
        }
        assert {key.decode() for key in link.command("KEYS", "*").value} == expected

    def test_everything_is_forgotten_in_time(
        self, link: DirectLink, counters: RedisCounters, clock: Clock
    ) -> None:
        def lasts(key: str) -> int:
            milliseconds: int = link.command("PTTL", key).value
            return milliseconds

        def about(key: str, expected: int) -> bool:
            """Some time may have passed since it was set, but less than a minute."""
            return expected - MINUTE < lasts(key) <= expected

        reserve(counters, "brief", gcra(60), known=b"")
        assert 0 < lasts(names.reservation("0", "brief")) <= REPLAY + GRAIN
        reserve(counters, "a", gcra(60), fixed(1000, 400, window=HOUR), slot(2), ttl=10 * MINUTE)
        assert about(names.counter("0", "g"), 2000 + scripts.GRACE)
        assert about(names.counter("0", "f"), HOUR + scripts.GRACE)
        assert about(names.leases("0", "slots"), 10 * MINUTE + scripts.GRACE)
        assert lasts(names.reservation("0", "a")) == -1, "until somebody ends it: it is owed to the ledger"
        assert at_once(counters.extend("a", "edge", 20 * MINUTE, HOUR))
        assert about(names.leases("0", "slots"), 20 * MINUTE + scripts.GRACE)
        settle(counters, "a", tokens=1500)
        assert about(names.reservation("0", "a"), SETTLED)
        assert about(names.counter("0", "f"), 2 * HOUR + scripts.GRACE), "its debt goes on into the next hour"
        reserve(counters, "late", fixed(1000, 400), ttl=0)
        reserve(counters, "late", fixed(1000, 400), ttl=50)
        clock.pass_(GRAIN)
        left(counters)
        assert about(names.reservation("0", "late"), LATE + LATE_GRAIN)
        assert about(names.late("0"), LATE + LATE_GRAIN)

    def test_a_held_figure_does_not_lengthen_a_life(self, link: DirectLink, counters: RedisCounters) -> None:
        reserve(counters, "a", fixed(1000, 400))
        link.command("PEXPIRE", names.counter("0", "f"), 50_000)
        settle(counters, "a")
        assert 0 < link.command("PTTL", names.counter("0", "f")).value <= 50_000
        link.command("DEL", names.counter("0", "f"))
        reserve(counters, "b", fixed(1000, 400))
        link.command("DEL", names.counter("0", "f"))
        settle(counters, "b")
        assert link.command("EXISTS", names.counter("0", "f")).value == 0


class TestNumbers:
    @pytest.mark.parametrize("kind", [fixed, sliding])
    def test_no_unit_is_lost_at_the_end_of_a_double(self, counters: RedisCounters, kind: Any) -> None:
        most = kind(MAX_AMOUNT, MAX_AMOUNT - 1)
        answer = reserve(counters, "a", most)
        assert answer.levels[0].remaining == 1
        assert answer.levels[0].held == MAX_AMOUNT - 1
        assert isinstance(reserve(counters, "b", kind(MAX_AMOUNT, 2)), Exhausted)
        assert reserve(counters, "c", kind(MAX_AMOUNT, 1)).levels[0].remaining == 0
        assert settle(counters, "a", tokens=MAX_AMOUNT - 3) is Outcome.SETTLED
        assert left(counters, most) == [2]

    def test_times_far_away(self, counters: RedisCounters, clock: Clock) -> None:
        clock.now = 2**46 + 1  # in the year 4199
        hold = gcra(2**30, 2**30 - 1, unit=Unit.TOKENS, window=30 * DAY)
        answer = reserve(counters, "a", hold)
        assert answer.levels[0].remaining == 1
        expected = -(-(2**30 - 1) * 30 * DAY // 2**30)
        assert answer.levels[0].reset_ms == expected
        found = at_once(counters.find("a", "edge"))
        assert found == Remembered(b"facts", clock.now, False)

    def test_an_amount_beyond_what_is_kept_never_fits(self, counters: RedisCounters) -> None:
        refused = reserve(counters, "a", fixed(2**70, 2**69))
        assert isinstance(refused, Exhausted)
        assert (refused.wait_ms, refused.levels[0].remaining) == (-1, MAX_AMOUNT)


class TestBuckets:
    def test_one_that_is_too_fine_is_refused_in_words(self, counters: RedisCounters) -> None:
        with pytest.raises(StoreUnavailable, match="too fine"):
            reserve(counters, "a", gcra(10**7 + 19, unit=Unit.TOKENS, window=30 * DAY))

    @pytest.mark.parametrize(
        ("burst", "rate", "window"),
        [
            (2**52, 1, 1),
            (2**52 + 1, 1, 1),
            (2**21, 3, 2**31),
            (2**21 + 1, 3, 2**31),
            (10**12, 10**12, 30 * DAY),
            (10**6, 10**6, 30 * DAY),
            (10**6 + 1, 10**6 + 1, 30 * DAY),
            (1, 0, 30 * DAY),
        ],
    )
    def test_a_configuration_can_be_told_before(
        self, counters: RedisCounters, burst: int, rate: int, window: int
    ) -> None:
        try:
            reserve(counters, "a", gcra(rate, burst=burst, window=window))
            refused = False
        except StoreUnavailable:
            refused = True
        assert too_fine(burst, rate, window) == refused

    @pytest.mark.parametrize(("first", "then"), [(60, 90), (90, 60), (60, 61), (61, 60), (1, 59), (60, 0)])
    def test_a_changed_rate_takes_nothing_away(
        self, link: DirectLink, counters: RedisCounters, clock: Clock, first: int, then: int
    ) -> None:
        """The level in the new parts is what it was, or a part more."""
        hold = gcra(first, unit=Unit.TOKENS, amount=1)
        state = exact.view(hold, None, clock.now)
        for step in range(40):
            clock.pass_(37)
            hold = gcra(first if step % 2 else then, unit=Unit.TOKENS, amount=1)
            after = exact.charge(hold, state, clock.now)
            if isinstance(reserve(counters, f"r{step}", hold), Reserved):
                state = after
            raw = link.command("GET", names.counter("0", "g")).value
            if raw is not None:
                found = decode_counter(raw)[0]
                level = exact.view(hold, state, clock.now)[exact.LEVEL]
                seen = exact.view(hold, found, clock.now)[exact.LEVEL]
                assert level <= seen <= level + MINUTE * (step + 1) / 40

    def test_rates_that_take_turns_still_drain(self, counters: RedisCounters, clock: Clock) -> None:
        """Replicas with two configurations, while they are rolled out."""
        admitted = 0
        for step in range(2000):
            clock.pass_(50)
            admitted += isinstance(reserve(counters, f"r{step}", gcra((60, 61)[step % 2])), Reserved)
        assert 0.95 * 160 <= admitted <= 161 + 60

    def test_what_was_returned_is_counted_beyond_a_double(
        self, counters: RedisCounters, clock: Clock
    ) -> None:
        """2^50 parts each time: after eight the count begins anew, and what was held before gives nothing back."""
        hold = gcra(2**40 + 1, 2**38, unit=Unit.TOKENS, window=2**12, burst=2**40)
        reserve(counters, "first", hold)
        used = 2**38
        for step in range(1, 20):
            clock.pass_(1)
            assert isinstance(reserve(counters, f"r{step}", hold), Reserved)
            assert settle(counters, f"r{step}", tokens=1) is Outcome.SETTLED
            used += 1
            assert left(counters, hold)[0] <= 2**40 - (used - step * (2**40 + 1) // 2**12)
        before = left(counters, hold)
        assert settle(counters, "first", tokens=0) is Outcome.SETTLED
        assert left(counters, hold) == before


class TestCancelling:
    def test_what_ran_is_as_if_it_had_never_been(
        self, link: DirectLink, counters: RedisCounters, clock: Clock
    ) -> None:
        holds = (*HOLDS, calendar(1000, 400, clock.now))
        reserve(counters, "before", *holds)
        before = left(counters, *holds)
        reserve(counters, "a", *holds)
        assert undo(link) == 1
        assert left(counters, *holds) == before
        assert at_once(counters.find("a", "edge")) is Outcome.UNKNOWN
        clock.pass_(HOUR)
        left(counters)
        assert [closed.reservation for closed in ended(link)] == ["before"], "it is no entry in the ledger"
        assert undo(link) == 0, "once"

    def test_what_comes_later_does_nothing(self, link: DirectLink, counters: RedisCounters) -> None:
        key = (names.running("0"),)
        (attempt,) = ["0a"]
        assert (
            at_once(awaited(link.run(scripts.CANCEL, key, (counters.calls.now, "a", attempt, CANCELLED_MS))))
            == 0
        )
        late = counters.calls.reserve("0", "a", attempt, "edge", HOLDS, MINUTE, b"facts")
        with pytest.raises(StoreUnavailable, match="given up"):
            counters.calls.answer(at_once(awaited(late)))
        assert left(counters, *HOLDS) == [60, 1000, 1000, 2]
        answer = reserve(counters, "a", *HOLDS)
        assert isinstance(answer, Reserved), "the gateway's own retry is another attempt"
        assert not answer.replay

    def test_only_what_this_attempt_made(
        self, link: DirectLink, counters: RedisCounters, clock: Clock
    ) -> None:
        reserve(counters, "a", *HOLDS)
        clock.pass_(REPLAY)
        used = left(counters, *HOLDS)
        reserve(counters, "a", *HOLDS)
        assert undo(link) == 1, "the second attempt under the id"
        assert left(counters, *HOLDS) == used
        assert isinstance(at_once(counters.find("a", "edge")), Remembered)

    def test_95_two_wait_for_one_reservation(self, link: DirectLink, counters: RedisCounters) -> None:
        """A gateway asks again, elsewhere, before the first attempt is given up: the second was let through."""
        reserve(counters, "a", *HOLDS)
        (first,) = link.undos
        again = reserve(counters, "a", *HOLDS)
        assert isinstance(again, Reserved)
        assert again.replay
        assert at_once(awaited(link.run(first.script, first.keys, first.args))) == 0
        assert undo(link) == 0
        assert left(counters, *HOLDS) == [59, 600, 600, 1]
        assert settle(counters, "a", tokens=0) is Outcome.SETTLED

    @pytest.mark.parametrize("ended", ["settled", "expired"])
    def test_what_is_over_stays_as_it_is(
        self, link: DirectLink, counters: RedisCounters, clock: Clock, ended: str
    ) -> None:
        hold = fixed(1000, 400, window=DAY)
        reserve(counters, "a", hold)
        (attempt,) = link.undos
        if ended == "settled":
            settle(counters, "a", tokens=100)
        else:
            clock.pass_(HOUR)
            left(counters)
        before = left(counters, hold)
        assert at_once(awaited(link.run(attempt.script, attempt.keys, attempt.args))) == 0
        assert left(counters, hold) == before

    def test_requests_alone_too(self, link: DirectLink, counters: RedisCounters) -> None:
        reserve(counters, "a", gcra(60), known=b"")
        assert undo(link) == 1
        assert left(counters, gcra(60)) == [60]


class TestSweeping:
    def test_an_admission_ends_some_of_what_is_over(
        self, link: DirectLink, counters: RedisCounters, clock: Clock
    ) -> None:
        for n in range(5):
            reserve(counters, f"r{n}", fixed(10_000, 400, window=DAY), ttl=50)
        clock.pass_(GRAIN)
        reserve(counters, "a", fixed(10_000, 400, window=DAY))
        assert (counters.expired, len(ended(link))) == (3, 3)
        answer = at_once(counters.peek([fixed(10_000, 0, window=DAY)]))
        assert (counters.expired, len(ended(link))) == (5, 5)
        assert answer.levels == (Level(7600, answer.levels[0].reset_ms, 400),)

    def test_what_is_open_without_a_record_is_dropped(
        self, link: DirectLink, counters: RedisCounters, clock: Clock
    ) -> None:
        reserve(counters, "a", fixed(1000, 400), ttl=50)
        link.command("DEL", names.reservation("0", "a"))
        clock.pass_(HOUR)
        left(counters)
        assert link.command("ZCARD", names.running("0")).value == 0
        assert counters.expired == 0

    def test_nobody_looked_for_days(self, link: DirectLink, counters: RedisCounters, clock: Clock) -> None:
        """Its entry is owed to the ledger, however late."""
        reserve(counters, "a", fixed(1000, 400), ttl=50)
        clock.pass_(40 * DAY)
        assert at_once(counters.find("a", "edge")) is Outcome.UNKNOWN
        left(counters)
        (closed,) = ended(link)
        assert (closed.reservation, closed.expired) == ("a", True)


class TestFull:
    def test_as_many_are_open_as_may_be(self, link: DirectLink, clock: Clock) -> None:
        counters = RedisCounters(link, clock, most_open=2)
        for n in range(3):
            assert isinstance(reserve(counters, f"r{n}", fixed(10_000, 400)), Reserved)
        assert settle(counters, "r2") is Outcome.UNKNOWN
        assert [closed.reservation.partition("~")[0] for closed in ended(link)] == ["r2"]
        with pytest.raises(StoreUnavailable, match="as many requests"):
            reserve(counters, "s", slot(9))
        assert left(counters, slot(9)) == [9]

    def test_late_ones_beyond_their_list_are_forgotten(self, link: DirectLink, clock: Clock) -> None:
        counters = RedisCounters(link, clock, most_late=1)
        for n in range(3):
            reserve(counters, f"r{n}", fixed(10_000, 400, window=DAY), ttl=50 + n * GRAIN)
        clock.pass_(MINUTE)
        left(counters)
        assert [settle(counters, f"r{n}") for n in range(3)] == ["unknown", "unknown", "corrected"]
        assert link.command("LLEN", names.late("0")).value == 1

    def test_a_server_without_memory_admits_nothing_and_still_settles(
        self, tmp_path: Path, clock: Clock
    ) -> None:
        with RedisServer(tmp_path) as server:
            link = DirectLink(server.port)
            counters = RedisCounters(link, clock)
            reserve(counters, "a", *HOLDS)
            at_once(counters.peek(HOLDS))
            server.call("CONFIG", "SET", "maxmemory", 1)
            before = {key: link.command("DUMP", key).value for key in link.command("KEYS", "*").value}
            with pytest.raises(redis.ResponseError, match="OOM"):
                reserve(counters, "b", *HOLDS)
            assert {key: link.command("DUMP", key).value for key in link.command("KEYS", "*").value} == before
            assert settle(counters, "a", tokens=1500) is Outcome.SETTLED
            assert [closed.reservation for closed in ended(link)] == ["a"]
            link.connection.disconnect()
