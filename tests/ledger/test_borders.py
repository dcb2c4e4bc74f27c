"""Where a range cuts days: rows and sums meet without a gap and without counting twice."""

import pytest

from authz.store.sqlite.database import Database, in_memory
from authz.store.sqlite.ledger import save
from authz.store.sqlite.ledger_reading import SqliteLedger
from authz.store.sqlite.ledger_upkeep import set_timezone, trim
from authz.usage import Usage
from tests.ledger.kit import at, entry

ZONE = "Europe/Helsinki"
DAY = 86_400_000

TIMES = [
    "2026-10-23 12:00",
    "2026-10-24 00:00",
    "2026-10-24 23:59",
    "2026-10-25 00:00",
    "2026-10-25 03:30",  # the first of two
    "2026-10-25 12:00",
    "2026-10-25 23:59",
    "2026-10-26 00:00",
    "2026-10-26 12:00",
]


@pytest.fixture
def database() -> Database:
    """One request at each of TIMES and one at the second 03:30, Helsinki time."""
    opened = in_memory()
    set_timezone(opened, ZONE)
    entries = [entry(number, at(time, ZONE)) for number, time in enumerate(TIMES)]
    with opened.change() as connection:
        save(connection, [*entries, entry("again", at("2026-10-25 03:30", ZONE, fold=1))])
    return opened


def requests(ledger: SqliteLedger, since: str, until: str) -> int:
    rows = ledger.usage(since=at(since, ZONE), until=at(until, ZONE), by=())
    return sum(row.requests for row in rows)


@pytest.mark.parametrize(
    ("since", "until", "count"),
    [
        pytest.param("2026-10-24", "2026-10-26", 7, id="whole days, one of 25 hours"),
        pytest.param("2026-10-25", "2026-10-26", 5, id="the day of 25 hours"),
        pytest.param("2026-10-25 01:00", "2026-10-25 13:00", 3, id="within one day"),
        pytest.param("2026-10-25 01:00", "2026-10-26", 4, id="a day without its beginning"),
        pytest.param("2026-10-25", "2026-10-25 12:00", 3, id="a day without its end; until is exclusive"),
        pytest.param("2026-10-24 12:00", "2026-10-25 12:00", 4, id="two parts, no whole day between"),
        pytest.param("2026-10-23 13:00", "2026-10-26 12:00", 8, id="two parts and whole days between"),
        pytest.param("2026-10-25 12:00", "2026-10-25 12:00", 0, id="nothing"),
        pytest.param("2026-10-26", "2026-10-25", 0, id="backwards"),
        pytest.param("2026-10-27", "2026-11-25", 0, id="later"),
    ],
)
def test_a_range(database: Database, since: str, until: str, count: int) -> None:
    assert requests(SqliteLedger(database), since, until) == count


@pytest.mark.parametrize(
    ("since", "until", "count"),
    [
        pytest.param("2026-10-24", "2026-10-26", 7, id="whole days agree with and without rows"),
        pytest.param("2026-10-24 12:00", "2026-10-26", 7, id="begins in a day without rows: all of it"),
        pytest.param("2026-10-25 03:30", "2026-10-26", 5, id="begins before the first row: all of the day"),
        pytest.param("2026-10-25 12:00", "2026-10-26", 2, id="begins with the first row: exactly"),
        pytest.param("2026-10-24", "2026-10-24 12:00", 2, id="ends in a day without rows: all of it"),
        pytest.param("2026-10-24", "2026-10-25 13:00", 7, id="ends in a day that lost rows: all of it"),
        pytest.param("2026-10-25 13:00", "2026-10-25 23:59", 0, id="within what is kept: exactly"),
    ],
)
def test_a_range_of_which_rows_are_gone(database: Database, since: str, until: str, count: int) -> None:
    kept_from = at("2026-10-25 12:00", ZONE)
    with database.change() as connection:
        assert not trim(connection, kept_from + 7 * DAY, 7 * DAY)
    ledger = SqliteLedger(database)
    assert ledger.kept_from == kept_from
    assert [each.at for each in ledger.entries()] == [at(time, ZONE) for time in reversed(TIMES[5:])]
    assert requests(ledger, since, until) == count


def test_another_time_zone_moves_the_days_and_loses_nothing(database: Database) -> None:
    ledger = SqliteLedger(database)

    def by_day() -> dict[str, int]:
        rows = ledger.usage(since=0, until=at("2027-01-01"), by=["day"])
        return {row.group["day"]: row.requests for row in rows}

    assert by_day() == {"2026-10-23": 1, "2026-10-24": 2, "2026-10-25": 5, "2026-10-26": 2}
    set_timezone(database, "America/New_York")
    assert by_day() == {"2026-10-23": 2, "2026-10-24": 4, "2026-10-25": 3, "2026-10-26": 1}
    set_timezone(database, "UTC")
    set_timezone(database, ZONE)
    assert by_day() == {"2026-10-23": 1, "2026-10-24": 2, "2026-10-25": 5, "2026-10-26": 2}


def test_another_time_zone_leaves_days_without_rows_as_they_were(database: Database) -> None:
    with database.change() as connection:
        trim(connection, at("2026-10-24 12:00", ZONE) + 7 * DAY, 7 * DAY)
    set_timezone(database, "America/New_York")
    ledger = SqliteLedger(database)
    rows = ledger.usage(since=0, until=at("2027-01-01"), by=["day"])
    assert sum(row.requests for row in rows) == len(TIMES) + 1
    assert {row.group["day"]: row.requests for row in rows}["2026-10-23"] == 1  # as Helsinki had it
    assert ledger.kept_from == at("2026-10-25", ZONE)  # the first day that was summed anew


def test_a_figure_beyond_every_reason_is_counted_all_the_same(database: Database) -> None:
    noon, huge = at("2026-11-01 12:00", ZONE), Usage(2**53 - 1, 2**60)
    with database.change() as connection:
        save(connection, [entry(f"huge-{n}", noon, usage=huge, cost=2**70) for n in range(1500)])
    ledger = SqliteLedger(database)
    (day,) = ledger.usage(since=at("2026-11-01", ZONE), until=at("2026-11-02", ZONE), by=["user"])
    assert (day.requests, day.cost, day.input_tokens) == (1500, 2**63 - 1, 2**63 - 1)
    (part,) = ledger.usage(since=noon, until=noon + 1, by=["user"])
    assert (part.requests, part.cost, part.input_tokens) == (1500, *[1500 * (2**53 - 1)] * 2)
