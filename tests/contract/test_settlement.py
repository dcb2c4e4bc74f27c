"""From a reservation with facts to its entry in the ledger, on every store (attacks 95, 100, 104 to 107)."""

from collections.abc import Mapping, Sequence

import pytest

from authz.quota import MAX_AMOUNT, Unit
from authz.store.protocols import Exhausted, Hold, Level, Outcome, Remembered, Reserved
from authz.store.records import Entry, Source
from authz.store.reservations import LATE, REPLAY, SETTLED
from authz.store.store import ServiceStore
from authz.usage import Usage
from tests.contract.kit import (
    DAY,
    HELD,
    HOUR,
    MINUTE,
    NOON,
    Clock,
    at,
    calendar,
    facts,
    fixed,
    gcra,
    hold_few,
    kept_up,
    note,
    settled,
    sliding,
    slot,
    tokens,
)

TTL = 10 * MINUTE
HOLD = fixed(1000, 400, window=10 * DAY)
GONE = 2 * MINUTE  # after a deadline: looked at, at the latest


async def reserve(
    store: ServiceStore, name: str, *holds: Hold, ttl: int = TTL, known: bytes | None = None
) -> Reserved | Exhausted:
    known = facts(f"req-{name}") if known is None else known
    return await store.counters.reserve(name, "edge", holds, ttl, known)


async def settle(
    store: ServiceStore,
    name: str,
    actual: Mapping[Unit, int] | None = None,
    told: bytes = b"",
    gateway: str = "edge",
) -> Outcome:
    return (await store.counters.settle(name, gateway, actual or {}, told)).outcome


async def left(store: ServiceStore, hold: Hold = HOLD) -> int:
    answer = await store.counters.peek(
        [Hold(hold.key, hold.kind, hold.unit, hold.quota, 0, hold.window, hold.rate, hold.bounds)]
    )
    assert isinstance(answer, Reserved)
    return answer.levels[0].remaining


async def entries(store: ServiceStore) -> Sequence[Entry]:
    """Everything in the ledger, which says the same in its sums."""
    await settled(store)
    found = store.ledger.entries(limit=10_000)
    sums = store.ledger.usage(since=0, until=10 * NOON, by=())
    assert sum(each.requests for each in sums) == len(found)
    assert sum(each.input_tokens for each in sums) == sum(each.note.usage.input for each in found)
    return found


async def only(store: ServiceStore) -> Entry:
    (entry,) = await entries(store)
    return entry


class TestRemembered:
    @pytest.mark.parametrize(
        "holds",
        [
            pytest.param((), id="no-limit"),
            pytest.param((gcra(60),), id="requests"),
            pytest.param((HOLD,), id="tokens"),
        ],
    )
    async def test_with_facts_until_it_expires(
        self, store: ServiceStore, clock: Clock, holds: tuple[Hold, ...]
    ) -> None:
        assert isinstance(await reserve(store, "a", *holds), Reserved)
        clock.pass_(TTL - 1)
        await kept_up(store)
        assert await store.counters.find("a", "edge") == Remembered(facts("req-a"), NOON, False)
        clock.pass_(1)
        assert await store.counters.find("a", "edge") == Remembered(facts("req-a"), NOON, True)
        clock.pass_(LATE - 1)
        await kept_up(store)
        assert await store.counters.find("a", "edge") == Remembered(facts("req-a"), NOON, True)
        clock.pass_(1)
        assert await store.counters.find("a", "edge") is Outcome.UNKNOWN

    async def test_without_facts_a_request_is_forgotten_with_its_retry(
        self, store: ServiceStore, clock: Clock
    ) -> None:
        await reserve(store, "a", gcra(60), known=b"")
        clock.pass_(REPLAY + 200)
        await kept_up(store)
        assert await store.counters.find("a", "edge") is Outcome.UNKNOWN
        assert await settle(store, "a") is Outcome.UNKNOWN
        assert not await entries(store)

    async def test_why_something_cannot_be_settled(self, store: ServiceStore) -> None:
        await reserve(store, "a", HOLD)
        assert await store.counters.find("never", "edge") is Outcome.UNKNOWN
        assert await store.counters.find("a", "other") is Outcome.FOREIGN
        await settle(store, "a")
        assert await store.counters.find("a", "edge") is Outcome.ALREADY
        assert await store.counters.find("a", "other") is Outcome.FOREIGN

    async def test_a_settled_id_is_known_for_ten_minutes(self, store: ServiceStore, clock: Clock) -> None:
        await reserve(store, "a", HOLD)
        await settle(store, "a")
        clock.pass_(SETTLED - 1)
        assert await settle(store, "a", tokens(0)) is Outcome.ALREADY
        clock.pass_(SETTLED + 1)
        assert await settle(store, "a", tokens(0)) is Outcome.UNKNOWN
        assert await left(store) == 600


