"""The scripts by themselves: what they name, keep and forget, and numbers at the end of a double."""

from typing import Any

import pytest

from authz.quota import MAX_AMOUNT, Unit
from authz.store.counting import gcra as exact
from authz.store.protocols import Exhausted, Outcome, Remembered, Reserved, StoreUnavailable
from authz.store.redis import names, scripts
from authz.store.redis.counters import RedisCounters
from authz.store.redis.fineness import too_fine
from authz.store.redis.script import Script, compose
from authz.store.redis.standing import decode_counter
from authz.store.reservations import GRAIN, LATE, LATE_GRAIN, REPLAY, SETTLED
from tests.contract.kit import DAY, HOUR, MINUTE, Clock, calendar, fixed, gcra, sliding, slot
from tests.redis.direct import DirectLink, at_once
from tests.redis.scripts_kit import HOLDS, left, reserve, settle, undo


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
