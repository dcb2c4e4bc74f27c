"""How reservations end in Redis: taken back, swept, or beyond what is remembered."""

from pathlib import Path

import pytest
import redis

from authz.store.backlog import JOINS_MS, Waiting, enter
from authz.store.protocols import Level, Outcome, Remembered, Reserved, StoreUnavailable
from authz.store.redis import names, scripts
from authz.store.redis.calls import CANCELLED_MS
from authz.store.redis.counters import RedisCounters
from authz.store.reservations import GRAIN, REPLAY
from tests.contract.kit import DAY, HOUR, MINUTE, Clock, calendar, fixed, gcra, slot
from tests.redis.direct import DirectLink, at_once
from tests.redis.scripts_kit import HOLDS, ended, left, reserve, settle, undo
from tests.redis.twins import awaited
from tests.support.redis import RedisServer


def _lost(reply: object) -> None:
    raise StoreUnavailable("the answer was lost")


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

    @pytest.mark.parametrize("ttl", [MINUTE, 3 * MINUTE], ids=["as-before", "later"])
    def test_nor_of_one_that_runs(self, link: DirectLink, counters: RedisCounters, ttl: int) -> None:
        reserve(counters, "a", *HOLDS, ttl=2 * MINUTE)
        assert at_once(counters.extend("a", "edge", ttl, HOUR))
        assert undo(link) == 0
        assert left(counters, *HOLDS) == [59, 600, 600, 1]
        assert settle(counters, "a", tokens=0) is Outcome.SETTLED

    def test_104_nor_of_what_was_entered_afterwards(
        self, link: DirectLink, counters: RedisCounters, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its first answer is lost, and what takes it back waits behind much else until it is found again."""
        hold = fixed(1000, 400, window=DAY)
        waiting = Waiting("local-1-a", "a", "edge", (hold,), b"facts", clock.now, clock.now + HOUR)
        with monkeypatch.context() as answers:
            answers.setattr(counters.calls, "answer", _lost)
            with pytest.raises(StoreUnavailable):
                at_once(enter(counters, waiting, [hold], HOUR, clock.now))
        (owed,) = link.undos
        clock.pass_(JOINS_MS)
        assert at_once(enter(counters, waiting, [hold], HOUR, clock.now)) is None
        assert at_once(awaited(link.run(owed.script, owed.keys, owed.args))) == 0
        assert left(counters, hold) == [600]

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
            with pytest.raises(redis.ResponseError, match="maxmemory"):
                reserve(counters, "b", *HOLDS)
            assert {key: link.command("DUMP", key).value for key in link.command("KEYS", "*").value} == before
            assert settle(counters, "a", tokens=1500) is Outcome.SETTLED
            assert [closed.reservation for closed in ended(link)] == ["a"]
            link.connection.disconnect()