class TestSettle:
    async def test_what_was_noted_is_in_the_ledger(self, store: ServiceStore, clock: Clock) -> None:
        await reserve(store, "a", HOLD)
        assert not await entries(store), "nothing is over"
        clock.pass_(1500)
        told = note(60, 40, cost=7, source=Source.ESTIMATED, status=200, aborted=True, duration_ms=1400)
        assert await settle(store, "a", tokens(100), told) is Outcome.SETTLED
        assert await left(store) == 900
        entry = await only(store)
        assert (entry.reservation, entry.gateway, entry.at, entry.ended_at) == (
            "a",
            "edge",
            NOON,
            NOON + 1500,
        )
        assert (entry.facts.request_id, entry.facts.user, entry.facts.hold) == ("req-a", "alice", HELD)
        assert (entry.note.usage, entry.note.cost, entry.note.source) == (Usage(60, 40), 7, Source.ESTIMATED)
        assert (entry.note.status, entry.note.aborted, entry.note.duration_ms) == (200, True, 1400)

    async def test_without_a_note_it_is_entered_as_held(self, store: ServiceStore) -> None:
        await reserve(store, "a", HOLD)
        await settle(store, "a")
        entry = await only(store)
        assert (entry.note.usage, entry.note.cost, entry.note.source) == (HELD, 4_000, Source.ESTIMATED)

    async def test_105_twice_is_once(self, store: ServiceStore) -> None:
        await reserve(store, "a", HOLD)
        assert await settle(store, "a", tokens(100), note(60, 40)) is Outcome.SETTLED
        for _ in range(2):
            again = await store.counters.settle("a", "edge", tokens(0), note(0, 0))
            assert (again.outcome, again.holds, again.levels) == (Outcome.ALREADY, (), ())
            assert await left(store) == 900
            assert (await only(store)).note.usage == Usage(60, 40)

    @pytest.mark.parametrize(
        ("name", "gateway", "outcome"),
        [
            pytest.param("a", "other", Outcome.FOREIGN, id="105-another-gateways"),
            pytest.param("never", "edge", Outcome.UNKNOWN, id="105-forged"),
            pytest.param("a~1", "edge", Outcome.UNKNOWN, id="105-like-a-real-one"),
        ],
    )
    async def test_a_strangers_report_changes_nothing(
        self, store: ServiceStore, name: str, gateway: str, outcome: Outcome
    ) -> None:
        await reserve(store, "a", HOLD)
        assert await settle(store, name, tokens(0), note(), gateway) is outcome
        assert await left(store) == 600
        assert not await entries(store)
        assert await settle(store, "a", tokens(100), note(60, 40)) is Outcome.SETTLED

    async def test_release_gives_everything_back_and_is_entered(self, store: ServiceStore) -> None:
        holds = (gcra(60), HOLD, slot(1))
        await reserve(store, "a", *holds)
        assert (
            await settle(store, "a", dict.fromkeys(Unit, 0), note(source=Source.RELEASED)) is Outcome.SETTLED
        )
        assert [await left(store, hold) for hold in holds] == [60, 1000, 1]
        entry = await only(store)
        assert (entry.note.usage, entry.note.source) == (Usage(), Source.RELEASED)

    @pytest.mark.parametrize(
        "hold",
        [
            gcra(1000, 400, unit=Unit.TOKENS),
            fixed(1000, 400),
            sliding(1000, 400),
            calendar(1000, 400, NOON),
        ],
        ids=["gcra", "fixed", "sliding", "calendar"],
    )
    async def test_how_its_counters_stand_comes_back(
        self, store: ServiceStore, clock: Clock, hold: Hold
    ) -> None:
        await reserve(store, "other", hold)
        await reserve(store, "a", slot(9), hold)
        done = await store.counters.settle("a", "edge", tokens(150))
        assert done.holds == (hold,)
        assert (done.levels[0].remaining, done.levels[0].held) == (450, 400)
        clock.pass_(2 * DAY)
        late = await store.counters.settle("other", "edge", tokens(150))
        assert late.outcome is Outcome.UNKNOWN

    @pytest.mark.parametrize(
        ("zone", "day", "looked"),
        [
            ("UTC", 1, True),
            ("UTC", 1, False),
            ("Europe/Helsinki", 26, True),  # a day of 25 hours follows
            ("Europe/Helsinki", 26, False),
        ],
    )
    async def test_a_day_later_they_stand_in_another_window(
        self, store: ServiceStore, clock: Clock, zone: str, day: int, looked: bool
    ) -> None:
        """The hold knows nothing of the end of the window after the next one."""

        def hold(amount: int = 0) -> Hold:
            return calendar(1000, amount, clock.now, zone=zone)

        clock.now = at(f"2024-10-{day:02} 23:59", zone)
        await reserve(store, "a", hold(400), ttl=2 * HOUR)
        clock.now = at(f"2024-10-{day + 2:02} 00:00:30", zone)
        done = await store.counters.settle("a", "edge", tokens(2000))
        assert done.outcome is Outcome.CORRECTED
        assert done.levels[0].remaining == 0
        clock.now = at(f"2024-10-{day + 2:02} 23:59:59.999", zone)
        if looked:
            assert await left(store, hold()) == 0
            assert isinstance(await reserve(store, "b", hold(1)), Exhausted)
        clock.pass_(1)
        assert await left(store, hold()) == 400, "what of the debt went beyond that day goes on into the next"
        assert isinstance(await reserve(store, "c", hold(400)), Reserved)
        clock.now = at(f"2024-10-{day + 4:02} 00:00", zone)
        assert await left(store, hold()) == 1000

    async def test_100_no_report_makes_a_counter_negative(self, store: ServiceStore) -> None:
        for n, used in enumerate((-1, -MAX_AMOUNT, 2**80, -(2**80))):
            await reserve(store, f"r{n}", fixed(1000, 400, key=f"k{n}"))
            assert await settle(store, f"r{n}", tokens(used)) is Outcome.SETTLED
            assert 0 <= await left(store, fixed(1000, key=f"k{n}")) <= 1000

    async def test_a_denial_charges_nothing_and_is_no_entry(self, store: ServiceStore) -> None:
        await reserve(store, "full", fixed(100, 100, key="tight"))
        refused = await reserve(store, "a", HOLD, fixed(100, 1, key="tight"), slot(1))
        assert isinstance(refused, Exhausted)
        assert (await left(store), await left(store, slot(1))) == (1000, 1)
        assert await store.counters.find("a", "edge") is Outcome.UNKNOWN
        assert await settle(store, "a", tokens(0), note()) is Outcome.UNKNOWN
        assert not await entries(store)

    async def test_104_two_hundred_at_once_hold_no_more_than_there_is(self, store: ServiceStore) -> None:
        answers = [await reserve(store, f"r{n}", HOLD) for n in range(200)]
        assert sum(isinstance(answer, Reserved) for answer in answers) == 2
        for n in range(200):
            await settle(store, f"r{n}", tokens(400), note(100, 300))
        assert await left(store) == 200
        assert len(await entries(store)) == 2

    async def test_95_the_gateways_own_retry_is_one_request(self, store: ServiceStore, clock: Clock) -> None:
        await reserve(store, "a", HOLD)
        clock.pass_(REPLAY - 1)
        again = await reserve(store, "a", HOLD)
        assert isinstance(again, Reserved)
        assert again.replay
        assert await settle(store, "a", tokens(100), note(60, 40)) is Outcome.SETTLED
        assert (await left(store), len(await entries(store))) == (900, 1)

    @pytest.mark.parametrize("ended", ["settled", "running"])
    async def test_106_an_id_that_comes_again_is_another_request(
        self, store: ServiceStore, clock: Clock, ended: str
    ) -> None:
        await reserve(store, "a", HOLD)
        if ended == "settled":
            await settle(store, "a", tokens(400), note(100, 300))
        clock.pass_(REPLAY)
        again = await reserve(store, "a", HOLD)
        assert isinstance(again, Reserved)
        assert not again.replay
        assert await left(store) == 200
        await settle(store, "a", tokens(400), note(100, 300))
        clock.pass_(TTL + GONE)
        found = await entries(store)
        assert sorted(each.note.source for each in found) == [Source.EXPIRED, Source.REPORTED]
        assert all(each.facts.request_id == "req-a" for each in found)

    async def test_106_an_id_that_was_forgotten_hides_no_request(
        self, store: ServiceStore, clock: Clock
    ) -> None:
        for _ in range(2):
            await reserve(store, "a", HOLD)
            await settle(store, "a", tokens(400), note(100, 300))
            await settled(store)
            clock.pass_(2 * SETTLED)
        assert (await left(store), len(await entries(store))) == (200, 2)


class TestExpiry:
    async def test_it_is_charged_and_entered_as_held(self, store: ServiceStore, clock: Clock) -> None:
        await reserve(store, "a", HOLD, slot(1))
        clock.pass_(TTL - 1)
        assert not await entries(store)
        clock.pass_(GONE)
        entry = await only(store)
        assert (entry.note.usage, entry.note.cost, entry.note.source) == (HELD, 4_000, Source.EXPIRED)
        assert (entry.at, entry.ended_at) == (NOON, NOON + TTL)
        assert (await left(store), await left(store, slot(1))) == (600, 1)
        assert len(await entries(store)) == 1, "once"

    @pytest.mark.parametrize("looked", [False, True], ids=["before-anybody-looked", "after-it-was-entered"])
    async def test_105_a_late_report_corrects_it_once(
        self, store: ServiceStore, clock: Clock, looked: bool
    ) -> None:
        await reserve(store, "a", HOLD)
        clock.pass_(TTL)
        if looked:
            clock.pass_(GONE)
            assert (await only(store)).note.source is Source.EXPIRED
        done = await store.counters.settle("a", "edge", tokens(100), note(60, 40, cost=5))
        assert (done.outcome, done.levels[0].remaining) == (Outcome.CORRECTED, 900)
        entry = await only(store)
        assert (entry.note.usage, entry.note.cost, entry.note.source) == (Usage(60, 40), 5, Source.CORRECTED)
        assert entry.ended_at == clock.now
        assert await settle(store, "a", tokens(0), note()) is Outcome.ALREADY
        assert (await left(store), await only(store)) == (900, entry)

    async def test_after_a_day_it_stays_as_it_is(self, store: ServiceStore, clock: Clock) -> None:
        for name in ("a", "b"):
            await reserve(store, name, HOLD)
        clock.pass_(TTL + LATE - 1)
        await settled(store)
        assert await settle(store, "a", tokens(100), note(60, 40)) is Outcome.CORRECTED
        clock.pass_(1)
        assert await settle(store, "b", tokens(100), note(60, 40)) is Outcome.UNKNOWN
        assert await left(store) == 500
        assert sorted(each.note.source for each in await entries(store)) == [Source.CORRECTED, Source.EXPIRED]

    async def test_a_refund_goes_only_to_the_window_that_was_charged(
        self, store: ServiceStore, clock: Clock
    ) -> None:
        hold = calendar(1000, 900, clock.now)
        await reserve(store, "a", hold)
        clock.pass_(DAY)
        today = calendar(1000, 900, clock.now)
        await reserve(store, "b", today)
        assert await settle(store, "a", tokens(0), note()) is Outcome.CORRECTED
        assert await left(store, today) == 100
        assert await settle(store, "b", tokens(500), note(500)) is Outcome.SETTLED
        assert await left(store, today) == 500

    async def test_what_went_beyond_the_hold_is_owed_today(self, store: ServiceStore, clock: Clock) -> None:
        await reserve(store, "a", calendar(1000, 900, clock.now))
        clock.pass_(DAY)
        assert await settle(store, "a", tokens(1300), note(1300)) is Outcome.CORRECTED
        assert await left(store, calendar(1000, 0, clock.now)) == 600

    async def test_107_a_clock_that_steps_back_opens_nothing_again(
        self, store: ServiceStore, clock: Clock
    ) -> None:
        await reserve(store, "a", HOLD, slot(1))
        clock.pass_(TTL + GONE)
        await settled(store)
        clock.pass_(-TTL)
        assert await store.counters.find("a", "edge") == Remembered(facts("req-a"), NOON, True)
        assert not await store.counters.extend("a", "edge", TTL, DAY)
        assert await settle(store, "a", tokens(100), note(60, 40)) is Outcome.CORRECTED
        assert (await only(store)).note.source is Source.CORRECTED

    async def test_107_what_the_report_was_thought_to_be_does_not_count(
        self, store: ServiceStore, clock: Clock
    ) -> None:
        """Whoever asked `find` may have been told otherwise a moment before."""
        await reserve(store, "a", HOLD)
        assert await settle(store, "a", tokens(100), note(60, 40, source=Source.CORRECTED)) is Outcome.SETTLED
        assert (await only(store)).note.source is Source.REPORTED


class TestExtend:
    async def test_the_slot_and_the_deadline_move_with_it(self, store: ServiceStore, clock: Clock) -> None:
        await reserve(store, "a", HOLD, slot(1), ttl=MINUTE)
        for _ in range(5):
            clock.pass_(MINUTE - 1)
            await kept_up(store)
            assert await store.counters.extend("a", "edge", MINUTE, TTL)
            assert isinstance(await reserve(store, "b", slot(1)), Exhausted)
        clock.pass_(MINUTE - 1)
        assert isinstance(await reserve(store, "b", slot(1)), Exhausted)
        clock.pass_(1)
        assert isinstance(await reserve(store, "b", slot(1)), Reserved)
        clock.pass_(GONE)
        entry = await only(store)
        assert (entry.note.source, entry.ended_at) == (Source.EXPIRED, NOON + 5 * (MINUTE - 1) + MINUTE)

    async def test_never_beyond_its_life(self, store: ServiceStore, clock: Clock) -> None:
        await reserve(store, "a", slot(1), ttl=MINUTE)
        clock.pass_(MINUTE - 1)
        assert await store.counters.extend("a", "edge", DAY, 2 * MINUTE)
        clock.pass_(MINUTE)
        assert await store.counters.extend("a", "edge", DAY, 2 * MINUTE), "it still runs"
        clock.pass_(1)
        assert not await store.counters.extend("a", "edge", DAY, 2 * MINUTE)
        assert isinstance(await reserve(store, "b", slot(1)), Reserved)

    async def test_never_less_than_it_had(self, store: ServiceStore, clock: Clock) -> None:
        await reserve(store, "a", slot(1), ttl=2 * MINUTE)
        assert await store.counters.extend("a", "edge", MINUTE, TTL)
        clock.pass_(2 * MINUTE - 1)
        assert isinstance(await reserve(store, "b", slot(1)), Exhausted)

    async def test_what_is_over_is_not_revived(self, store: ServiceStore, clock: Clock) -> None:
        for name in ("settled", "expired"):
            await reserve(store, name, HOLD, ttl=MINUTE)
        await settle(store, "settled")
        for name, gateway in (("settled", "edge"), ("never", "edge"), ("expired", "other")):
            assert not await store.counters.extend(name, gateway, MINUTE, TTL)
        clock.pass_(MINUTE)
        assert not await store.counters.extend("expired", "edge", MINUTE, TTL), "nobody has looked yet"

    async def test_107_a_slot_that_another_took_is_not_taken_back(
        self, store: ServiceStore, clock: Clock
    ) -> None:
        await reserve(store, "a", slot(1), ttl=MINUTE)
        clock.pass_(MINUTE)
        assert isinstance(await reserve(store, "b", slot(1)), Reserved)
        clock.pass_(-1)
        assert not await store.counters.extend("a", "edge", MINUTE, TTL)
        assert await settle(store, "a") in (Outcome.SETTLED, Outcome.CORRECTED)
        assert isinstance(await reserve(store, "c", slot(1)), Exhausted), "b still runs"

    async def test_what_it_holds_stays_held(self, store: ServiceStore, clock: Clock) -> None:
        await reserve(store, "a", HOLD, ttl=MINUTE)
        assert await store.counters.extend("a", "edge", TTL, TTL)
        clock.pass_(2 * MINUTE)
        await kept_up(store)
        answer = await store.counters.peek([fixed(1000, 0, window=10 * DAY)])
        assert isinstance(answer, Reserved)
        assert answer.levels[0] == Level(600, answer.levels[0].reset_ms, 400)


ONE_TABLE = pytest.mark.parametrize("url", ["memory", "sqlite", "redis"], indirect=True)
"""On a Cluster every shard has tables of its own, and each request here another shard."""


@ONE_TABLE
class TestFull:
    @pytest.fixture(autouse=True)
    def _little_room(self, store: ServiceStore) -> None:
        hold_few(store, most_open=2)

    async def test_without_a_slot_it_goes_on_charged_and_entered_at_once(
        self, store: ServiceStore, clock: Clock
    ) -> None:
        roomy = fixed(10_000, 400)
        for n in range(4):
            assert isinstance(await reserve(store, f"r{n}", roomy), Reserved)
        assert await left(store, roomy) == 10_000 - 4 * 400
        found = await entries(store)
        assert [(each.note.source, each.note.usage, each.ended_at) for each in found] == [
            (Source.EXPIRED, HELD, clock.now)
        ] * 2
        assert {each.facts.request_id for each in found} == {"req-r2", "req-r3"}
        assert await settle(store, "r3", tokens(0), note()) is Outcome.UNKNOWN
        assert await settle(store, "r0", tokens(0), note()) is Outcome.SETTLED
        assert isinstance(await reserve(store, "r3", roomy), Reserved)
        assert await settle(store, "r3", tokens(0), note()) is Outcome.SETTLED, "there is room again"
        assert len(await entries(store)) == 4


@ONE_TABLE
async def test_late_ones_beyond_their_table_stay_as_they_are(store: ServiceStore, clock: Clock) -> None:
    hold_few(store, most_late=1)
    for n in range(2):
        await reserve(store, f"r{n}", HOLD, ttl=MINUTE + n * 1000)
    clock.pass_(GONE)
    await settled(store)
    outcomes = [await settle(store, f"r{n}", tokens(0), note()) for n in range(2)]
    assert outcomes == [Outcome.UNKNOWN, Outcome.CORRECTED], "the one that expired first is forgotten first"
    assert sorted(each.note.source for each in await entries(store)) == [Source.CORRECTED, Source.EXPIRED]
    assert await left(store) == 600


async def test_what_cannot_be_read_keeps_nothing_else_from_the_ledger(
    store: ServiceStore, caplog: pytest.LogCaptureFixture
) -> None:
    await reserve(store, "a", HOLD, known=b"\xc1")
    await reserve(store, "b", HOLD)
    await settle(store, "a", tokens(1), note(1))
    await settle(store, "b", tokens(1), b"\xc1")
    found = {each.reservation: each for each in await entries(store)}
    assert found["a"].note.usage == Usage(1)
    assert (found["b"].note.usage, found["b"].note.source) == (HELD, Source.ESTIMATED)
    assert caplog.text.count("is incomplete") == 2


async def test_whoever_waits_finds_it_in_the_ledger(store: ServiceStore) -> None:
    await store.ledger.durable()
    await reserve(store, "a", HOLD)
    await settle(store, "a", tokens(100), note(60, 40))
    await store.ledger.durable()
    entry = store.ledger.entry("a")
    assert entry is not None
    assert entry == store.ledger.entry("req-a")
    assert store.ledger.entry("never") is None
